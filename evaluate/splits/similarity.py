"""Similarity of the images of groups, compared with groups of the same sizes by chance."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

_SHUFFLES = 99


class Similarity(NamedTuple):
    """Mean cosine similarity of the images of a group, and its mean and standard deviation if they are shuffled."""

    value: float
    by_chance: float
    deviation: float

    @property
    def above_chance(self) -> bool:
        """True if it is more than four standard deviations above the mean of shuffled images."""
        return self.value > self.by_chance + 4 * self.deviation


def similarity_in_groups(
    features: npt.NDArray[np.float32], labels: npt.NDArray[np.intp], ids: npt.NDArray[np.intp]
) -> tuple[Similarity | None, Similarity | None]:
    """Return the similarity of images of a group within a class, and across classes; None without such pairs.

    ``features`` have length 1 and the mean of each class subtracted. Images are shuffled within each class.
    """
    from scipy.sparse import csr_array

    (of_group, _), of_row = np.unique(np.stack([ids, labels]), axis=1, return_inverse=True)
    of_row = of_row.ravel()
    rows, parts = len(ids), len(of_group)
    _, of_group = np.unique(of_group, return_inverse=True)
    # a part is the images of one group and class
    sums: Any = csr_array((np.ones(rows, np.float32), (of_row, np.arange(rows))), (parts, rows))
    groups: Any = csr_array((np.ones(parts, np.float32), (of_group, np.arange(parts))))
    sizes = np.bincount(of_row).astype(np.float64)
    group_sizes = groups @ sizes
    pairs = sizes * (sizes - 1), group_sizes**2 - groups @ sizes**2
    weights = np.where(pairs[0] > 0, sizes, 0), np.where(pairs[1] > 0, group_sizes, 0)

    def measure(vectors: npt.NDArray[np.float32]) -> list[float]:
        part_sums = sums @ vectors
        squares = (part_sums.astype(np.float64) ** 2).sum(axis=1)
        own = sums @ (vectors**2).sum(axis=1)
        whole = ((groups @ part_sums).astype(np.float64) ** 2).sum(axis=1)
        similarities = squares - own, whole - groups @ squares
        return [
            float(np.sum(weight * similar / np.maximum(count, 1)) / max(weight.sum(), 1))
            for similar, count, weight in zip(similarities, pairs, weights, strict=True)
        ]

    generator = np.random.default_rng(0)
    by_class = np.argsort(labels, kind="stable")
    shuffled = []
    for _ in range(_SHUFFLES):
        order = np.empty(rows, np.intp)
        order[by_class] = np.lexsort((generator.random(rows), labels))
        shuffled.append(measure(features[order]))
    found = []
    for value, chance, weight in zip(measure(features), np.transpose(shuffled), weights, strict=True):
        similarity = Similarity(value, float(chance.mean()), float(chance.std()))
        found.append(similarity if weight.any() else None)
    return found[0], found[1]
