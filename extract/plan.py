"""The plan of an extraction: the images of the folder, compared with the rows that earlier runs have stored."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..cache import FACT_BYTES, HASH_BYTES, Files, Matrix, Rows, Shard, Table
from .scan import ImageFile, Scan

_OPEN_FILES = 64


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image that an earlier run embedded or rejected, with its SHA-256 and the location of its features."""

    image: ImageFile
    digest: bytes
    source: int
    row: int  # -1 for a reject
    reason: str = ""  # of a reject
    oddities: int = 0  # bits of `ODDITIES`


class Inventory:
    """All rows of the published cache and of committed segments, read when needed; later ones replace earlier ones."""

    def __init__(self, versions: Mapping[str, str] | None = None) -> None:
        self._versions = versions  # of the packages that decode; rejects of others are tried again
        self.by_path: dict[bytes, StoredImage] = {}
        self.by_digest: dict[bytes, StoredImage] = {}
        self._sources: list[Shard | Path] = []
        self._unsigned: set[int] = set()  # the sources without signatures
        self._facts: list[npt.NDArray[np.uint8]] = []  # of the rows of each source
        self._opened: OrderedDict[Path, Shard] = OrderedDict()

    def add(self, stored: Shard | Path, table: Table, damaged: Iterable[int] = ()) -> int:
        """Add the rows of a shard or segment, without the damaged ones, and return its number as a source."""
        # there may be thousands of segments, so they are given as paths and opened when needed
        source = len(self._sources)
        self._sources.append(stored)
        self._facts.append(table.files.facts)
        if table.signatures is None:
            self._unsigned.add(source)
        skipped = set(damaged)
        oddities = table.files.oddities.tolist()
        for row, (image, digest) in enumerate(_images(table.files)):
            if row not in skipped:
                stored_image = StoredImage(image, digest, source, row, oddities=oddities[row])
                self.by_path[image.path] = self.by_digest[digest] = stored_image
        retry = self._versions is not None and table.provenance.get("versions") != self._versions
        for (image, digest), reason in zip(_images(table.rejects), table.reasons, strict=True):
            self.by_path[image.path] = StoredImage(image, bytes(HASH_BYTES) if retry else digest, source, -1, reason)
        return source

    def gather(self, items: list[StoredImage], matrix: Matrix) -> Rows:
        """Return rows of a matrix: shape (len(items), d). Raises DamagedCacheError for rows damaged since the check."""
        sources = np.array([item.source for item in items], np.intp)
        indices = np.array([item.row for item in items], np.intp)
        rows = np.empty((len(items), self.width(items, matrix)), matrix.dtype)
        for source in np.unique(sources).tolist():
            mask = np.flatnonzero(sources == source)
            rows[mask] = self._open(source).rows(indices[mask], matrix)
        return rows

    def facts(self, items: list[StoredImage]) -> npt.NDArray[np.uint8]:
        """Return what is known of the files of rows: uint8, shape (len(items), 35)."""
        rows = [self._facts[item.source][item.row] for item in items]
        return np.stack(rows) if rows else np.zeros((0, FACT_BYTES), np.uint8)

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


class Plan(NamedTuple):
    """Images with the path, size and time of a stored one; images to embed; stored paths that no longer exist."""

    unchanged: list[StoredImage]
    todo: list[ImageFile]
    removed: set[bytes]


def make_plan(scan: Scan, inventory: Inventory) -> Plan:
    """Compare a scan with the inventory."""
    unchanged: list[StoredImage] = []
    todo: list[ImageFile] = []
    for image in scan.images:
        stored = inventory.by_path.get(image.path)
        if stored is not None and stored.image == image and any(stored.digest):  # zeros: it could not be read then
            unchanged.append(stored)
        else:
            todo.append(image)
    return Plan(unchanged, todo, set(inventory.by_path) - {image.path for image in scan.images})
