"""Durable writing and the writer's lock: the only places where embedonce touches a live path."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from .errors import LockedError, OutputError
from .names import display

_WRITE_LIMIT = 1 << 30  # Linux writes at most 2 GiB a call


def write_atomically(path: Path | str, data: bytes | memoryview) -> None:
    """Write a file so that every reader, and every crash, finds the old content or the new, whole.

    The data go to an exclusive temporary file beside ``path``, are synced, renamed over ``path``, and the
    folder is synced. The function returns only then.

    Parameters
    ----------
    path : path-like
        The file to write. Its folder must exist.
    data : bytes-like
        The whole content.

    Raises
    ------
    OutputError
        When the file cannot be written. ``path`` is as it was, and no temporary file stays.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        descriptor = os.open(temporary, flags, 0o666)
        try:
            try:
                view = memoryview(data)
                written = 0
                while written < len(view):
                    written += os.write(descriptor, view[written : written + _WRITE_LIMIT])
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise OutputError(
            error.errno, f"cannot write {display(str(path))}: {error.strerror}; choose another place or free some space"
        ) from error


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the platform can (Windows cannot open folders)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path | str, what: str) -> Path:
    """Create a folder for output, with its parents.

    Parameters
    ----------
    folder : path-like
    what : str
        What it is for, as the error names it.

    Raises
    ------
    OutputError
        When it cannot be created or written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            error.errno, f"cannot create the folder of {what}, {display(str(folder))}: {error.strerror}"
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(13, f"the folder of {what}, {display(str(folder))}, cannot be written: choose another")
    return folder


@contextlib.contextmanager
def writer_lock(cache: Path) -> Iterator[None]:
    """Hold the one writer's lock of a cache; the lock dies with its process.

    Parameters
    ----------
    cache : Path
        The cache's path. The lock is the hidden file ``.NAME.lock`` beside it; it stays there unlocked,
        since removing a lock file lets two processes lock two files of one name.

    Raises
    ------
    LockedError
        At once, when another process holds the lock; the message names it.
    OutputError
        When the lock file cannot be created.
    """
    import filelock

    lock_path = cache.with_name(f".{cache.name}.lock")
    holder_path = cache.with_name(f".{cache.name}.writer.json")
    lock = filelock.FileLock(str(lock_path))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise LockedError(f"{display(str(cache))} is being written by {_holder(holder_path)}; wait for it") from error
    except OSError as error:
        raise OutputError(
            error.errno, f"cannot write beside {display(str(cache))}: {error.strerror}; choose another place"
        ) from error
    try:
        holder = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        holder_path.write_text(json.dumps(holder), encoding="ascii")
        yield
    finally:
        holder_path.unlink(missing_ok=True)
        lock.release()


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text(encoding="ascii"))
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):  # it may be written at this very moment
        return "another process"
