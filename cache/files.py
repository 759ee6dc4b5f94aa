"""Durable changes to files, by system calls in an order that tests can cut off after any of them."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import shutil
import stat
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..errors import OutputError
from .names import display

try:
    import fcntl
except ImportError:  # Windows
    _LOCKS = False
else:
    _LOCKS = True

_WRITE_LIMIT = 1 << 30  # Linux writes at most 2 GiB a call
_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{32}\.tmp", re.DOTALL)


@contextlib.contextmanager
def output_errors(what: str, advice: str = "") -> Iterator[None]:
    """Raise OSError as OutputError, whose message says what cannot be done, and why."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(error.errno, f"cannot {what}: {error.strerror}{advice}") from error


def open_regular(path: Path | str) -> io.FileIO:
    """Open a regular file for reading, or raise OSError: a pipe or a device could be waited for, or never end."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(path, flags)
    try:
        _require_regular(descriptor, path)
        return io.FileIO(descriptor, "r")
    except BaseException:
        os.close(descriptor)
        raise


def _require_regular(descriptor: int, path: Path | str) -> None:
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(path))


def read_regular(path: Path | str) -> bytes:
    """Read a regular file, or raise OSError, see `open_regular`."""
    with open_regular(path) as file:
        return file.readall()


def write_atomically(path: Path | str, *parts: bytes | memoryview | Iterable[bytes | memoryview]) -> None:
    """Write a file so that every reader, and every crash, finds the old content or the new, whole, and sync it.

    What killed processes left of it is removed.
    """
    path = Path(path)
    with output_errors(f"write {display(path)}", ". Choose another place or free some space"):
        remove_leftovers(path.parent, path.name)
        descriptor, temporary = _new_temporary(path.parent, path.name, folder=False)
        try:
            try:
                for part in parts:
                    for piece in (part,) if isinstance(part, (bytes, memoryview)) else part:
                        write_fully(descriptor, piece)
                _sync(descriptor)
                if _LOCKS:  # until it has its name, no other process may remove it
                    os.replace(temporary, path)
            finally:
                os.close(descriptor)
            if not _LOCKS:
                os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        if not _TEMPORARY.fullmatch(path.parent.name):  # out of a temporary folder it is moved first
            _sync_names(path.parent)


def append_line(path: Path | str, line: bytes) -> bytes:
    """Add a line to a file in one write, and sync it; return what was in the file before.

    Lines of several processes do not mix. A last line that a crash cut off stays as it is, on a line of its own.
    """
    path = Path(path)
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
    for name in ("O_NONBLOCK", "O_NOFOLLOW", "O_BINARY", "O_CLOEXEC"):  # a planted link or pipe is refused
        flags |= getattr(os, name, 0)
    with output_errors(f"write {display(path)}"):
        descriptor = os.open(path, flags, 0o666)
        with os.fdopen(descriptor, "rb", closefd=True) as file:
            _require_regular(descriptor, path)
            _wait_for_lock(descriptor)
            content = file.read()
            cut_off = b"\n" if content and not content.endswith(b"\n") else b""
            write_fully(descriptor, cut_off + line + b"\n")
            _sync(descriptor)
    return content


def _wait_for_lock(descriptor: int) -> None:
    """Lock a file that others write for a moment; go on without the lock if it cannot be had within a second."""
    end = time.monotonic() + 1
    while _LOCKS and time.monotonic() < end:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.01)
        except OSError:  # a file system without locks
            return
        else:
            return


@contextlib.contextmanager
def temporary_folder(parent: Path | str | None = None, name: str = "embedonce") -> Iterator[Path]:
    """Make a folder that is removed at the end, or by the next such call for the same name after a kill.

    By default it is in the temporary folder of the system.
    """
    advice = ". Choose another place or free some space" if parent else ". Set TMPDIR to another folder"
    with output_errors(f"create a temporary folder{f' in {display(parent)}' if parent else ''}", advice):
        parent = Path(tempfile.gettempdir() if parent is None else parent)
        remove_leftovers(parent, name)
        descriptor, temporary = _new_temporary(parent, name, folder=True)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if descriptor >= 0:
            os.close(descriptor)


def _new_temporary(parent: Path, name: str, folder: bool) -> tuple[int, Path]:
    """Create a temporary file or folder for a name; return its descriptor, locked until it is closed, and its path."""
    while True:
        temporary = parent / f".{name}.{uuid.uuid4().hex}.tmp"
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
        if folder:
            os.mkdir(temporary, 0o700)
            if not _LOCKS:
                return -1, temporary
            flags = os.O_RDONLY
        flags |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        try:
            descriptor = os.open(temporary, flags, 0o666)
        except FileNotFoundError:
            if folder and parent.is_dir():  # another process removed it before it was locked
                continue
            raise
        if _lock(descriptor, temporary):
            return descriptor, temporary
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> bool:
    """Lock what a process is writing; return whether it still has its name and no other process has the lock."""
    if not _LOCKS:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks, on which nothing is removed
        return True
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def write_fully(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of ``data``, in as many calls as the system wants."""
    view = memoryview(data).cast("B")
    written = 0
    while written < len(view):
        written += os.write(descriptor, view[written : written + _WRITE_LIMIT])


def _sync(descriptor: int) -> None:
    """Have the data on the medium, not only in the drive's own memory (which is all that macOS's fsync asks for)."""
    if hasattr(os, "uname") and os.uname().sysname == "Darwin":
        with contextlib.suppress(OSError):  # not every file system has it
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)  # type: ignore[attr-defined,unused-ignore]
            return
    os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where that can be: not on Windows, nor on every shared file system."""
    with output_errors(f"make what is in {display(folder)} durable", ". Check the disk"):
        _sync_names(folder)


def _sync_names(folder: Path) -> None:
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _sync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems cannot sync folders
            raise
    finally:
        os.close(descriptor)


def make_folder(folder: Path | str, what: str) -> Path:
    """Create a folder for output, with its parents, durably."""
    folder = Path(folder)
    with output_errors(f"create the folder of {what}, {display(folder)}", ". Choose another place"):
        _make_durably(folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(errno.EACCES, f"the folder of {what}, {display(folder)}, cannot be written. Choose another")
    return folder


def refuse_input_as_output(output: Path | str, *inputs: Any) -> None:
    """Raise OutputError if a file or folder to write is one that is read, also by another name; None is no input."""
    for path in inputs:
        try:
            same = os.path.samefile(output, path)
        except (OSError, TypeError, ValueError):  # one of them does not exist, or is not a path
            same = False
        if same:
            raise OutputError(
                errno.EINVAL, f"cannot write {display(output)}: it is an input of this run. Choose another name"
            )


def _make_durably(folder: Path) -> None:
    """Make a folder whose name survives a power cut: what is put into it is only as safe as that."""
    if folder.is_dir():
        # The process that made it may have been killed before its name was synced.
        with contextlib.suppress(PermissionError):
            _sync_names(folder.parent)
        return
    if folder.parent != folder:
        _make_durably(folder.parent)
    with contextlib.suppress(FileExistsError):  # another process made it first; the last line detects a file
        os.mkdir(folder)
    _sync_names(folder.parent)
    os.scandir(folder).close()


def remove_leftovers(folder: Path, name: str = "") -> None:
    """Remove temporary files and folders, of a name or all, that killed processes left; those in use are locked."""
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for entry in names:
        match = _TEMPORARY.fullmatch(entry) if entry.endswith(".tmp") else None
        if match and match[1] == (name or match[1]):
            with contextlib.suppress(OSError):
                _remove_unlocked(folder / entry)


def _remove_unlocked(path: Path) -> None:
    """Remove a file or folder of this user that no process has locked; never follow a link."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    if not _LOCKS:  # Windows removes no file that a process has open
        os.unlink(path)
        return
    descriptor = os.open(path, flags)
    try:
        status = os.fstat(descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(status, os.lstat(path)):
            return
        if stat.S_ISDIR(status.st_mode):
            shutil.rmtree(path, ignore_errors=True)
        elif stat.S_ISREG(status.st_mode):
            os.unlink(path)
    finally:
        os.close(descriptor)


def quarantine(path: Path) -> Path:
    """Rename a damaged file to ``NAME.damaged`` (or ``.damaged-2`` and so on), so that nothing is lost."""
    number = 1
    while (target := path.with_name(f"{path.name}.damaged" + (f"-{number}" if number > 1 else ""))).exists():
        number += 1
    with output_errors(f"rename damaged {display(path)}"):
        os.rename(path, target)
        _sync_names(path.parent)
    return target
