"""Writing cache files: one table to one immutable file, built in memory and published atomically."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from . import format as fmt
from .errors import CacheError, OutputError
from .files import write_atomically
from .hdf5 import Hdf5File
from .manifest import shard_name
from .names import pack
from .table import Files, Table


def write_cache(table: Table, path: Path | str) -> None:
    """Publish a table as a cache file.

    Parameters
    ----------
    table : Table
    path : path-like
        The file; an existing one is replaced in one step, so readers keep what they opened.

    Raises
    ------
    OutputError
        When the file cannot be written; what stood there stays.
    ValueError
        When the parts of the table differ in length.
    """
    write_atomically(path, encode(table))


def write_shard(table: Table, folder: Path) -> str:
    """Write a table as a shard that no generation names yet, and return its digest. Raises as `write_cache`."""
    data, digest = _encode(table)
    write_atomically(folder / shard_name(digest), data)
    return digest


def encode(table: Table) -> memoryview:
    """Return the bytes of the HDF5 file that holds ``table``; equal tables give equal bytes."""
    return _encode(table)[0]


def _encode(table: Table) -> tuple[memoryview, str]:
    _check(table)
    features = np.ascontiguousarray(table.features, dtype="<f4")
    datasets = _datasets(table, features)
    attributes: dict[str, bytes | int] = {
        "format": fmt.FORMAT.encode(),
        "format_version": fmt.FORMAT_VERSION,
        "block_rows": fmt.BLOCK_ROWS,
        "fingerprint": fmt.canonical_json(table.fingerprint),
        "provenance": fmt.canonical_json(table.provenance),
    }
    shape = (features.shape[0], features.shape[1])
    digest = fmt.digest(attributes, datasets, shape)
    attributes["digest"] = digest.encode()

    # HDF5 writes into memory: it cannot recover from a full disk (it crashes), os.write can. The low-level
    # calls are for the group's time stamp, which the high-level interface cannot switch off and which
    # would give equal tables different bytes.
    buffer = io.BytesIO()
    creation = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    creation.set_obj_track_times(False)
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_libver_bounds(h5py.h5f.LIBVER_V18, h5py.h5f.LIBVER_V18)  # checksums its own metadata
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    access.set_fileobj_driver(h5py.h5fd.fileobj_driver, buffer)
    with h5py.File(h5py.h5f.create(b"cache", h5py.h5f.ACC_TRUNC, creation, access)) as file:
        for name, value in attributes.items():
            file.attrs[name] = np.bytes_(value) if isinstance(value, bytes) else np.int64(value)
        for name, array in datasets.items():
            file.create_dataset(name, data=array)
        file.create_dataset("features", data=features)
    _require_readable(buffer, attributes, datasets | {"features": features})
    return buffer.getbuffer(), digest


def _require_readable(
    buffer: io.BytesIO, attributes: dict[str, bytes | int], datasets: dict[str, npt.NDArray[Any]]
) -> None:
    """Make sure that what this version of HDF5 has made is what our reader takes, before anybody relies on it."""
    try:
        file = Hdf5File(buffer, buffer.getbuffer().nbytes)
        found = {name: (array.dtype, array.shape) for name, array in file.arrays().items()}
        wanted = {name: (array.dtype.str, array.shape) for name, array in datasets.items()}
        same = found == wanted and file.attributes() == attributes
        reason = "it is not what was to be written"
    except CacheError as error:
        same, reason = False, str(error)
    if not same:
        raise OutputError(
            5, f"h5py {h5py.__version__} makes a file that embedonce cannot read ({reason}); install another"
        )


def _check(table: Table) -> None:
    n, m = len(table.files), len(table.rejects)
    if table.features.ndim != 2:
        raise ValueError(f"Table.features must have shape (n, d), got {table.features.shape}")
    lengths = {"labels": len(table.labels), "features": len(table.features)}
    lengths |= {name: len(getattr(table.files, name)) for name in ("sizes", "mtimes", "hashes")}
    wrong = {name: length for name, length in lengths.items() if length != n}
    if len(table.reasons) != m:
        wrong["reasons"] = len(table.reasons)
    if wrong:
        raise ValueError(f"Table holds {n} files and {m} rejects, but of other length are {wrong}")


def _datasets(table: Table, features: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[Any]]:
    arrays: dict[str, npt.NDArray[Any]] = {
        "row_checksums": fmt.row_checksums(features),
        "block_checksums": fmt.block_checksums(features),
        "labels": table.labels,
    }
    arrays["class_names_bytes"], arrays["class_names_offsets"] = pack(table.class_names)
    arrays |= _file_datasets(table.files, "")
    arrays |= _file_datasets(table.rejects, "rejects_")
    reasons = [reason.encode("utf-8", "backslashreplace") for reason in table.reasons]
    arrays["rejects_reasons_bytes"], arrays["rejects_reasons_offsets"] = pack(reasons)
    return {name: np.ascontiguousarray(array, dtype=fmt.DATASETS[name][0]) for name, array in arrays.items()}


def _file_datasets(files: Files, prefix: str) -> dict[str, npt.NDArray[Any]]:
    blob, offsets = pack(files.paths)
    return {
        f"{prefix}paths_bytes": blob,
        f"{prefix}paths_offsets": offsets,
        f"{prefix}sizes": files.sizes,
        f"{prefix}mtimes": files.mtimes,
        f"{prefix}hashes": files.hashes,
    }
