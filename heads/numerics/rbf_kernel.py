"""The RBF kernel by matrix products, in blocks, and decisions over support vectors.

|a - b|^2 = |a|^2 + |b|^2 - 2 a.b makes it one product at the speed of BLAS; SVC takes one pair of rows at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .blas_threads import threads_of_blas
from .scores import MANY_PAIRS, Array

# 1,024 rows against 1,024 rows: large enough for BLAS to run at full speed, 4 MiB of float32
BLOCK_ROWS = 1024
# bound of one temporary kernel block while predicting
BLOCK_BYTES = 64 * 2**20


def squared_norms(X: Array) -> Array:
    """Return the squared Euclidean norm of each row (n,), in the dtype of X."""
    norms: Array = np.einsum("ij,ij->i", X, X)
    return norms


def rbf_block(A: Array, B: Array, a_norms: Array, b_norms: Array, gamma: float, buffer: Array | None = None) -> Array:
    """Return exp(-gamma |a - b|^2) for all rows a of A (m, d) and b of B (n, d), shape (m, n), in their dtype.

    In float32, with gamma near 1 / d, a value has an error of about 1e-6. `buffer` is memory of m * n elements for the
    result: new memory for every block costs more than the product.
    """
    if buffer is None:
        buffer = np.empty(len(A) * len(B), dtype=A.dtype)
    block = buffer.ravel()[: len(A) * len(B)].reshape(len(A), len(B))
    # the factors go into the small operands; each pass over the block costs as much as the exponential
    np.matmul(A * A.dtype.type(2.0 * gamma), B.T, out=block)
    block -= (gamma * a_norms).astype(A.dtype)[:, None]
    block -= (gamma * b_norms).astype(A.dtype)[None, :]
    # rounding makes the distance of a row from its copy slightly negative
    np.minimum(block, 0.0, out=block)
    np.exp(block, out=block)
    return block


def rbf_matrix(X: Array, gamma: float) -> NDArray[np.float64]:
    """Return the kernel matrix (n, n) of X, exactly symmetric, float64 for libsvm; products are in the dtype of X."""
    n = len(X)
    norms = squared_norms(X)
    matrix = np.empty((n, n))

    def fill(start: int) -> None:
        """Fill the rows from `start` on, right of the diagonal, and the columns that mirror them."""
        buffer = np.empty(BLOCK_ROWS * BLOCK_ROWS, dtype=X.dtype)
        rows = slice(start, min(start + BLOCK_ROWS, n))
        for other in range(start, n, BLOCK_ROWS):
            columns = slice(other, min(other + BLOCK_ROWS, n))
            block = rbf_block(X[rows], X[columns], norms[rows], norms[columns], gamma, buffer)
            if other == start:
                block = np.triu(block, 1)
                block += block.T
                np.fill_diagonal(block, 1.0)
                matrix[rows, rows] = block
            else:
                matrix[rows, columns] = block
                # in strips of 64 rows, which stay in the processor's cache: six times as fast as at once
                for strip in range(0, block.shape[1], 64):
                    part = slice(strip, strip + 64)
                    matrix[columns, rows][part] = block[:, part].T

    with threads_of_blas(X.size) as threads, ThreadPoolExecutor(threads) as pool:
        list(pool.map(fill, range(0, n, BLOCK_ROWS)))
    return matrix


def square_part(matrix: Array, rows: NDArray[np.intp], in_place: bool) -> Array:
    """Return ``matrix[rows][:, rows]`` for ascending rows; `in_place` overwrites the beginning of the matrix."""
    m = len(rows)
    part = matrix.reshape(-1)[: m * m].reshape(m, m) if in_place else np.empty((m, m), matrix.dtype)
    for position, row in enumerate(rows):
        # row p of the part ends at (p + 1) m, which is before the row that is read next: rows[p + 1] >= p + 1
        part[position] = matrix[row].take(rows)
    return part


def pair_coefficients(dual_coef: Array, n_support: Array) -> Array:
    """Return coefficients (s, k (k - 1) / 2) of every support vector in the margins of all pairs of classes.

    `dual_coef` (k - 1, s) is laid out as in `sklearn.svm.SVC`: for a support vector of class i, row j - 1 belongs to
    the pair (i, j) if j > i, and row j to the pair (j, i) if j < i.
    """
    if len(n_support) == 2:
        return np.ascontiguousarray(dual_coef.T)
    of_class = np.repeat(np.arange(len(n_support)), n_support)
    columns = [
        np.where(of_class == i, dual_coef[j - 1], np.where(of_class == j, dual_coef[i], 0.0))
        for i, j in combinations(range(len(n_support)), 2)
    ]
    return np.stack(columns, axis=1)


class RBFMachine(NamedTuple):
    """Margins (m, p) ``sum_s coefficients[s] exp(-gamma |x - vectors[s]|^2) + intercept`` of standardised rows x."""

    vectors: Array
    coefficients: Array
    intercept: Array
    gamma: float

    def margins(self, X: Array) -> NDArray[np.float64]:
        """Return the margins (m, p) of rows in the dtype of `vectors`, in blocks of bounded size."""
        norms = squared_norms(self.vectors)
        step = max(1, BLOCK_BYTES // max(1, len(self.vectors) * self.vectors.itemsize))
        blocks = []
        for start in range(0, len(X), step):
            rows = X[start : start + step]
            kernel = rbf_block(rows, self.vectors, squared_norms(rows), norms, self.gamma)
            # float64 sums: dual coefficients up to C cancel each other
            blocks.append(kernel.astype(np.float64, copy=False) @ self.coefficients + self.intercept)
        return np.concatenate(blocks)


class PairMachine(NamedTuple):
    """The same margins of many classes: `dual_coef` (k - 1, s) and `n_support` (k,) as for `pair_coefficients`.

    The coefficients of all pairs would be k / 2 times as large, and mostly 0.
    """

    vectors: Array
    dual_coef: Array
    n_support: Array
    intercept: Array
    gamma: float

    def margins(self, X: Array) -> NDArray[np.float64]:
        """Return the margins (m, p) of rows in the dtype of `vectors`."""
        return np.concatenate([np.zeros((0, len(self.intercept))), *self.blocks(X)])

    def blocks(self, X: Array) -> Iterator[NDArray[np.float64]]:
        """Yield the margins of a few rows at a time."""
        k, norms = len(self.n_support), squared_norms(self.vectors)
        ends = np.cumsum(self.n_support)
        pairs = np.triu_indices(k, 1)
        step = max(1, BLOCK_BYTES // max(1, len(self.vectors) * 8))
        few = max(1, BLOCK_BYTES // (8 * k * k))
        for start in range(0, len(X), step):
            rows = X[start : start + step]
            kernel = rbf_block(rows, self.vectors, squared_norms(rows), norms, self.gamma).astype(np.float64)
            for first in range(0, len(rows), few):
                part = kernel[first : first + few]
                # the share of the support vectors of each class in its margins to all others
                shares = np.zeros((len(part), k, k))
                for label, (end, count) in enumerate(zip(ends.tolist(), self.n_support.tolist(), strict=True)):
                    own = slice(end - count, end)
                    of_others = part[:, own] @ self.dual_coef[:, own].T
                    shares[:, label, :label] = of_others[:, :label]
                    shares[:, label, label + 1 :] = of_others[:, label:]
                yield shares[:, pairs[0], pairs[1]] + shares[:, pairs[1], pairs[0]] + self.intercept


def pair_machine(
    vectors: Array, dual_coef: Array, n_support: Array, intercept: Array, gamma: float
) -> RBFMachine | PairMachine:
    """Return the machine of pairs of classes from coefficients as in `sklearn.svm.SVC`."""
    if len(intercept) > MANY_PAIRS:
        return PairMachine(vectors, dual_coef, n_support, intercept, gamma)
    return RBFMachine(vectors, pair_coefficients(dual_coef, n_support), intercept, gamma)
