"""The shards of one generation of a cache, read as one table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CacheError, DamagedCacheError
from .format import FEATURES, REMEDY, SIGNATURES, Matrix
from .manifest import Manifest, read_manifest, shard_name
from .metadata import Metadata
from .names import display
from .shard import Shard
from .table import Files, Rows, Table

_ATTEMPTS = 1000


class StoredMatrix:
    """A matrix of several shards, with its rows in the order of the cache, read on demand: a `RowSource`."""

    def __init__(self, shards: Sequence[Shard], order: npt.NDArray[np.intp], matrix: Matrix) -> None:
        self._shards = shards
        self._order = order
        self._matrix = matrix
        width = max((shard.width(matrix) for shard in shards if shard.has(matrix)), default=matrix.width)
        self.shape = (len(order), width)

    def read_rows(self, start: int, end: int) -> Rows:
        """Read and check the rows from ``start`` to ``end``."""
        return self.take(slice(start, end))

    def take(self, rows: npt.NDArray[Any] | slice) -> Rows:
        """Read and check any rows of the cache."""
        wanted = self._order[rows]
        firsts = np.cumsum([0, *map(len, self._shards)])
        values = np.empty((len(wanted), self.shape[1]), self._matrix.dtype)
        shard_of_row = np.searchsorted(firsts, wanted, "right") - 1
        for number in np.unique(shard_of_row).tolist():
            mask = shard_of_row == number
            values[mask] = self._shards[number].rows(wanted[mask] - firsts[number], self._matrix)
        return values

    def read(self) -> Rows:
        """Read and check the whole matrix, shard by shard."""
        values = np.empty(self.shape, self._matrix.dtype)
        positions = np.empty(len(self._order), np.intp)  # row of the cache for every row of the shards
        positions[self._order] = np.arange(len(self._order))
        start = 0
        for shard in filter(len, self._shards):
            places = positions[start : start + len(shard)]
            start += len(shard)
            if (np.diff(places) == 1).all():  # one run of rows, which is read in place
                shard.read_into(values[places[0] : places[-1] + 1], matrix=self._matrix)
            else:
                shard.read_into(values, places, self._matrix)
        return values


def open_generation(path: Path) -> tuple[list[Shard], Manifest | None]:
    """Open the file, or all shards of the folder, of a cache; a cache of one file has no manifest."""
    if not os.path.isdir(path):
        return [Shard.open(path)], None
    manifest = read_manifest(path)
    for _ in range(_ATTEMPTS):
        try:
            return _open_shards(path, manifest), manifest
        except CacheError:
            # A writer may have replaced the generation in the meantime: it removes old shards after the new manifest.
            newest = read_manifest(path)
            if newest == manifest:
                raise
            manifest = newest
    raise CacheError(f"{display(path)} changes faster than it can be read. Try again")


def open_shard(folder: Path, digest: str, fingerprint: dict[str, Any]) -> Shard:
    """Open one shard of a folder and check that its digest and fingerprint are those of the manifest."""
    path = folder / shard_name(digest)
    if not path.is_file():
        raise DamagedCacheError(f"{display(path)} is missing. {REMEDY}")
    shard = Shard.open(path)
    try:
        if shard.digest != digest:
            raise DamagedCacheError(f"{display(path)} holds another shard than its name says. {REMEDY}")
        if shard.table.fingerprint != fingerprint:
            raise CacheError(f"{display(path)} has another fingerprint than its folder. Remove it from the folder")
    except BaseException:
        shard.close()
        raise
    return shard


def join_shards(shards: list[Shard], manifest: Manifest | None) -> Table:
    """Return the rows of all shards as one table, sorted by path, whose matrices are read on demand."""
    tables = [shard.table for shard in shards]
    about = manifest or tables[0]
    files, order = _merge([table.files for table in tables])
    rejects, reject_order = _merge([table.rejects for table in tables])
    reasons = [reason for table in tables for reason in table.reasons]
    with_signatures = all(shard.has(SIGNATURES) for shard in shards if len(shard))
    return Table(
        fingerprint=about.fingerprint,
        provenance=about.provenance,
        class_names=about.class_names,
        files=files,
        labels=_labels(shards, about.class_names)[order],
        features=StoredMatrix(shards, order, FEATURES),
        rejects=rejects,
        reasons=[reasons[place] for place in reject_order.tolist()],
        signatures=StoredMatrix(shards, order, SIGNATURES) if with_signatures else None,
        metadata=Metadata.join([table.metadata for table in tables], [len(table.files) for table in tables]).take(
            order
        ),
    )


def _open_shards(folder: Path, manifest: Manifest) -> list[Shard]:
    shards: list[Shard] = []
    try:
        for digest in manifest.shards:
            shards.append(open_shard(folder, digest, manifest.fingerprint))
        _check_consistency(folder, shards)
    except BaseException:
        for shard in shards:
            shard.close()
        raise
    return shards


def _check_consistency(folder: Path, shards: list[Shard]) -> None:
    if len({shard.shape[1] for shard in shards if len(shard)}) > 1:
        raise CacheError(f"{display(folder)}: its shards differ in the number of features; it is a forgery")
    paths = [path for shard in shards for files in (shard.table.files, shard.table.rejects) for path in files.paths]
    if len(set(paths)) < len(paths):
        raise CacheError(f"{display(folder)}: an image is in two of its shards; it is a forgery")


def _merge(parts: list[Files]) -> tuple[Files, npt.NDArray[np.intp]]:
    """Return the rows of all parts sorted by path, and their order; the rows of a single part stay as they are."""
    if len(parts) == 1:
        return parts[0], np.arange(len(parts[0]))
    files = Files.join(parts)
    order = np.array(sorted(range(len(files)), key=files.paths.__getitem__), np.intp)
    return files.take(order), order


def _labels(shards: list[Shard], class_names: list[bytes]) -> npt.NDArray[np.int32]:
    """Return the labels of the concatenated shards as indices into the classes of the whole cache."""
    index = {name: number for number, name in enumerate(class_names)}
    parts = [np.zeros(0, np.int32)]
    for shard in shards:
        names = shard.table.class_names
        used = [label for label in np.unique(shard.table.labels).tolist() if label >= 0]
        missing = [names[label] for label in used if names[label] not in index]
        if missing:
            raise CacheError(f"{display(shard.path)}: the class {display(missing[0])} is not one of its folder's")
        translation = np.array([*(index.get(name, -1) for name in names), -1], np.int32)  # -1 stays -1
        parts.append(translation[shard.table.labels])
    return np.concatenate(parts)
