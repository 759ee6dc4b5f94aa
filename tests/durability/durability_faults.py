"""Faults at the border to the operating system: record it, end it, make it fail, or make it lie.

The package promises that every durable change goes through the attributes of `os` named in `PATCHED`. Inside
``with Faults(root, fault)`` these are controlled for paths below ``root``, and every call that changes
something gets a number. That nothing goes past them is checked elsewhere, by replaying the record and
comparing the result with the real folder. `fsync` is recorded and not performed: the simulated disk
models its effect, and neither a killed process nor an error code needs a real one.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

PATCHED = ("open", "close", "write", "fsync", "replace", "rename", "unlink", "mkdir", "rmdir")
_CHANGES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

FREES = frozenset({"unlink", "rmdir"})
"""Calls that succeed on a full disk."""


class DiedError(BaseException):
    """The process is dead: nothing that it does from here on has an effect."""


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    Attributes
    ----------
    kind : str
        ``open``, ``create``, ``truncate``, ``write``, ``fsync``, ``rename``, ``unlink``, ``mkdir``, ``rmdir``;
        ``acknowledge`` when rows were promised to survive; ``publish`` when a whole generation was.
    path, target : str
        Relative to the root; ``.`` is the root itself.
    handle : int
        Of an opened file, never used twice.
    offset : int
    data : bytes
        What was written.
    numbers : tuple of int
        The acknowledged pictures.
    """

    kind: str
    path: str = ""
    target: str = ""
    handle: int = -1
    offset: int = 0
    data: bytes = b""
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Fault:
    """A fault at one call.

    Attributes
    ----------
    kind : {"none", "kill", "die", "error"}
        ``kill`` is a real SIGKILL; ``die`` ends the process in the caller's eyes only: every later change
        raises `DiedError` and does nothing; ``error`` raises OSError.
    call : int
        Number of the call that it happens to.
    moment : {"before", "middle", "after"}
        Of a kill; in the middle, half of a write is done.
    errno : int
        Of the error. A write that fails leaves half of its data, as a disk that fills up does.
    lasting : bool
        Later calls fail as well; on a full disk those that free space do not.
    short_writes : int
        Most bytes that one write takes; 0 for all.
    swallow : {"", "files", "folders"}
        Whose fsync does nothing, a negative control.
    early_rename : bool
        The rename comes before the fsync of the file, a negative control.
    """

    kind: Literal["none", "kill", "die", "error"] = "none"
    call: int = -1
    moment: Literal["before", "middle", "after"] = "before"
    errno: int = 0
    lasting: bool = False
    short_writes: int = 0
    swallow: Literal["", "files", "folders"] = ""
    early_rename: bool = False


def is_lock(name: str) -> bool:
    """Return whether a file is a writer's lock, which has no content."""
    return name.startswith(".") and name.endswith(".lock")


@dataclass
class _Opened:
    path: str
    handle: int


@dataclass
class Faults:
    """Control over the calls below a folder, as a context manager.

    Attributes
    ----------
    root : Path
    fault : Fault
    events : list of Event
        What took effect.
    calls : list of str
        Kind and path of every numbered call, with or without effect.
    """

    root: Path
    fault: Fault = field(default_factory=Fault)
    events: list[Event] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.root = Path(os.path.realpath(self.root))
        self._real: dict[str, Callable[..., Any]] = {}
        self._opened: dict[int, _Opened] = {}
        self._handles = 0
        self._dead = False
        self._delayed: list[Event] = []

    def __enter__(self) -> Faults:
        self._real = {name: getattr(os, name) for name in PATCHED}
        for name in PATCHED:
            setattr(os, name, getattr(self, f"_{name}"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name, function in self._real.items():
            setattr(os, name, function)

    def acknowledge(self, numbers: list[int]) -> None:
        """Record that the rows of these pictures are acknowledged."""
        self.events.append(Event("acknowledge", numbers=tuple(numbers)))

    def publish(self) -> None:
        """Record that a whole generation is acknowledged."""
        self.events.append(Event("publish"))

    def _below(self, path: Any) -> str | None:
        """Return a path relative to the root, or None for one that is not under control."""
        if isinstance(path, int):
            return None
        text = os.path.abspath(os.fsdecode(path))
        relative = os.path.relpath(text, self.root)
        if relative.split(os.sep, 1)[0] == ".." or is_lock(os.path.basename(text)):
            return None
        return relative

    def _change(self, event: Event, act: Callable[[], Any]) -> Any:
        """Number a call, let the fault have its way, do it and record it."""
        if self._dead:
            raise DiedError
        number, fault = len(self.calls), self.fault
        self.calls.append(f"{event.kind} {event.path}")
        if number == fault.call and fault.kind in ("kill", "die"):
            if fault.moment == "middle" and event.kind == "write":
                self._write_half(event)
            if fault.moment != "after":
                self._die()
        if fault.kind == "error" and self._fails(number, event):
            if event.kind == "write":
                self._write_half(event)
            raise OSError(fault.errno, os.strerror(fault.errno), event.path)
        result = act()
        self.events.append(event)
        if number == fault.call and fault.kind in ("kill", "die"):
            self._die()
        return result

    def _fails(self, number: int, event: Event) -> bool:
        fault = self.fault
        if number == fault.call:
            return True
        spared = fault.errno == errno.ENOSPC and event.kind in FREES
        return fault.lasting and number > fault.call and not spared

    def _write_half(self, event: Event) -> None:
        half = event.data[: len(event.data) // 2]
        descriptor = next(number for number, opened in self._opened.items() if opened.handle == event.handle)
        self._real["write"](descriptor, half)
        self.events.append(Event("write", event.path, handle=event.handle, offset=event.offset, data=half))

    def _die(self) -> None:
        if self.fault.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        self._dead = True
        raise DiedError

    def _open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        relative = self._below(path) if dir_fd is None else None
        if relative is None:
            descriptor: int = self._real["open"](path, flags, mode, dir_fd=dir_fd)
            self._opened.pop(descriptor, None)
            return descriptor
        self._handles += 1
        handle = self._handles

        def act() -> int:
            number: int = self._real["open"](path, flags, mode)
            self._opened[number] = _Opened(relative, handle)
            return number

        existed = os.path.lexists(path)
        if flags & os.O_CREAT and not existed:
            return int(self._change(Event("create", relative, handle=handle), act))
        if flags & os.O_TRUNC:
            return int(self._change(Event("truncate", relative, handle=handle), act))
        if self._dead and flags & _CHANGES:
            raise DiedError
        descriptor = act()
        self.events.append(Event("open", relative, handle=handle))
        return descriptor

    def _close(self, descriptor: int) -> None:
        self._opened.pop(descriptor, None)
        self._real["close"](descriptor)

    def _write(self, descriptor: int, data: Any) -> int:
        opened = self._opened.get(descriptor)
        if opened is None:
            return int(self._real["write"](descriptor, data))
        content = bytes(data)
        if self.fault.short_writes:
            content = content[: self.fault.short_writes]
        offset = os.lseek(descriptor, 0, os.SEEK_CUR)
        event = Event("write", opened.path, handle=opened.handle, offset=offset, data=content)
        written = int(self._change(event, lambda: self._real["write"](descriptor, content)))
        assert written == len(content), "the disk under the tests is full"
        return written

    def _fsync(self, descriptor: int) -> None:
        opened = self._opened.get(descriptor)
        if opened is None:
            return
        is_folder = (self.root / opened.path).is_dir()
        event = Event("fsync", opened.path, handle=opened.handle)
        if self.fault.swallow == ("folders" if is_folder else "files"):
            return
        if self.fault.early_rename and not is_folder:
            self._delayed.append(event)
            return
        self._change(event, lambda: None)

    def _replace(self, source: Any, target: Any, **options: Any) -> None:
        self._rename_by("replace", source, target, **options)

    def _rename(self, source: Any, target: Any, **options: Any) -> None:
        self._rename_by("rename", source, target, **options)

    def _rename_by(self, name: str, source: Any, target: Any, **options: Any) -> None:
        start, end = self._below(source), self._below(target)
        if options or start is None or end is None:
            self._real[name](source, target, **options)
            return
        self._change(Event("rename", start, end), lambda: self._real[name](source, target))
        for event in (late for late in self._delayed if late.path == start):
            self._change(event, lambda: None)
        self._delayed = [late for late in self._delayed if late.path != start]

    def _unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        self._remove_by("unlink", path, dir_fd)

    def _rmdir(self, path: Any, *, dir_fd: int | None = None) -> None:
        self._remove_by("rmdir", path, dir_fd)

    def _remove_by(self, name: str, path: Any, dir_fd: int | None) -> None:
        relative = self._below(path) if dir_fd is None else None
        if relative is None or not os.path.lexists(path):
            self._real[name](path, dir_fd=dir_fd)
        else:
            self._change(Event(name, relative), lambda: self._real[name](path))

    def _mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        relative = self._below(path) if dir_fd is None else None
        if relative is None or os.path.lexists(path):  # fails by itself and changes nothing
            self._real["mkdir"](path, mode, dir_fd=dir_fd)
        else:
            self._change(Event("mkdir", relative), lambda: self._real["mkdir"](path, mode))
