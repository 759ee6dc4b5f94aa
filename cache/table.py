"""The rows of a cache in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Features = npt.NDArray[np.float32]

HASH_BYTES = 32
"""Length of a content hash: SHA-256 of the image file."""


class RowSource(Protocol):
    """Features that stand somewhere else and are read in runs of rows; there may be more than the memory holds."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features per row."""

    def read_rows(self, start: int, end: int) -> Features:
        """Return the rows from ``start`` to ``end``: float32, shape (end - start, d)."""


@dataclass
class Files:
    """What identifies a list of image files, without their features.

    Attributes
    ----------
    paths : list of bytes, length n
        Relative to the image folder, with ``/`` between the parts.
    sizes : ndarray of int64, shape (n,)
        In bytes.
    mtimes : ndarray of int64, shape (n,)
        Modification times in nanoseconds since 1970.
    hashes : ndarray of uint8, shape (n, 32)
        SHA-256 of each file's content; zeros for a file that could not be read.
    """

    paths: list[bytes] = field(default_factory=list)
    sizes: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    mtimes: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    hashes: npt.NDArray[np.uint8] = field(default_factory=lambda: np.zeros((0, HASH_BYTES), np.uint8))

    def __len__(self) -> int:
        return len(self.paths)


@dataclass
class Table:
    """Everything that one cache file holds.

    Attributes
    ----------
    fingerprint : dict
        What decides the feature values. JSON-serialisable.
    provenance : dict
        What is good to know and decides nothing: versions, engine, image folder. JSON-serialisable.
    class_names : list of bytes
        Sorted; ``labels`` index into it.
    files : Files
        Of the embedded images, n rows.
    labels : ndarray of int32, shape (n,)
    features : ndarray of float32, shape (n, d), or RowSource
    rejects : Files
        Of the images that could not be embedded, m rows.
    reasons : list of str, length m
        Why.
    """

    fingerprint: dict[str, Any]
    provenance: dict[str, Any]
    class_names: list[bytes]
    files: Files
    labels: npt.NDArray[np.int32]
    features: Features | RowSource
    rejects: Files = field(default_factory=Files)
    reasons: list[str] = field(default_factory=list)

    def blocks(self, rows: int) -> Iterator[Features]:
        """Yield the features in runs of ``rows`` rows: float32, C-contiguous; the last may be shorter."""
        for start in range(0, self.features.shape[0], rows):
            end = min(start + rows, self.features.shape[0])
            if isinstance(self.features, np.ndarray):
                part = self.features[start:end]
            else:
                part = self.features.read_rows(start, end)
            yield np.ascontiguousarray(part, dtype="<f4")
