"""A simulated disk that forgets: the possible states after a power cut in a recorded run.

The model, which is at least as strict as common journaling file systems:

- A file's data and size are durable after an ``fsync`` of that file. Before, after a cut, every page is
  independently the old one, the new one, or zeros where the file has grown, and the size is the old one,
  the new one or any between.
- A name (create, rename, unlink, mkdir, rmdir) is durable after an ``fsync`` of the folder that holds it and
  by nothing else: an ``fsync`` of the file does not make its name durable. Before, it survives or not,
  independently for different names and in order for one name.
- A rename is atomic: both of its names change, or neither.
- A folder is removed only when the removals of everything in it have survived.
- Nothing that was durable before and was not touched is harmed; a disk that loses or changes durable data
  is the business of the checksums.

The state depends only on the record, the moment and the seed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from durability_faults import Event, is_lock

Tree = dict[str, bytes | None]
"""Relative path to content; None for a folder."""


@dataclass(eq=False)
class _Node:
    """A file or a folder: what is on the platter and what the running system sees."""

    is_folder: bool
    durable: bytes = b""
    live: bytearray = field(default_factory=bytearray)
    durable_names: dict[str, _Node] = field(default_factory=dict)
    live_names: dict[str, _Node] = field(default_factory=dict)


@dataclass(eq=False)
class _Change:
    """A change of names that is not durable yet.

    Attributes
    ----------
    entries : list of (folder, name, node or None)
        What it sets.
    unsynced : list of _Node
        The folders whose fsync it waits for.
    emptied : _Node, optional
        The folder that it removes.
    """

    entries: list[tuple[_Node, str, _Node | None]]
    unsynced: list[_Node]
    emptied: _Node | None = None


class Disk:
    """A simulated disk, filled from a real folder, all of it durable.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self._root = _Node(is_folder=True)
        self._pending: list[_Change] = []
        self._handles: dict[int, _Node] = {}
        for path, content in sorted(tree(folder).items()):
            node = _Node(content is None, content or b"", bytearray(content or b""))
            parent, name = self._place(path)
            parent.durable_names[name] = parent.live_names[name] = node

    def _find(self, path: str) -> _Node:
        node = self._root
        for part in Path(path).parts:
            node = node.live_names[part]
        return node

    def _place(self, path: str) -> tuple[_Node, str]:
        return self._find(os.path.dirname(path)), os.path.basename(path)

    def apply(self, event: Event) -> None:
        """Do what a recorded event did."""
        if event.kind == "open":
            self._handles[event.handle] = self._find(event.path)
        elif event.kind == "create":
            self._handles[event.handle] = node = _Node(is_folder=False)
            self._set([(*self._place(event.path), node)])
        elif event.kind == "truncate":
            self._handles[event.handle] = node = self._find(event.path)
            node.live.clear()
        elif event.kind == "write":
            live = self._handles[event.handle].live
            live.extend(bytes(max(0, event.offset - len(live))))
            live[event.offset : event.offset + len(event.data)] = event.data
        elif event.kind == "fsync":
            self._sync(self._handles[event.handle])
        elif event.kind == "rename":
            node = self._find(event.path)
            self._set([(*self._place(event.path), None), (*self._place(event.target), node)])
        elif event.kind == "mkdir":
            self._set([(*self._place(event.path), _Node(is_folder=True))])
        elif event.kind in ("unlink", "rmdir"):
            node = self._find(event.path)
            self._set([(*self._place(event.path), None)], node if node.is_folder else None)

    def _set(self, entries: list[tuple[_Node, str, _Node | None]], emptied: _Node | None = None) -> None:
        for folder, name, node in entries:
            _enter(folder.live_names, name, node)
        folders = list(dict.fromkeys(folder for folder, _, _ in entries))
        self._pending.append(_Change(entries, folders, emptied))

    def _sync(self, node: _Node) -> None:
        if not node.is_folder:
            node.durable = bytes(node.live)
            return
        for change in self._pending:
            if node in change.unsynced:
                change.unsynced.remove(node)
                if not change.unsynced:
                    for folder, name, entry in change.entries:
                        _enter(folder.durable_names, name, entry)
        self._pending = [change for change in self._pending if change.unsynced]

    def live(self) -> Tree:
        """Return the files as the running system sees them."""
        return _collect(self._root, lambda folder: folder.live_names, lambda node: bytes(node.live))

    def cut(self, generator: np.random.Generator, page: int) -> Tree:
        """Cut the power and return what is left; the disk itself stays as it is.

        Parameters
        ----------
        generator : numpy Generator
            Decides what of the unsynced survives.
        page : int
            Bytes that the disk writes at once.
        """
        # Extremes first: to lose all and to keep all are as likely as any other state.
        names_kept, pages_kept = generator.choice([0.0, 0.25, 0.5, 0.75, 1.0], 2)
        entries: dict[_Node, dict[str, _Node]] = {}
        lost: set[tuple[_Node, str]] = set()

        def names(folder: _Node) -> dict[str, _Node]:
            return entries.setdefault(folder, dict(folder.durable_names))

        for change in self._pending:
            keys = {(folder, name) for folder, name, _ in change.entries}
            is_blocked = bool(keys & lost) or any(folder is change.emptied for folder, _ in lost)
            if generator.random() >= names_kept or is_blocked:
                lost |= keys
                continue
            for folder, name, node in change.entries:
                _enter(names(folder), name, node)
        return _collect(self._root, names, lambda node: _torn(node, generator, page, pages_kept))


def _enter(names: dict[str, _Node], name: str, node: _Node | None) -> None:
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


def _torn(node: _Node, generator: np.random.Generator, page: int, kept: float) -> bytes:
    """Return the data of a file after a cut."""
    old, new = node.durable, bytes(node.live)
    if old == new:
        return old
    low, high = sorted((len(old), len(new)))
    size = int(generator.choice([len(old), len(new), generator.integers(low, high + 1)]))
    content = bytearray(size)
    for start in range(0, size, page):
        end = min(start + page, size)
        source = new if generator.random() < kept else old
        if source is old and start >= len(old) and generator.random() < 0.5:
            continue  # newly allocated and never written: zeros
        if source is old and start >= len(old):
            source = new
        part = source[start:end]
        content[start : start + len(part)] = part
    return bytes(content)


def _collect(root: _Node, names_of, data_of) -> Tree:  # type: ignore[no-untyped-def]
    result: Tree = {}

    def walk(folder: _Node, prefix: str) -> None:
        for name, node in names_of(folder).items():  # in order of creation
            result[prefix + name] = None if node.is_folder else data_of(node)
            if node.is_folder:
                walk(node, f"{prefix}{name}/")

    walk(root, "")
    return result


def tree(folder: Path) -> Tree:
    """Return the content of a real folder, without locks."""
    found = (path for path in folder.rglob("*") if not is_lock(path.name))
    return {path.relative_to(folder).as_posix(): None if path.is_dir() else path.read_bytes() for path in found}


def write_tree(state: Tree, folder: Path) -> None:
    """Write a state out as a real folder, which must not exist."""
    folder.mkdir()
    for path, content in sorted(state.items()):
        if content is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(content)


def unrecorded(before: Path, events: list[Event], after: Path) -> list[str]:
    """Return the paths in which a record does not explain the real folder: a write was not recorded.

    Parameters
    ----------
    before : Path
        A copy of the folder as it was.
    events : list of Event
    after : Path
        The folder as it is.
    """
    disk = Disk(before)
    for event in events:
        disk.apply(event)
    replayed, real = disk.live(), tree(after)
    names = sorted(replayed.keys() | real.keys())
    missing = object()
    return [name for name in names if replayed.get(name, missing) != real.get(name, missing)]
