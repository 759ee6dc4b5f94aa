"""Work in progress: the committed segments of an unfinished extraction, beside the cache to be."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from .errors import CacheError, OutputError
from .files import make_folder, sync_folder
from .names import display
from .reader import FeatureCache
from .table import Table
from .writer import write_cache


class PartialRun:
    """The folder ``NAME.h5.partial`` of an extraction under way.

    It holds segments, each a complete cache file that was published atomically. A run that is cut off
    leaves them; the next one continues from them.

    Parameters
    ----------
    cache : Path
        The path of the cache that the run will publish.
    """

    def __init__(self, cache: Path) -> None:
        self.folder = cache.with_name(f"{cache.name}.partial")
        self._next = 1

    def recover(self) -> tuple[list[FeatureCache], list[str]]:
        """Open the segments of an earlier run.

        Returns
        -------
        segments : list of FeatureCache
            In the order in which they were committed.
        damaged : list of str
            Messages about segments that cannot be read; their images are embedded again.
        """
        if not self.folder.is_dir():
            return [], []
        with contextlib.suppress(OSError):  # what a killed process left uncommitted
            for leftover in self.folder.glob(".*.tmp"):
                leftover.unlink()
        segments: list[FeatureCache] = []
        damaged: list[str] = []
        for path in sorted(self.folder.glob("segment-*.h5")):
            self._next = int(path.stem.partition("-")[2]) + 1
            try:
                segment = FeatureCache.open(path)
                _ = segment.features  # a segment is small; a damaged one must not be built upon
                segments.append(segment)
            except CacheError as error:
                damaged.append(str(error))
        return segments, damaged

    def commit(self, table: Table) -> None:
        """Write a segment; when this returns, its rows survive a crash.

        Raises
        ------
        OutputError
            When it cannot be written; earlier segments stay.
        """
        if not self.folder.is_dir():
            make_folder(self.folder, "unfinished work")
            sync_folder(self.folder.parent)
        write_cache(table, self.folder / f"segment-{self._next:08d}.h5")
        self._next += 1

    def discard(self) -> None:
        """Remove the folder: its rows are published, or nobody wants them."""
        try:
            shutil.rmtree(self.folder)
        except FileNotFoundError:
            return
        except OSError as error:
            raise OutputError(error.errno, f"cannot remove {display(str(self.folder))}: {error.strerror}") from error
