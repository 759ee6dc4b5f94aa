"""The writer's lock: one process at a time changes a cache; readers need none."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from ..errors import LockedError, OutputError
from .files import write_fully
from .names import display
from .place import CacheLocation

_PATIENCE = 0.5  # seconds for the holder to say who it is


@contextlib.contextmanager
def writer_lock(place: CacheLocation) -> Iterator[None]:
    """Hold the one writer's lock of a cache, which dies with its process; a second process fails with LockedError.

    The lock file is never removed: two processes could then lock two files of one name.
    """
    import filelock

    target = display(place.path)
    lock = filelock.FileLock(str(place.lock))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise LockedError(f"{target} is being written by {_holder(place.holder)}. Wait for it") from error
    except OSError as error:
        raise OutputError(
            error.errno, f"cannot write next to {target}: {error.strerror}. Choose another place or name"
        ) from error
    try:
        holder = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        _write_note(place.holder, json.dumps(holder).encode("ascii"))
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(place.holder)
        lock.release()


def _write_note(path: Path, data: bytes) -> None:
    """Write the note as a new file: it is useless after a crash, and a reader that gets half of it reads again."""
    with contextlib.suppress(OSError):  # on a full disk, writing the cache gives the better error
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # it may be a link, planted in a shared folder, to another file
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        try:
            write_fully(descriptor, data)
        finally:
            os.close(descriptor)


def _holder(path: Path) -> str:
    """Return the name of the holder, which writes its note a moment after it has the lock."""
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            holder = json.loads(path.read_text(encoding="ascii"))
            if holder["host"] != socket.gethostname() or _is_alive(holder["pid"]):
                return display(f"process {holder['pid']} on {holder['host']} since {holder['since']}")
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            pass
        if time.monotonic() > end:
            return "another process"
        time.sleep(0.01)


def _is_alive(pid: int) -> bool:
    if os.name == "nt":  # there, os.kill ends any process that it is asked about
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
