"""Write a table as one immutable file: the structure is built in memory, the matrices are streamed."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ..errors import CacheError, OutputError
from . import format as fmt
from .files import write_atomically
from .hdf5 import Hdf5File
from .manifest import shard_name
from .metadata import Metadata
from .sparse_buffer import SparseBuffer
from .table import FILE_COLUMNS, Files, Table

STREAM_ROWS = 64 * fmt.BLOCK_ROWS
"""Rows that are in memory at a time while a file is written: 21 MB of 1280 features, 3 MB of signatures."""


def write_cache(table: Table, path: Path | str) -> None:
    """Publish a table as a cache file, which replaces an older one in one step."""
    encoded = encode(table)
    write_atomically(path, *encoded.parts())


def write_shard(table: Table, folder: Path) -> str:
    """Write a table as a shard that no generation names yet, and return its digest. Raises as `write_cache`."""
    encoded = encode(table)
    write_atomically(folder / shard_name(encoded.digest), *encoded.parts())
    return encoded.digest


class Encoded:
    """The bytes of a cache file and its digest; equal tables give equal bytes."""

    def __init__(self, table: Table, file: SparseBuffer, streamed: list[fmt.Matrix], digest: str) -> None:
        self.digest = digest
        self._table = table
        self._file = file
        self._streamed = streamed  # in the order of the holes of the file

    def parts(self) -> Iterator[memoryview | Iterator[memoryview]]:
        """Yield the pieces of the file in order; the matrices are read on demand."""
        front, *others = self._file.pieces()
        yield front
        for matrix, piece in zip(self._streamed, others, strict=True):
            yield (block.reshape(-1).view(np.uint8).data for block in self._table.blocks(matrix, STREAM_ROWS))
            yield piece

    def __bytes__(self) -> bytes:
        pieces = ((part,) if isinstance(part, memoryview) else part for part in self.parts())
        return b"".join(piece for part in pieces for piece in part)


def encode(table: Table) -> Encoded:
    """Lay out the HDF5 file that holds ``table``. The matrices are read once for their checksums, later again."""
    _check(table)
    datasets = _datasets(table)
    attributes: dict[str, bytes | int] = {
        "format": fmt.FORMAT.encode(),
        "format_version": table.format_version,
        "block_rows": fmt.BLOCK_ROWS,
        "fingerprint": fmt.canonical_json(table.fingerprint),
        "provenance": fmt.canonical_json(table.provenance),
    }
    shapes = {matrix: (source.shape[0], source.shape[1]) for matrix, source in table.matrices.items()}
    digest = fmt.digest(attributes, datasets, shapes[fmt.FEATURES])
    attributes["digest"] = digest.encode()

    # HDF5 writes into memory: it cannot recover from a full disk (it crashes), os.write can. The low-level
    # calls are for the group's time stamp, which the high-level interface cannot switch off and which
    # would give equal tables different bytes, for the matrices' places, which are only reserved, and for speed:
    # a segment has many small arrays.
    buffer = SparseBuffer()
    creation = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    creation.set_obj_track_times(False)
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_libver_bounds(h5py.h5f.LIBVER_V18, h5py.h5f.LIBVER_V18)
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    access.set_fileobj_driver(h5py.h5fd.fileobj_driver, buffer)
    with h5py.File(h5py.h5f.create(b"cache", h5py.h5f.ACC_TRUNC, creation, access)) as file:
        for name, value in attributes.items():
            file.attrs[name] = np.bytes_(value) if isinstance(value, bytes) else np.int64(value)
        for name, array in datasets.items():
            _add(file, name, array)
        places = {matrix: _reserve(file, buffer, matrix, shape) for matrix, shape in shapes.items()}
    _require_readable(buffer, attributes, datasets, shapes)
    streamed = sorted((matrix for matrix, place in places.items() if place), key=places.__getitem__)
    return Encoded(table, buffer, streamed, digest)


def _add(file: h5py.File, name: str, array: npt.NDArray[Any]) -> None:
    """Write an array, as ``create_dataset`` does."""
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_obj_track_times(False)
    kind, space = h5py.h5t.py_create(array.dtype), h5py.h5s.create_simple(array.shape)
    dataset = h5py.h5d.create(file.id, name.encode(), kind, space, creation)
    dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, array)


def _reserve(file: h5py.File, buffer: SparseBuffer, matrix: fmt.Matrix, shape: tuple[int, int]) -> int:
    """Make room for a matrix and return its offset; 0 if it has no rows."""
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_layout(h5py.h5d.CONTIGUOUS)
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    creation.set_obj_track_times(False)
    kind, space = h5py.h5t.py_create(np.dtype(matrix.dtype)), h5py.h5s.create_simple(shape)
    dataset = h5py.h5d.create(file.id, matrix.name.encode(), kind, space, creation)
    offset: int | None = dataset.get_offset()
    if offset is None:  # there are no rows
        return 0
    buffer.reserve(offset, shape[0] * shape[1] * kind.get_size())
    return offset


def _require_readable(
    buffer: SparseBuffer,
    attributes: dict[str, bytes | int],
    datasets: dict[str, npt.NDArray[Any]],
    shapes: dict[fmt.Matrix, tuple[int, int]],
) -> None:
    """Check that embedonce can read the file that this version of HDF5 has made, before it is published."""
    try:
        file = Hdf5File(buffer, buffer.size)
        actual = {name: (array.dtype, array.shape) for name, array in file.arrays().items()}
        wanted = {name: (array.dtype.str, array.shape) for name, array in datasets.items()}
        wanted |= {matrix.name: (matrix.dtype, shape) for matrix, shape in shapes.items()}
        same = actual == wanted and file.attributes() == attributes
        reason = "its content differs"
    except CacheError as error:
        same, reason = False, str(error)
    if not same:
        raise OutputError(
            errno.EIO,
            f"h5py {h5py.__version__} makes a file that embedonce cannot read ({reason}). Install another version",
        )


def _check(table: Table) -> None:
    n, m = len(table.files), len(table.rejects)
    lengths = {"labels": len(table.labels)}
    for matrix, source in table.matrices.items():
        if len(source.shape) != 2 or (matrix.width and source.shape[1] != matrix.width):
            raise ValueError(f"Table.{matrix.name} must have shape (n, {matrix.width or 'd'}), got {source.shape}")
        lengths[matrix.name] = source.shape[0]
    lengths |= {name: len(getattr(table.files, name)) for name in FILE_COLUMNS}
    if table.metadata.names:
        lengths["metadata"] = len(table.metadata.codes)
    if n and not table.features.shape[1]:
        raise ValueError(f"Table.features must have at least one column for {n} files, got none")
    differing = {name: length for name, length in lengths.items() if length != n}
    if len(table.reasons) != m:
        differing["reasons"] = len(table.reasons)
    if differing:
        raise ValueError(f"Table holds {n} files and {m} rejects, but of other length are {differing}")


def _datasets(table: Table) -> dict[str, npt.NDArray[Any]]:
    none = np.zeros(0, np.uint64)
    arrays: dict[str, npt.NDArray[Any]] = {}
    for matrix in table.matrices:
        sums = [(fmt.row_checksums(part), fmt.block_checksums(part)) for part in table.blocks(matrix, STREAM_ROWS)]
        arrays[matrix.row_checksums] = np.concatenate([none, *(rows for rows, _ in sums)])
        arrays[matrix.block_checksums] = np.concatenate([none, *(blocks for _, blocks in sums)])
    arrays["labels"] = table.labels
    arrays["class_names_bytes"], arrays["class_names_offsets"] = fmt.pack_strings(table.class_names)
    arrays |= _file_datasets(table.files, "")
    for name in fmt.OPTIONAL:  # so that caches without them have the bytes that they had before
        if (values := getattr(table.files, name)).any():
            arrays[name] = values
    arrays |= _file_datasets(table.rejects, "rejects_")
    reasons = [reason.encode("utf-8", "backslashreplace") for reason in table.reasons]
    arrays["rejects_reasons_bytes"], arrays["rejects_reasons_offsets"] = fmt.pack_strings(reasons)
    if table.format_version >= 3:
        arrays |= _metadata_datasets(table.metadata, len(table.files))
    types = fmt.datasets(fmt.FORMAT_VERSION) | fmt.OPTIONAL
    return {name: np.ascontiguousarray(array, dtype=types[name][0]) for name, array in arrays.items()}


def _metadata_datasets(metadata: Metadata, rows: int) -> dict[str, npt.NDArray[Any]]:
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, texts in (("names", metadata.names), ("values", metadata.values)):
        encoded = [text.encode("utf-8", "surrogateescape") for text in texts]
        arrays[f"metadata_{name}_bytes"], arrays[f"metadata_{name}_offsets"] = fmt.pack_strings(encoded)
    return arrays | {"metadata_codes": metadata.codes if metadata.names else np.zeros((rows, 0), np.int32)}


def _file_datasets(files: Files, prefix: str) -> dict[str, npt.NDArray[Any]]:
    blob, offsets = fmt.pack_strings(files.paths)
    return {
        f"{prefix}paths_bytes": blob,
        f"{prefix}paths_offsets": offsets,
        f"{prefix}sizes": files.sizes,
        f"{prefix}mtimes": files.mtimes,
        f"{prefix}hashes": files.hashes,
    }
