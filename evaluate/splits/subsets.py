"""Folds and subsets of the training part of a split."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache
from ...errors import check_int
from .groups import Groups
from .make import fold_rows
from .split import Rows, Split, with_groups
from .stable_hash import hash_to_unit_interval


def inner_folds(cache: FeatureCache, split: Split, groups: Groups | None, k: int, seed: int) -> list[Split]:
    """Make the folds of a search in a split's training part; they keep groups unless the split is random.

    A split with validation rows has one fold, which tests these.
    """
    check_int("folds", "the search", k, 2)
    if len(split.validation):
        return [with_groups(Split(split.train, split.validation, split.method, split.seed), groups)]
    rows = split.train
    present, labels = np.unique(cache.labels[rows], return_inverse=True)
    paths = [cache.paths[row] for row in rows]
    inner_groups = None
    if groups is not None and split.method != "random":
        inner_groups = Groups(paths, [groups.names[row] for row in rows], groups.source)
    class_names = [cache.class_names[label] for label in present]
    # the repeat after that of the split: with the same one, the hashes of its training part leave a fold empty
    folds = fold_rows(paths, labels, class_names, k, (split.repeat or 0) + 1, seed, inner_groups)
    return [
        with_groups(
            replace(fold, train=rows[fold.train], test=rows[fold.test], moved=rows[fold.moved], groups=None),
            groups,
            check=inner_groups is not None,
        )
        for fold in folds
    ]


def shrink(fold: Split, cache: FeatureCache, groups: Groups | None, fraction: float, seed: int) -> Split:
    """Return a fold that trains on a fraction of its images, of whole groups if it keeps groups together."""
    if fraction == 1:
        return fold
    if groups is not None and fold.method == "grouped":
        keys, units = groups.unique, groups.ids
    else:
        keys, units = cache.paths, np.arange(len(cache))
    # another repeat of the seed than those of the split and of the folds of a search, so that all are independent
    order = hash_to_unit_interval(keys, seed, max(2, (fold.repeat or 0) + 1))
    return replace(fold, train=first_rows(fold.train, cache.labels, units, order, fraction))


def first_rows(
    rows: Rows, labels: npt.NDArray[np.integer[Any]], units: Rows, order: npt.NDArray[np.float64], fraction: float
) -> Rows:
    """Return at least a fraction of sorted rows, of every class, and of whole units with the lowest ``order``."""
    # rows of one unit are adjacent, also if two units have the same order
    ordered = rows[np.lexsort((units[rows], order[units[rows]]))]
    taken = []
    for label in np.unique(labels[rows]):
        of_class = units[ordered[labels[ordered] == label]]
        second = np.flatnonzero(of_class != of_class[0])[:1]
        taken.append(of_class[: max(math.ceil(fraction * len(of_class)), *(second + 1), 1)])
    return rows[np.isin(units[rows], np.concatenate(taken))]
