"""Committed segments of an unfinished extraction, next to the future cache."""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from pathlib import Path

from ..errors import CacheError, OutputError
from .files import make_folder, output_errors, remove_leftovers
from .names import display
from .place import CacheLocation
from .shard import Shard
from .table import Table
from .writer import write_cache

_SEGMENT_NAME = re.compile(r"segment-([0-9]{8,})(-[0-9a-f]{32})?\.h5")  # with a run's token: of another process


class PartialRun:
    """The unfinished work of an extraction: a folder of segments, complete cache files, that the next run continues."""

    def __init__(self, place: CacheLocation) -> None:
        self.folder = place.partial
        self._next = 1
        self._exists = False
        self._token = uuid.uuid4().hex

    def recover(self) -> tuple[list[Shard], list[str]]:
        """Return the segments of an earlier run, in order, and messages about damaged ones; remove temporary files."""
        segments: list[Shard] = []
        damaged: list[str] = []
        remove_leftovers(self.folder)
        paths = self._paths()
        self._next = max(map(_number, paths), default=0) + 1
        for path in paths:
            if path.stem.count("-") > 1:  # its writer may still run, and must not replace it later
                path = self.claim(path)
            try:
                segment = Shard.open(path)
                if len(segment.damaged_rows()):  # a segment is small, so all of it is embedded again
                    raise CacheError(f"{display(path)}: stored features are damaged")
                segment.close()
                segments.append(segment)
            except CacheError as error:
                damaged.append(str(error))
        return segments, damaged

    def commit(self, table: Table) -> Path:
        """Write a segment and return its path; its rows then survive a crash."""
        self._make()
        path = self._numbered()
        write_cache(table, path)
        self._next += 1
        return path

    def reserve(self) -> Path:
        """Return a name of no other run, under which another process may write a segment, for `claim` to take over."""
        self._make()
        path = self.folder / f"segment-{self._next:08d}-{self._token}.h5"
        self._next += 1
        return path

    def claim(self, path: Path) -> Path:
        """Rename a segment of another process to a name that only this process writes, and return that."""
        claimed = self._numbered()
        try:
            os.rename(path, claimed)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise OutputError(error.errno, f"cannot rename {display(path)}: {error.strerror}") from error
        self._next += 1
        return claimed

    def temporary(self, name: str) -> Path:
        """Return the path of a file for this run only; the next run removes it when this one is killed."""
        self._make()
        return self.folder / f".{name}.{self._token}.tmp"

    def discard(self) -> None:
        """Remove the segments, whose rows are published; other files in the folder stay."""
        with output_errors(f"empty {display(self.folder)}"):
            for path in self._paths():
                os.unlink(path)
        with contextlib.suppress(OSError):
            os.rmdir(self.folder)

    def _make(self) -> None:
        if not self._exists:
            make_folder(self.folder, "unfinished work")
            self._exists = True

    def _numbered(self) -> Path:
        return self.folder / f"segment-{self._next:08d}.h5"

    def _paths(self) -> list[Path]:
        try:
            names = os.listdir(self.folder)
        except OSError:
            return []
        return sorted((self.folder / name for name in names if _SEGMENT_NAME.fullmatch(name)), key=_number)


def _number(path: Path) -> int:
    return int(path.stem.split("-")[1])
