"""The cache file format, versions 1 to 3: names, types and checksums. docs/FORMAT.md is its specification."""

from __future__ import annotations

import json
import struct
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

FORMAT = "embedonce-feature-cache"
FORMAT_VERSION = 3

BLOCK_ROWS = 64
"""Rows under one block checksum: few enough to stay in a processor's second-level cache while hashed."""

REMEDY = "Run embedonce extract on its images again, which embeds only what is damaged"
"""Advice in every message about damage."""

SIGNATURE_BYTES = 784
"""Length of a signature: the luma of 28 x 28 pixels."""


@dataclass(frozen=True)
class Matrix:
    """A dataset with a row for every image, and the names of its checksums' datasets; a `width` of 0 is any number."""

    name: str
    dtype: str
    row_checksums: str
    block_checksums: str
    width: int = 0


FEATURES = Matrix("features", "<f4", "row_checksums", "block_checksums")
SIGNATURES = Matrix("signatures", "|u1", "signature_row_checksums", "signature_block_checksums", SIGNATURE_BYTES)

MATRICES: dict[int, tuple[Matrix, ...]] = {1: (FEATURES,), 2: (FEATURES, SIGNATURES), 3: (FEATURES, SIGNATURES)}
"""Matrices in the files of each version; those of version 3 may be without signatures."""

_METADATA: dict[str, tuple[str, int]] = {
    "metadata_names_bytes": ("|u1", 1),
    "metadata_names_offsets": ("<i8", 1),
    "metadata_values_bytes": ("|u1", 1),
    "metadata_values_offsets": ("<i8", 1),
    "metadata_codes": ("<i4", 2),
}
"""Datasets that only version 3 has."""

_TABLES: dict[str, tuple[str, int]] = {
    "labels": ("<i4", 1),
    "class_names_bytes": ("|u1", 1),
    "class_names_offsets": ("<i8", 1),
    "paths_bytes": ("|u1", 1),
    "paths_offsets": ("<i8", 1),
    "sizes": ("<i8", 1),
    "mtimes": ("<i8", 1),
    "hashes": ("|u1", 2),
    "rejects_paths_bytes": ("|u1", 1),
    "rejects_paths_offsets": ("<i8", 1),
    "rejects_sizes": ("<i8", 1),
    "rejects_mtimes": ("<i8", 1),
    "rejects_hashes": ("|u1", 2),
    "rejects_reasons_bytes": ("|u1", 1),
    "rejects_reasons_offsets": ("<i8", 1),
}


OPTIONAL: dict[str, tuple[str, int]] = {"oddities": ("|u1", 1), "facts": ("|u1", 2)}
"""Datasets that a file of any version may have."""


def matrices(version: int, names: Container[str]) -> tuple[Matrix, ...]:
    """Return the matrices of a file of a version that has datasets of these names."""
    return MATRICES[version] if version < 3 or SIGNATURES.name in names else (FEATURES,)


def datasets(version: int, of: Iterable[Matrix] = (FEATURES, SIGNATURES)) -> dict[str, tuple[str, int]]:
    """Return type and number of dimensions of every dataset of a version with these matrices, by name."""
    types = _TABLES | (_METADATA if version >= 3 else {})
    for matrix in of:
        types |= {matrix.name: (matrix.dtype, 2), matrix.row_checksums: ("<u8", 1), matrix.block_checksums: ("<u8", 1)}
    return types


def row_checksums(rows: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """Return the XXH3-64 of the bytes of every row: uint64, shape (n,)."""
    return _checksums(rows, 1)


def block_checksums(rows: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """Return the XXH3-64 of every block of 64 rows (the last may be shorter): uint64."""
    return _checksums(rows, BLOCK_ROWS)


def _checksums(matrix: npt.NDArray[Any], rows: int) -> npt.NDArray[np.uint64]:
    if matrix.size == 0:
        return np.zeros(-(-len(matrix) // rows), np.uint64)
    data = np.ascontiguousarray(matrix).reshape(-1).view(np.uint8).data
    step = matrix.shape[1] * matrix.itemsize * rows
    digests = [xxhash.xxh3_64_intdigest(data[start : start + step]) for start in range(0, len(data), step)]
    return np.array(digests, dtype=np.uint64)


def canonical_json(value: dict[str, Any]) -> bytes:
    """Return ``value`` as ASCII JSON with sorted keys: equal dictionaries give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def digest(
    attributes: Mapping[str, bytes | int], datasets: Mapping[str, npt.NDArray[Any]], feature_shape: tuple[int, int]
) -> str:
    """Return the XXH3-128 of all attributes but ``digest``, all datasets but matrices, and the checksums of these."""
    state = xxhash.xxh3_128()

    def add(*parts: bytes) -> None:
        for part in parts:  # the length in front keeps neighbours from running into each other
            state.update(struct.pack("<Q", len(part)))
            state.update(part)

    add(struct.pack("<qq", *feature_shape))
    for name in sorted(attributes):
        value = attributes[name]
        add(name.encode(), value if isinstance(value, bytes) else struct.pack("<q", value))
    for name in sorted(datasets):
        array = datasets[name]
        add(name.encode(), array.dtype.str.encode(), struct.pack(f"<{array.ndim}q", *array.shape), array.tobytes())
    return state.hexdigest()


def pack_strings(names: list[bytes]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Join byte strings: name i is ``blob[offsets[i]:offsets[i + 1]]`` of the returned uint8 blob and int64 offsets."""
    offsets = np.zeros(len(names) + 1, dtype=np.int64)
    np.cumsum([len(name) for name in names], out=offsets[1:])
    return np.frombuffer(b"".join(names), dtype=np.uint8), offsets


def unpack_strings(blob: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> list[bytes]:
    """Undo `pack_strings`; ValueError if the offsets do not rise from 0 to the length of the blob."""
    if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != len(blob) or (offsets[1:] < offsets[:-1]).any():
        raise ValueError("string offsets do not rise from 0 to the length of their blob")
    data = blob.tobytes()
    ends = offsets.tolist()
    return [data[start:end] for start, end in pairwise(ends)]
