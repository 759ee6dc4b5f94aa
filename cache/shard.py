"""One cache file, opened: tables are checked before use, matrices are read on demand."""

from __future__ import annotations

import io
import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from ..errors import CacheError, DamagedCacheError, first_line
from . import format as fmt
from .files import open_regular
from .hdf5 import Hdf5File, StoredArray
from .metadata import MISSING, Metadata
from .names import counted, display
from .path_kinds import OTHER_HDF5, kind_of_path
from .table import FACT_BYTES, HASH_BYTES, Files, Rows, Table

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MARK_WITHIN = 1 << 16  # the attributes of the root group are at the front of the file
_GATHER_SHARE = 4  # if more than one of so many rows is needed, reading all of them is faster


class Shard:
    """One cache file, opened: everything but features and signatures has been read and checked.

    The open descriptor keeps its generation when the path is replaced or removed. Threads and forked processes may
    share one, because no read depends on the position of the file.
    """

    def __init__(self, path: Path, content: _Content, source: io.FileIO) -> None:
        self.path = path
        self.table = content.table
        self.shape = content.shape
        self.digest = content.digest
        self._content = content
        self._source = source

    @classmethod
    def open(cls, path: Path) -> Shard:
        """Open a cache file."""
        name = display(path)
        try:
            source = open_regular(path)
        except OSError as error:
            advice = ". Make it with: embedonce extract IMAGES CACHE" if isinstance(error, FileNotFoundError) else ""
            raise CacheError(f"cannot open the cache {name}: {error.strerror}{advice}") from error
        try:
            try:
                content = _read(source, os.fstat(source.fileno()).st_size)
            except _RefusedError as error:
                raise CacheError(f"{name}: {error}") from error
            except (CacheError, OSError) as error:
                if _is_marked(source):
                    raise DamagedCacheError(f"{name}: damaged: {first_line(error)}. {fmt.REMEDY}") from error
                kind = kind_of_path(path)
                if kind and kind != OTHER_HDF5:
                    raise CacheError(f"{name} is {kind}, not a feature cache. Give one that extract wrote") from error
                but = f" but {kind}" if kind else ""
                raise CacheError(f"{name} is not a readable feature cache{but}: {first_line(error)}") from error
        except BaseException:
            source.close()
            raise
        return cls(path, content, source)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def closed(self) -> bool:
        """True if features and signatures can no longer be read."""
        return self._source.closed

    def close(self) -> None:
        """Release the file; what was read stays usable."""
        self._source.close()

    def __del__(self) -> None:
        self.close()  # a cache whose signatures are not read stays open until then

    def has(self, matrix: fmt.Matrix) -> bool:
        """Return whether the file has a matrix."""
        return matrix in self._content.matrices

    def width(self, matrix: fmt.Matrix) -> int:
        """Return the number of columns of a matrix that the file has."""
        return self._content.matrices[matrix].shape[1]

    def read_into(
        self, out: Rows, places: npt.NDArray[np.intp] | None = None, matrix: fmt.Matrix = fmt.FEATURES
    ) -> None:
        """Read and check a matrix: row i into row ``places[i]``, by default i, of C-contiguous ``out``."""
        self._refuse(self._read_blocks(out, places, matrix), matrix)

    def damage(self) -> dict[str, npt.NDArray[np.intp]]:
        """Read everything once and return the damaged rows, in order, under the name of each matrix that has some."""
        damaged = {matrix.name: self._read_blocks(None, None, matrix) for matrix in self._content.matrices}
        return {name: np.array(rows, np.intp) for name, rows in damaged.items() if rows}

    def damaged_rows(self) -> npt.NDArray[np.intp]:
        """Read everything once and return the damaged rows, in order."""
        return rows_of(self.damage())

    def rows(self, rows: npt.ArrayLike, matrix: fmt.Matrix = fmt.FEATURES) -> Rows:
        """Read and check some rows of a matrix that the file has, given by number: shape (len(rows), d)."""
        stored = self._content.matrices[matrix]
        wanted = np.asarray(rows, np.intp)
        first, last = (int(wanted.min()), int(wanted.max())) if len(wanted) else (0, -1)
        if last - first < _GATHER_SHARE * len(wanted) < len(self):  # near each other: one run that holds them all
            return self._run(first, last + 1, matrix, wanted)
        if len(wanted) * _GATHER_SHARE > len(self):
            values = np.empty(stored.shape, matrix.dtype)
            self._refuse(np.intersect1d(self._read_blocks(values, None, matrix), wanted).tolist(), matrix)
            return values[wanted]
        values = np.empty((len(wanted), stored.shape[1]), matrix.dtype)
        size = stored.shape[1] * values.itemsize
        for place, row in enumerate(wanted.tolist()):
            part = memoryview(values[place]).cast("B")
            if not _fill(self._source, part, stored.offset + row * size) or xxhash.xxh3_64_intdigest(part) != int(
                stored.row_checksums[row]
            ):
                self._refuse([row], matrix)
        return values

    def _run(self, first: int, end: int, matrix: fmt.Matrix, wanted: npt.NDArray[np.intp]) -> Rows:
        """Read a run of rows in one go; check and return those that are wanted."""
        stored = self._content.matrices[matrix]
        run = np.empty((end - first, stored.shape[1]), matrix.dtype)
        if not _fill(self._source, run.reshape(-1).view(np.uint8).data, stored.offset + first * run.strides[0]):
            self._refuse(wanted.tolist(), matrix)
        values = run if len(wanted) == len(run) and (np.diff(wanted) == 1).all() else run[wanted - first]
        damaged = fmt.row_checksums(values) != stored.row_checksums[wanted]
        self._refuse(np.unique(wanted[damaged]).tolist(), matrix)
        return values

    def _refuse(self, damaged: list[int], matrix: fmt.Matrix) -> None:
        if damaged:
            names = ", ".join(display(self.table.files.paths[row]) for row in damaged[:3])
            more = ", …" if len(damaged) > 3 else ""
            raise DamagedCacheError(
                f"{display(self.path)}: the stored {matrix.name} of {counted(len(damaged), 'image(s)')} are damaged "
                f"({names}{more}). {fmt.REMEDY}"
            )

    def _read_blocks(self, out: Rows | None, places: npt.NDArray[np.intp] | None, matrix: fmt.Matrix) -> list[int]:
        """Read and check block by block, into ``out`` unless it is None, and return the damaged rows."""
        stored, block_rows = self._content.matrices[matrix], self._content.block_rows
        width = stored.shape[1]
        if not len(self) or not width:
            return []
        straight = out is not None and places is None
        buffer = np.empty((0 if straight else min(block_rows, len(self)), width), matrix.dtype)
        damaged: list[int] = []
        for block, start in enumerate(range(0, len(self), block_rows)):
            end = min(start + block_rows, len(self))
            target = out[start:end] if out is not None and straight else buffer[: end - start]
            # Hashing each block while it is still in the processor's cache costs a tenth of the reading.
            data = target.reshape(-1).view(np.uint8).data
            # a block that the disk refuses to read is damaged as well
            if not _fill(self._source, data, stored.offset + start * width * buffer.itemsize):
                damaged += range(start, end)
            elif xxhash.xxh3_64_intdigest(data) != stored.block_checksums[block]:
                sums = fmt.row_checksums(target)
                damaged += (start + np.flatnonzero(sums != stored.row_checksums[start:end])).tolist()
            if out is not None and places is not None:
                out[places[start:end]] = target
        return damaged


def rows_of(damage: dict[str, npt.NDArray[np.intp]]) -> npt.NDArray[np.intp]:
    """Return the union of the rows that `Shard.damage` returns, in order."""
    return np.unique(np.concatenate([np.zeros(0, np.intp), *damage.values()]))


@dataclass(frozen=True)
class _Stored:
    """Location and checksums of a matrix in the file."""

    offset: int
    shape: tuple[int, int]
    row_checksums: npt.NDArray[np.uint64]
    block_checksums: list[int]


@dataclass(frozen=True)
class _Content:
    table: Table
    digest: str
    shape: tuple[int, int]
    block_rows: int
    matrices: dict[fmt.Matrix, _Stored]


def _is_marked(source: io.FileIO) -> bool:
    """Return whether a file that cannot be read was once a feature cache, from its first bytes."""
    try:
        source.seek(0)
        start = source.read(_MARK_WITHIN)
    except OSError:
        return False
    return start.startswith(_HDF5_SIGNATURE) and fmt.FORMAT.encode() in start


class _RefusedError(CacheError):
    """The file is intact but not supported by this reader, so it must not be repaired."""


def _read(source: io.FileIO, size: int) -> _Content:
    file = Hdf5File(source, size)
    attributes = file.attributes()
    if attributes.get("format") != fmt.FORMAT.encode():
        raise CacheError("it is not an embedonce feature cache")
    version = attributes.get("format_version")
    if not isinstance(version, int) or version not in fmt.MATRICES:
        versions = ", ".join(map(str, fmt.MATRICES))
        raise _RefusedError(f"its format version is {version!r}, this embedonce reads {versions}. Upgrade embedonce")
    stored = attributes.pop("digest", b"")
    arrays = file.arrays()
    matrices_of_file = fmt.matrices(version, arrays)
    wanted = fmt.datasets(version, matrices_of_file)
    wanted |= {name: kind for name, kind in fmt.OPTIONAL.items() if name in arrays}
    missing = sorted(set(wanted) - set(arrays))
    if missing:
        raise CacheError(f"it has no {', '.join(missing)}")
    for name, (dtype, dimensions) in wanted.items():
        array = arrays[name]
        if array.dtype != dtype or len(array.shape) != dimensions:
            raise CacheError(f"{name} must be {dtype} with {dimensions} dimension(s), got {array.dtype} {array.shape}")
    streamed = {matrix: arrays.pop(matrix.name) for matrix in matrices_of_file}
    shapes = {matrix: (array.shape[0], array.shape[1]) for matrix, array in streamed.items()}
    shape = shapes[fmt.FEATURES]
    datasets = {name: _load(source, array) for name, array in arrays.items()}
    digest = fmt.digest(attributes, datasets, shape)
    if digest.encode() != stored:
        raise CacheError("its checksum does not match")
    try:
        table = _table(attributes, datasets, fmt.SIGNATURES in streamed, version)
    except (ValueError, RecursionError) as error:
        raise _RefusedError(f"{first_line(error)}; a writer made a mistake, or it is a forgery") from error
    block_rows = attributes.get("block_rows")
    if not isinstance(block_rows, int) or block_rows < 1:
        raise _RefusedError("its block_rows must be a number above 0; a writer made a mistake, or it is a forgery")
    _check_lengths(table, datasets, shapes, block_rows, version)
    if version >= 3:
        _check_metadata(table.metadata, shape[0])
    matrices = {
        matrix: _Stored(
            array.offset, shapes[matrix], datasets[matrix.row_checksums], datasets[matrix.block_checksums].tolist()
        )
        for matrix, array in streamed.items()
    }
    return _Content(table, digest, shape, block_rows, matrices)


def _load(source: io.FileIO, array: StoredArray) -> npt.NDArray[Any]:
    values = np.empty(array.shape, array.dtype)
    if not _fill(source, values.reshape(-1).view(np.uint8).data, array.offset):
        raise CacheError("the file cannot be read to its end")
    return values


def _fill(source: io.FileIO, part: memoryview, offset: int) -> bool:
    """Fill a buffer from an offset of the file; False if the disk fails or the file ends."""
    filled = 0
    try:
        while filled < len(part):
            count = _read_at(source, part[filled:], offset + filled)
            if not count:
                return False
            filled += count
    except OSError:
        return False
    return True


if hasattr(os, "preadv"):

    def _read_at(source: io.FileIO, part: memoryview, offset: int) -> int:
        return os.preadv(source.fileno(), [part], offset)

else:  # Windows, which has no fork
    _position_lock = threading.Lock()

    def _read_at(source: io.FileIO, part: memoryview, offset: int) -> int:
        with _position_lock:
            source.seek(offset)
            return source.readinto(part)


def _check_lengths(
    table: Table,
    datasets: dict[str, npt.NDArray[Any]],
    shapes: dict[fmt.Matrix, tuple[int, int]],
    block_rows: int,
    version: int,
) -> None:
    n, m = shapes[fmt.FEATURES][0], len(table.rejects.paths)
    wanted = {"labels": n, "sizes": n, "mtimes": n, "rejects_sizes": m, "rejects_mtimes": m}
    wanted |= {name: n for name in fmt.OPTIONAL if name in datasets}
    for matrix in shapes:
        wanted |= {matrix.row_checksums: n, matrix.block_checksums: -(-n // block_rows)}
    fit = all(shape == (n, matrix.width or shape[1]) for matrix, shape in shapes.items())
    fit = fit and (not n or shapes[fmt.FEATURES][1] > 0)
    fit = fit and all(len(datasets[name]) == length for name, length in wanted.items())
    fit = fit and datasets["hashes"].shape == (n, HASH_BYTES) and datasets["rejects_hashes"].shape == (m, HASH_BYTES)
    fit = fit and ("facts" not in datasets or datasets["facts"].shape == (n, FACT_BYTES))
    if not fit or len(table.files.paths) != n or len(table.reasons) != m:
        raise _RefusedError("its tables differ in length; a writer made a mistake, or it is a forgery")
    if n and not (table.labels.min() >= (0 if version < 3 else -1) and table.labels.max() < len(table.class_names)):
        raise _RefusedError("a label has no class name; a writer made a mistake, or it is a forgery")


def _check_metadata(metadata: Metadata, rows: int) -> None:
    codes = metadata.codes
    fit = codes.shape == (rows, len(metadata.names)) and len(set(metadata.names)) == len(metadata.names)
    if not fit or (codes.size and not (codes.min() >= MISSING and codes.max() < len(metadata.values))):
        raise _RefusedError("its metadata do not fit its rows; a writer made a mistake, or it is a forgery")


def _table(
    attributes: dict[str, bytes | int], datasets: dict[str, npt.NDArray[Any]], has_signatures: bool, version: int
) -> Table:
    def strings(name: str) -> list[bytes]:
        return fmt.unpack_strings(datasets[f"{name}_bytes"], datasets[f"{name}_offsets"])

    def texts(name: str) -> list[str]:
        return [text.decode("utf-8", "surrogateescape") for text in strings(name)]

    def files(prefix: str) -> Files:
        columns = [datasets[f"{prefix}{name}"] for name in ("sizes", "mtimes", "hashes")]
        known = {name: datasets[name] for name in fmt.OPTIONAL if name in datasets and not prefix}
        return Files(strings(f"{prefix}paths"), *columns, **known)

    documents = {name: attributes.get(name) for name in ("fingerprint", "provenance")}
    parsed = {name: json.loads(text) for name, text in documents.items() if isinstance(text, bytes)}
    if not all(isinstance(parsed.get(name), dict) for name in documents):
        raise ValueError("its fingerprint and provenance must be JSON objects")
    return Table(
        fingerprint=parsed["fingerprint"],
        provenance=parsed["provenance"],
        class_names=strings("class_names"),
        files=files(""),
        labels=datasets["labels"],
        features=np.zeros((0, 0), np.float32),  # read on demand
        rejects=files("rejects_"),
        reasons=[reason.decode("utf-8", "replace") for reason in strings("rejects_reasons")],
        signatures=np.zeros((0, fmt.SIGNATURE_BYTES), np.uint8) if has_signatures else None,
        metadata=Metadata(texts("metadata_names"), texts("metadata_values"), datasets["metadata_codes"])
        if version >= 3
        else Metadata(),
    )
