"""Nystroem's method: features whose products approximate the RBF kernel.

With m landmarks L, the kernel of any two rows is about k(a, L) k(L, L)^-1 k(L, b) (Williams and Seeger 2001): a linear
machine on ``k(x, L) @ projection`` is an RBF machine whose support vectors are the landmarks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from ...cache import RowSource, row_blocks
from .rbf_kernel import rbf_block, squared_norms
from .row_blocks import BLOCK_ROWS
from .scores import Array

# of the largest eigenvalue: smaller ones are rounding in float32, and only make coefficients large
SMALLEST_EIGENVALUE = 1e-5


class Nystroem(NamedTuple):
    """Map from standardised rows to r features, by standardised landmarks (m, d) and a projection (m, r), float64."""

    landmarks: Array
    projection: NDArray[np.float64]
    gamma: float

    @classmethod
    def of(cls, landmarks: Array, gamma: float) -> Nystroem:
        """Make the map of landmarks."""
        exact = landmarks.astype(np.float64)
        norms = squared_norms(exact)
        values, vectors = np.linalg.eigh(rbf_block(exact, exact, norms, norms, gamma))
        significant = values > SMALLEST_EIGENVALUE * values[-1]
        return cls(landmarks, vectors[:, significant] / np.sqrt(values[significant]), gamma)

    @property
    def width(self) -> int:
        """Number of features, r."""
        return int(self.projection.shape[1])

    def transform(self, scaled: Array) -> Array:
        """Return the features, shape (b, r), of standardised rows, in their dtype."""
        kernel = rbf_block(scaled, self.landmarks, squared_norms(scaled), squared_norms(self.landmarks), self.gamma)
        mapped: Array = kernel @ self.projection.astype(kernel.dtype)
        return mapped


class NystroemBlocks:
    """Features of all rows in blocks, to iterate over many times; they stay in memory up to `max_bytes`."""

    def __init__(self, X: Array | RowSource, scaler: StandardScaler, nystroem: Nystroem, max_bytes: int) -> None:
        self._rows = X
        self._scaler = scaler
        self._map = nystroem
        self._keeps = nystroem.landmarks.itemsize * X.shape[0] * nystroem.width <= max_bytes
        self._kept: list[Array] = []

    def __iter__(self) -> Iterator[Array]:
        if self._kept:
            yield from self._kept
            return
        blocks = []
        for rows in row_blocks(self._rows, BLOCK_ROWS):
            block = self._map.transform(self._scaler.transform(rows.astype(self._map.landmarks.dtype, copy=False)))
            if self._keeps:
                blocks.append(block)
            yield block
        self._kept = blocks
