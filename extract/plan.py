"""The plan of an extraction: the images of the folder, compared with the rows that earlier runs have stored."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..cache import Files, Matrix, Rows, Shard, Table
from .scan import ImageFile, Scan

_OPEN_FILES = 64


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image that an earlier run embedded or rejected.

    Attributes
    ----------
    image : ImageFile
        Path, size and time at that run.
    digest : bytes
        SHA-256 of its content.
    source, row : int
        Location of its features and its signature; ``row`` is -1 for a reject.
    reason : str
        Reason of a reject.
    """

    image: ImageFile
    digest: bytes
    source: int
    row: int
    reason: str = ""


class Inventory:
    """All rows of the published cache and of committed segments; later ones replace earlier ones.

    Features and signatures stay on the disk until they are needed.
    """

    def __init__(self) -> None:
        self.by_path: dict[bytes, StoredImage] = {}
        self.by_digest: dict[bytes, StoredImage] = {}
        self._sources: list[Shard | Path] = []
        self._unsigned: set[int] = set()  # the sources without signatures
        self._opened: OrderedDict[Path, Shard] = OrderedDict()

    def add_shard(self, shard: Shard, damaged: Iterable[int] = ()) -> int:
        """Add the rows of a published shard, without the damaged ones, and return its number as a source."""
        return self._add(shard, shard.table, set(damaged))

    def add_segment(self, path: Path, table: Table) -> int:
        """Add the rows of a committed segment; there may be thousands, so they are opened when needed."""
        return self._add(path, table, set())

    def gather(self, items: list[StoredImage], matrix: Matrix) -> Rows:
        """Return rows of a matrix: shape (len(items), d). Raises DamagedCacheError for rows damaged since the check."""
        sources = np.array([item.source for item in items], np.intp)
        indices = np.array([item.row for item in items], np.intp)
        rows = np.empty((len(items), self.width(items, matrix)), matrix.dtype)
        for source in np.unique(sources).tolist():
            mask = np.flatnonzero(sources == source)
            rows[mask] = self._open(source).rows(indices[mask], matrix)
        return rows

    def lazy_rows(self, items: list[StoredImage], matrix: Matrix) -> LazyRows:
        """Return rows of a matrix that are read when they are needed."""
        return LazyRows(self, items, matrix)

    def width(self, items: list[StoredImage], matrix: Matrix) -> int:
        """Return the number of columns of a matrix; 0 for no rows of features."""
        return matrix.width or (self._open(items[0].source).width(matrix) if items else 0)

    def has_signatures(self, items: list[StoredImage]) -> bool:
        """Return whether all of these embedded images have signatures."""
        return self._unsigned.isdisjoint(item.source for item in items)

    def _open(self, source: int) -> Shard:
        stored = self._sources[source]
        if isinstance(stored, Shard):
            return stored
        shard = self._opened.pop(stored, None) or Shard.open(stored)
        self._opened[stored] = shard
        if len(self._opened) > _OPEN_FILES:
            self._opened.popitem(last=False)[1].close()
        return shard

    def close(self) -> None:
        """Release all files."""
        for shard in (*self._opened.values(), *(source for source in self._sources if isinstance(source, Shard))):
            shard.close()
        self._opened.clear()

    def _add(self, stored: Shard | Path, table: Table, damaged: set[int]) -> int:
        source = len(self._sources)
        self._sources.append(stored)
        if table.signatures is None:
            self._unsigned.add(source)
        for row, (image, digest) in enumerate(_images(table.files)):
            if row not in damaged:
                self.by_path[image.path] = self.by_digest[digest] = StoredImage(image, digest, source, row)
        for (image, digest), reason in zip(_images(table.rejects), table.reasons, strict=True):
            self.by_path[image.path] = StoredImage(image, digest, source, -1, reason)
        return source


class LazyRows:
    """Rows of an inventory in a given order, a `RowSource`."""

    def __init__(self, inventory: Inventory, items: list[StoredImage], matrix: Matrix) -> None:
        self._inventory = inventory
        self._items = items
        self._matrix = matrix
        self.shape = (len(items), inventory.width(items, matrix))

    def read_rows(self, start: int, end: int) -> Rows:
        """Return the rows from ``start`` to ``end``."""
        return self._inventory.gather(self._items[start:end], self._matrix)


def _images(files: Files) -> Iterable[tuple[ImageFile, bytes]]:
    columns = zip(files.paths, files.sizes.tolist(), files.mtimes.tolist(), files.hashes, strict=True)
    return ((ImageFile(path, size, mtime), digest.tobytes()) for path, size, mtime, digest in columns)


@dataclass
class Plan:
    """Images by what has to be done.

    Attributes
    ----------
    unchanged : list of StoredImage
        Images with the same path, size and modification time as before.
    todo : list of ImageFile
        Images that are new, or differ in size or time.
    removed : set of bytes
        Stored paths that the folder no longer has.
    """

    unchanged: list[StoredImage] = field(default_factory=list)
    todo: list[ImageFile] = field(default_factory=list)
    removed: set[bytes] = field(default_factory=set)


def make_plan(scan: Scan, inventory: Inventory) -> Plan:
    """Compare a scan with the inventory."""
    plan = Plan()
    for image in scan.images:
        stored = inventory.by_path.get(image.path)
        if stored is not None and stored.image == image and any(stored.digest):  # zeros: it could not be read then
            plan.unchanged.append(stored)
        else:
            plan.todo.append(image)
    plan.removed = set(inventory.by_path) - {image.path for image in scan.images}
    return plan
