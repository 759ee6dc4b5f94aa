"""Work in progress: the committed segments of an unfinished extraction, beside the cache to be."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from .errors import CacheError, OutputError
from .files import make_folder, remove_leftovers
from .names import display
from .place import Place
from .shard import Shard
from .table import Table
from .writer import write_cache

_SEGMENT_NAME = re.compile(r"segment-([0-9]{8,})\.h5")


class PartialRun:
    """The unfinished work of an extraction.

    It is a folder of segments, each a complete cache file that was published atomically. A run that is cut
    off leaves them; the next one continues from them.

    Parameters
    ----------
    place : Place
        Of the cache that the run will publish.
    """

    def __init__(self, place: Place) -> None:
        self.folder = place.partial
        self._next = 1
        self._made = False

    def recover(self) -> tuple[list[Shard], list[str]]:
        """Open the segments of an earlier run, and remove what was never committed.

        Returns
        -------
        segments : list of Shard
            In the order in which they were committed.
        damaged : list of str
            Messages about segments that cannot be read; their images are embedded again.
        """
        segments: list[Shard] = []
        damaged: list[str] = []
        remove_leftovers(self.folder)
        for path in self._paths():
            self._next = _number(path) + 1
            try:
                segment = Shard.open(path)
                if len(segment.damaged_rows()):  # a segment is small; a damaged one must not be built upon
                    raise CacheError(f"{display(str(path))}: stored features are damaged")
                segment.close()
                segments.append(segment)
            except CacheError as error:
                damaged.append(str(error))
        return segments, damaged

    def commit(self, table: Table) -> Path:
        """Write a segment; when this returns, its rows survive a crash.

        Returns
        -------
        Path
            Of the segment.

        Raises
        ------
        OutputError
            When it cannot be written; earlier segments stay.
        """
        if not self._made:
            make_folder(self.folder, "unfinished work")
            self._made = True
        path = self.folder / f"segment-{self._next:08d}.h5"
        write_cache(table, path)
        self._next += 1
        return path

    def discard(self) -> None:
        """Remove the segments: their rows are published. What else stands in the folder is not ours and stays.

        Raises
        ------
        OutputError
            When they cannot be removed.
        """
        try:
            for path in self._paths():
                os.unlink(path)
        except OSError as error:
            raise OutputError(error.errno, f"cannot empty {display(str(self.folder))}: {error.strerror}") from error
        with contextlib.suppress(OSError):
            os.rmdir(self.folder)

    def _paths(self) -> list[Path]:
        try:
            names = os.listdir(self.folder)
        except OSError:
            return []
        return sorted((self.folder / name for name in names if _SEGMENT_NAME.fullmatch(name)), key=_number)


def _number(path: Path) -> int:
    match = _SEGMENT_NAME.fullmatch(path.name)
    assert match is not None
    return int(match.group(1))
