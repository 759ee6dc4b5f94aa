"""Nearest neighbours among a cache's features, in blocks, so that memory is bounded."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache
from ...errors import GroupsError
from ...extract import cpu_count
from .largest_products import largest, nearest_of_all

COMPONENTS = 256
_SAMPLE = 20_000  # rows that the principal components are computed from
_READ = 4096
_PRODUCTS = 64 << 20  # bytes of similarities that all threads have at a time
_ADDED = 256  # new rows that all rows are compared with at a time
_SYMMETRIC_ABOVE = 30_000  # rows from which computing each similarity once saves more than it costs to keep candidates
APPROXIMATE_ABOVE = 200_000
"""Rows from which an approximate index is used, since comparing all pairs grows with their square."""


class Axes(NamedTuple):
    """The weighted principal components that features are compared by."""

    mean: npt.NDArray[np.float32]  # (d,)
    projection: npt.NDArray[np.float32]  # (d, at most 256)

    def reduce(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the components of some features, at unit length."""
        part = (features - self.mean) @ self.projection
        length = np.linalg.norm(part, axis=1, keepdims=True)
        return np.asarray(part / np.where(length > 0, length, 1), np.float32)


class Neighbors(NamedTuple):
    """The nearest rows of each row, nearest first."""

    rows: npt.NDArray[np.intp]  # (n, k)
    similarity: npt.NDArray[np.float32]  # cosine, (n, k)
    reduced: npt.NDArray[np.float32]  # the compared features, at unit length, (n, at most 256)
    axes: Axes

    def further(self, row: int, count: int) -> npt.NDArray[np.intp]:
        """Return the ``count`` nearest rows of one row, in any order, itself included."""
        if count >= len(self.reduced):
            return np.arange(len(self.reduced))
        return np.argpartition(-(self.reduced @ self.reduced[row]), count)[:count]


def nearest_neighbors(cache: FeatureCache, count: int) -> Neighbors:
    """Find the ``count`` nearest neighbours of every row, fewer in a smaller cache."""
    from threadpoolctl import threadpool_limits

    # threads of BLAS wait busily for each other in the eigendecomposition; those of Python also sort
    with threadpool_limits(1, "blas"):
        return _nearest_neighbors(cache, count)


def neighbors_of_new(
    reduced: npt.NDArray[np.float32],
    axes: Axes,
    new: npt.NDArray[np.bool_],
    farthest: npt.NDArray[np.float32],
    count: int,
) -> Neighbors:
    """Find the nearest neighbours of new rows, and those new rows that are nearer to an old one than its farthest.

    ``farthest`` is the similarity of each old row's last neighbour, infinite for new rows. Where an old row has
    fewer new neighbours, the row itself takes their place.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):
        rows = np.repeat(np.arange(len(reduced))[:, None], count, 1)
        similarity = np.repeat(farthest[:, None], count, 1)
        added = np.flatnonzero(new)
        nearest = _exact(reduced, count, added)
        rows[added], similarity[added] = nearest
        for start in range(0, len(added), _ADDED):
            block = added[start : start + _ADDED]
            products = np.where(new[:, None], -np.inf, reduced @ reduced[block].T)
            for row in np.flatnonzero((products > farthest[:, None]).any(1)).tolist():
                candidates = np.concatenate([rows[row], block])
                values = np.concatenate([similarity[row], products[row]])
                best = np.argsort(-values, kind="stable")[:count]
                near = values[best] > farthest[row]
                rows[row], similarity[row] = (
                    np.where(near, candidates[best], row),
                    np.where(near, values[best], -np.inf),
                )
    return Neighbors(rows, similarity, reduced, axes)


def _nearest_neighbors(cache: FeatureCache, count: int) -> Neighbors:
    axes = principal_axes(cache)
    reduced = reduced_features(cache, axes)
    count = min(count, len(reduced) - 1)
    if count < 1:
        return Neighbors(np.zeros((len(reduced), 0), np.intp), np.zeros((len(reduced), 0), np.float32), reduced, axes)
    if len(reduced) > APPROXIMATE_ABOVE:
        return Neighbors(*_approximate(reduced, count), reduced, axes)
    if len(reduced) > _SYMMETRIC_ABOVE:
        return Neighbors(*nearest_of_all(reduced, count), reduced, axes)
    return Neighbors(*_exact(reduced, count, np.arange(len(reduced))), reduced, axes)


def reduced_features(cache: FeatureCache, axes: Axes) -> npt.NDArray[np.float32]:
    """Return the features' leading components at unit length: float32, shape (n, at most 256)."""
    reduced = np.empty((len(cache), axes.projection.shape[1]), np.float32)
    for start, block in _blocks(cache):
        reduced[start : start + len(block)] = axes.reduce(block)
    return reduced


def principal_axes(cache: FeatureCache) -> Axes:
    """Return the axes of a cache's features, of a sample if they are many."""
    # divided by the fourth root of the variance, half of whitening: the leading components describe the class, which
    # all candidates share, the later ones the image
    rows, width = cache.shape
    generator = np.random.default_rng(0)
    chosen = np.sort(generator.choice(rows, _SAMPLE, replace=False)) if rows > _SAMPLE else np.arange(rows)
    if 1 < rows < width:  # the same axes from the smaller matrix of products
        part = cache[:rows]
        mean = part.mean(0, dtype=np.float64)
        centred = part - mean.astype(np.float32)
        variances, combinations = np.linalg.eigh((centred @ centred.T).astype(np.float64) / rows)
        lengths = np.sqrt(rows * np.maximum(variances, variances[-1] * 1e-9))
        axes = centred.T @ (combinations / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    else:
        total, products = np.zeros(width), np.zeros((width, width))
        for start, block in _blocks(cache):
            part = block[chosen[(chosen >= start) & (chosen < start + len(block))] - start]
            total += part.sum(0, dtype=np.float64)
            products += part.T @ part
        mean = total / max(len(chosen), 1)
        covariance = products / max(len(chosen), 1) - np.outer(mean, mean)
        variances, axes = np.linalg.eigh(covariance)
    leading = np.flatnonzero(variances > variances[-1] * 1e-7)[::-1][:COMPONENTS]
    projection = (axes[:, leading] / variances[leading] ** 0.25).astype(np.float32)
    return Axes(mean.astype(np.float32), projection)


def _blocks(cache: FeatureCache) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    for start in range(0, len(cache), _READ):
        yield start, cache[start : start + _READ]


def _exact(
    reduced: npt.NDArray[np.float32], count: int, asked: npt.NDArray[np.intp]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """Return the nearest rows of those that are asked for, and their similarity."""
    rows = np.empty((len(asked), count), np.intp)
    similarity = np.empty((len(asked), count), np.float32)
    block = max(1, _PRODUCTS // cpu_count() // 4 // len(reduced))

    def search(start: int) -> None:
        part = asked[start : start + block]
        products = reduced[part] @ reduced.T
        products[np.arange(len(part)), part] = -np.inf
        rows[start : start + block], similarity[start : start + block] = largest(products, count)

    with ThreadPoolExecutor(cpu_count()) as pool:
        list(pool.map(search, range(0, len(asked), block)))
    return rows, similarity


def _approximate(reduced: npt.NDArray[np.float32], count: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """Search an inverted file index: only the cells nearest to a row."""
    try:
        import faiss
    except ImportError as error:
        raise GroupsError(
            f"finding groups among more than {APPROXIMATE_ABOVE:,} images needs an approximate index. "
            "Install it with: pip install embedonce[large]"
        ) from error
    faiss.omp_set_num_threads(cpu_count())
    cells = int(4 * np.sqrt(len(reduced)))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(reduced.shape[1]), reduced.shape[1], cells, faiss.METRIC_INNER_PRODUCT)
    index.cp.seed = 0
    index.train(reduced[np.random.default_rng(0).permutation(len(reduced))[: 64 * cells]])
    index.add(reduced)
    index.nprobe = max(8, cells // 32)
    rows = np.empty((len(reduced), count), np.intp)
    similarity = np.empty((len(reduced), count), np.float32)
    for start in range(0, len(reduced), _READ):
        end = min(start + _READ, len(reduced))
        values, nearest = index.search(reduced[start:end], count + 1)
        # a row finds itself first, unless identical rows come before it; then the last one is removed
        itself = nearest == np.arange(start, end)[:, None]
        itself[~itself.any(1), -1] = True
        rows[start:end] = nearest[~itself].reshape(-1, count)
        similarity[start:end] = values[~itself].reshape(-1, count)
    # -1 marks searched cells with too few rows; a row paired with itself is ignored
    missing = rows < 0
    rows[missing] = np.broadcast_to(np.arange(len(reduced))[:, None], rows.shape)[missing]
    similarity[missing] = -np.inf
    return rows, similarity
