"""Feature caches as their users see them: one file or a folder of shards, one whole generation at a time."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CacheError, DamagedCacheError
from .format import FEATURES, REMEDY, SIGNATURES, Matrix
from .manifest import Manifest, read_manifest, shard_name
from .names import display
from .shard import Shard
from .table import HASH_BYTES, Features, Files, Rows, Signatures

_ATTEMPTS = 1000  # a writer that publishes faster than anybody can read does not exist


class FeatureCache:
    """The features of a folder of images, as one file or a folder of shards holds them.

    Open one with :meth:`open`. Everything but features and signatures is read and checked at once; these are
    read, and checked block by block, when first asked for. A cache that is replaced while it is open keeps
    answering from the generation that was opened. Both forms give the same arrays, sorted by path.

    It is pickled as its path, so that other processes read the file and are not sent its content; unpickling opens
    the path again, and raises CacheError when another generation stands there by then.

    Attributes
    ----------
    path : Path
    class_names : list of str
        Sorted names of the class folders.
    labels : ndarray of int32, shape (n,)
        Index into ``class_names`` of every row.
    paths : list of str, length n
        Relative to the image folder, POSIX separators. Bytes that are not UTF-8 are surrogate escapes.
    rejects : list of (str, str)
        Path and reason of every image that could not be embedded.
    fingerprint : dict
        Everything that decides the feature values.
    provenance : dict
        What made the cache and decides nothing: versions, engine, image folder.
    files, reject_files : Files
        Sizes, modification times and content hashes of the rows and of the rejects.
    shards : list of Shard
        The files behind it; one for a cache of one file.
    """

    def __init__(self, path: Path, shards: list[Shard], manifest: Manifest | None = None) -> None:
        self.path = path
        self.shards = shards
        tables = [shard.table for shard in shards]
        about = manifest or tables[0]
        self._generation = manifest or shards[0]
        self.fingerprint = about.fingerprint
        self.provenance = about.provenance
        self.class_names = [os.fsdecode(name) for name in about.class_names]
        self.files, order = _merge([table.files for table in tables])
        self.labels = _labels(shards, about.class_names)[order]
        self.paths = [os.fsdecode(name) for name in self.files.paths]
        self.reject_files, reject_order = _merge([table.rejects for table in tables])
        reasons = [reason for table in tables for reason in table.reasons]
        self.rejects = [
            (os.fsdecode(name), reasons[place])
            for name, place in zip(self.reject_files.paths, reject_order.tolist(), strict=True)
        ]
        self._order = order  # which of the shards' rows, counted through, each row is
        self._read: dict[Matrix, Rows] = {}

    @classmethod
    def open(cls, path: Path | str) -> FeatureCache:
        """Open a cache.

        Parameters
        ----------
        path : path-like
            A file or a folder of shards that ``embedonce extract`` wrote.

        Returns
        -------
        FeatureCache

        Raises
        ------
        DamagedCacheError
            When the content does not match its checksums; the message names the file.
        CacheError
            When there is no feature cache, or one of a later version.
        """
        path = Path(path)
        if not os.path.isdir(path):
            return cls(path, [Shard.open(path)])
        manifest = read_manifest(path)
        for _ in range(_ATTEMPTS):
            try:
                shards = open_shards(path, manifest)
            except CacheError:
                # A writer may have replaced the generation under our hands; its shards go after its manifest.
                newest = read_manifest(path)
                if newest == manifest:
                    raise
                manifest = newest
            else:
                return cls(path, shards, manifest)
        raise CacheError(f"{display(str(path))} changes faster than it can be read; try again")

    @property
    def features(self) -> Features:
        """ndarray of float32, shape (n, d): the pooled features, checked while they are read.

        Raises
        ------
        DamagedCacheError
            When stored values are damaged; the message names the images.
        """
        return self._whole(FEATURES)

    @property
    def signatures(self) -> Signatures | None:
        """ndarray of uint8, shape (n, 784): thumbnails of luma, checked while they are read; None without them.

        They are 28 x 28 pixels for finding near duplicates. A cache that was begun by an embedonce that knew no
        signatures has none.

        Raises
        ------
        DamagedCacheError
            When stored values are damaged; the message names the images.
        """
        return self._whole(SIGNATURES) if self.has(SIGNATURES) else None

    @property
    def label_names(self) -> npt.NDArray[np.str_]:
        """ndarray of str, shape (n,): the class name of every row."""
        return np.array(self.class_names, np.str_)[self.labels]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features per row, known without reading the features."""
        return len(self.labels), self.width(FEATURES)

    def has(self, matrix: Matrix) -> bool:
        """Return whether every row has what a matrix holds."""
        return all(shard.has(matrix) for shard in self.shards if len(shard))

    def width(self, matrix: Matrix) -> int:
        """Return the number of columns of a matrix that the cache has."""
        return max((shard.width(matrix) for shard in self.shards if shard.has(matrix)), default=matrix.width)

    @property
    def digest(self) -> str:
        """Vouches for the whole generation: caches of equal digests hold the same. 32 hexadecimal digits."""
        return self._generation.digest

    @property
    def random_weights(self) -> str | None:
        """``random:SEED`` when the features come from random weights and mean little, otherwise None."""
        weights = str(self.provenance.get("weights", ""))
        return weights if weights.startswith("random:") else None

    @property
    def class_counts(self) -> dict[str, int]:
        """Number of embedded images per class name."""
        counts = np.bincount(self.labels, minlength=len(self.class_names)).tolist()
        return dict(zip(self.class_names, counts, strict=True))

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        n, d = self.shape
        return f"<FeatureCache {display(str(self.path))}: {n} images x {d} features, {len(self.class_names)} classes>"

    def __enter__(self) -> FeatureCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        # absolute: the other process may stand in another folder
        return _open_again, (os.path.abspath(self.path), self.digest)

    def close(self) -> None:
        """Release the files; what was read stays usable."""
        for shard in self.shards:
            shard.close()

    def read_rows(self, start: int, end: int, matrix: Matrix = FEATURES) -> Rows:
        """Read and check some rows, without keeping them: of the features, float32, shape (end - start, d).

        Raises
        ------
        DamagedCacheError
            When one of them is damaged.
        """
        if matrix in self._read:  # the files may be closed already
            return self._read[matrix][start:end]
        return self._gather(self._order[start:end], matrix)

    def take(self, rows: npt.NDArray[np.intp], matrix: Matrix = FEATURES) -> Rows:
        """Read and check any rows, without keeping them: of the features, float32, shape (len(rows), d).

        Raises
        ------
        DamagedCacheError
            When one of them is damaged.
        """
        return self._read[matrix][rows] if matrix in self._read else self._gather(self._order[rows], matrix)

    def _gather(self, wanted: npt.NDArray[np.intp], matrix: Matrix) -> Rows:
        """Read and check rows, which are given by number in the shards, one behind the other."""
        firsts = np.cumsum([0, *map(len, self.shards)])
        rows = np.empty((len(wanted), self.width(matrix)), matrix.dtype)
        numbers = np.searchsorted(firsts, wanted, "right") - 1
        for number in np.unique(numbers).tolist():
            mine = numbers == number
            rows[mine] = self.shards[number].rows(wanted[mine] - firsts[number], matrix)
        return rows

    def _whole(self, matrix: Matrix) -> Rows:
        """Return a matrix, read when it is first asked for; when nothing is left to be read, release the files."""
        if matrix not in self._read:
            if any(shard.closed for shard in self.shards):
                raise CacheError(f"{display(str(self.path))}: the cache was closed before its {matrix.name} were read")
            self._read[matrix] = self._read_matrix(matrix)
            if all(other in self._read for other in (FEATURES, SIGNATURES) if self.has(other)):
                self.close()
        return self._read[matrix]

    def _read_matrix(self, matrix: Matrix) -> Rows:
        rows = np.empty((len(self), self.width(matrix)), matrix.dtype)
        goes_to = np.empty(len(self), np.intp)  # for each row of the shards, one behind the other
        goes_to[self._order] = np.arange(len(self))
        start = 0
        for shard in filter(len, self.shards):
            places = goes_to[start : start + len(shard)]
            start += len(shard)
            if (np.diff(places) == 1).all():  # one run of rows, which needs no detour
                shard.read_into(rows[places[0] : places[-1] + 1], matrix=matrix)
            else:
                shard.read_into(rows, places, matrix)
        return rows


class StoredRows:
    """A matrix that a cache has, or some rows of it, to be read in runs of rows: a `RowSource`.

    Parameters
    ----------
    cache : FeatureCache
    matrix : Matrix
        One that the cache has.
    rows : ndarray of intp, shape (m,), optional
        Which rows; all of them unless given. Those that stand near each other are read in one go.
    """

    def __init__(self, cache: FeatureCache, matrix: Matrix, rows: npt.NDArray[np.intp] | None = None) -> None:
        self._cache = cache
        self._matrix = matrix
        self._rows = rows
        self.shape = (len(cache) if rows is None else len(rows), cache.width(matrix))

    def read_rows(self, start: int, end: int) -> Rows:
        """Return the rows from ``start`` to ``end``."""
        if self._rows is None:
            return self._cache.read_rows(start, end, self._matrix)
        return self._cache.take(self._rows[start:end], self._matrix)


def _open_again(path: str, digest: str) -> FeatureCache:
    """Open a cache that another process has opened, and make sure that both have the same before them."""
    cache = FeatureCache.open(path)
    if cache.digest != digest:
        cache.close()
        raise CacheError(
            f"{display(path)} has changed since it was opened, so that rows could be mixed up; open it again"
        )
    return cache


def open_shards(folder: Path, manifest: Manifest) -> list[Shard]:
    """Open all shards of a generation.

    Raises
    ------
    CacheError
        When one is missing, damaged, or not the one that the manifest names.
    """
    shards: list[Shard] = []
    try:
        for digest in manifest.shards:
            shards.append(open_shard(folder, digest, manifest.fingerprint))
        _require_unity(folder, shards)
    except BaseException:
        for shard in shards:
            shard.close()
        raise
    return shards


def open_shard(folder: Path, digest: str, fingerprint: dict[str, Any]) -> Shard:
    """Open one shard of a folder and make sure that it is the right one.

    Raises
    ------
    DamagedCacheError
        When it is missing or damaged.
    CacheError
        When it is no cache file, or has another fingerprint.
    """
    path = folder / shard_name(digest)
    if not path.is_file():
        raise DamagedCacheError(f"{display(str(path))} is missing; {REMEDY}")
    shard = Shard.open(path)
    try:
        if shard.digest != digest:
            raise DamagedCacheError(f"{display(str(path))} holds another shard than its name says; {REMEDY}")
        if shard.table.fingerprint != fingerprint:
            raise CacheError(f"{display(str(path))} has another fingerprint than its folder; take it out")
    except BaseException:
        shard.close()
        raise
    return shard


def _require_unity(folder: Path, shards: list[Shard]) -> None:
    if len({shard.shape[1] for shard in shards if len(shard)}) > 1:
        raise CacheError(f"{display(str(folder))}: its shards differ in the number of features; it is a forgery")
    paths = [path for shard in shards for files in (shard.table.files, shard.table.rejects) for path in files.paths]
    if len(set(paths)) < len(paths):
        raise CacheError(f"{display(str(folder))}: an image stands in two of its shards; it is a forgery")


def _merge(parts: list[Files]) -> tuple[Files, npt.NDArray[np.intp]]:
    """Return the rows of all parts sorted by path, and where each came from; those of one file stay as they are."""
    if len(parts) == 1:
        return parts[0], np.arange(len(parts[0]))
    paths = [path for part in parts for path in part.paths]
    order = np.array(sorted(range(len(paths)), key=paths.__getitem__), np.intp)
    merged = Files(
        [paths[place] for place in order],
        np.concatenate([np.zeros(0, np.int64), *(part.sizes for part in parts)])[order],
        np.concatenate([np.zeros(0, np.int64), *(part.mtimes for part in parts)])[order],
        np.concatenate([np.zeros((0, HASH_BYTES), np.uint8), *(part.hashes for part in parts)])[order],
    )
    return merged, order


def _labels(shards: list[Shard], class_names: list[bytes]) -> npt.NDArray[np.int32]:
    """Return the labels of all shards, one behind the other, as indices into the classes of the whole cache."""
    index = {name: number for number, name in enumerate(class_names)}
    parts = [np.zeros(0, np.int32)]
    for shard in shards:
        names = shard.table.class_names
        used = np.unique(shard.table.labels).tolist()
        missing = [names[label] for label in used if names[label] not in index]
        if missing:
            raise CacheError(f"{display(str(shard.path))}: the class {display(missing[0])} is not one of its folder's")
        translation = np.array([index.get(name, -1) for name in names] or [0], np.int32)
        parts.append(translation[shard.table.labels])
    return np.concatenate(parts)
