"""Durable changes to files, by system calls in an order that tests can cut off after any of them."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import stat
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..errors import OutputError
from .names import display

_WRITE_LIMIT = 1 << 30  # Linux writes at most 2 GiB a call
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")


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
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(path))
        return io.FileIO(descriptor, "r")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path | str) -> bytes:
    """Read a regular file, or raise OSError, see `open_regular`."""
    with open_regular(path) as file:
        return file.readall()


def write_atomically(path: Path | str, *parts: bytes | memoryview | Iterable[bytes | memoryview]) -> None:
    """Write a file so that every reader, and every crash, finds the old content or the new, whole, and sync it."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    with output_errors(f"write {display(path)}", ". Choose another place or free some space"):
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        descriptor = os.open(temporary, flags, 0o666)
        try:
            try:
                for part in parts:
                    for piece in (part,) if isinstance(part, (bytes, memoryview)) else part:
                        write_fully(descriptor, piece)
                _sync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        _sync_names(path.parent)


def write_fully(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of ``data``, in as many calls as the system wants."""
    view = memoryview(data).cast("B")
    written = 0
    while written < len(view):
        written += os.write(descriptor, view[written : written + _WRITE_LIMIT])


def _sync(descriptor: int) -> None:
    """Have the data on the medium, not only in the drive's own memory (which is all that macOS's fsync asks for)."""
    if hasattr(os, "uname") and os.uname().sysname == "Darwin":
        import fcntl

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
    """Remove temporary files that a killed writer left; call it only under the writer's lock."""
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for entry in names:
        if _TEMPORARY.fullmatch(entry) and entry.startswith(f".{name}." if name else "."):
            with contextlib.suppress(OSError):
                os.unlink(folder / entry)


def quarantine(path: Path) -> Path:
    """Rename a damaged file to ``NAME.damaged`` (or ``.damaged-2`` and so on), so that nothing is lost."""
    number = 1
    while (target := path.with_name(f"{path.name}.damaged" + (f"-{number}" if number > 1 else ""))).exists():
        number += 1
    with output_errors(f"rename damaged {display(path)}"):
        os.rename(path, target)
        _sync_names(path.parent)
    return target
