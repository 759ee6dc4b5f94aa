"""Folds and subsets of the training part of a split."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache
from .groups import Groups
from .make import folds_of_repeat
from .split import Split, with_groups
from .stable_hash import hash_to_unit_interval


def inner_folds(cache: FeatureCache, split: Split, groups: Groups | None, k: int, seed: int) -> list[Split]:
    """Make the folds of a search in the training part of a split.

    They keep groups together unless the split is random: then they part copies as it does. The split may itself be a
    fold of any repeat.

    Returns
    -------
    list of Split
        Rows of the cache. With groups kept together each has the proof of
        :func:`embedonce.evaluate.splits.split.check_no_leakage`.

    Raises
    ------
    SplitError
        When a class has fewer training images (or groups) than there are folds.
    """
    rows = split.train
    present, labels = np.unique(cache.labels[rows], return_inverse=True)
    part = _TrainingPart(
        path=cache.path,
        paths=[cache.paths[row] for row in rows],
        labels=labels,
        class_names=[cache.class_names[label] for label in present],
    )
    kept = None if split.method == "random" else groups
    own = None if kept is None else Groups(part.paths, [kept.names[row] for row in rows], kept.source)
    # the repeat after the split's: in its own, the places of its training part leave a fold empty
    made = folds_of_repeat(cast(FeatureCache, part), k, (split.repeat or 0) + 1, seed, own)
    return [
        with_groups(
            replace(fold, train=rows[fold.train], test=rows[fold.test], moved=rows[fold.moved], groups=None),
            groups,
            proof=kept is not None,
        )
        for fold in made
    ]


class _TrainingPart(SimpleNamespace):
    """What folds are made of: the training rows of a cache as if they were all."""

    def __len__(self) -> int:
        return len(self.paths)


def shrink(fold: Split, cache: FeatureCache, groups: Groups | None, share: float, seed: int) -> Split:
    """Return a fold that trains on a share of its images, of whole groups when it keeps them together.

    A smaller share is within a larger: see :func:`first_rows`.
    """
    if share == 1:
        return fold
    if groups is not None and fold.method == "grouped":
        keys, units = groups.unique, groups.ids
    else:
        keys, units = cache.paths, np.arange(len(cache))
    # another repeat of the seed than the split has and the folds of a search have: independent of both
    rows = first_rows(
        fold.train, cache.labels, units, hash_to_unit_interval(keys, seed, max(2, (fold.repeat or 0) + 1)), share
    )
    return replace(fold, train=rows)


def first_rows(
    rows: npt.NDArray[np.intp],
    labels: npt.NDArray[np.integer[Any]],
    units: npt.NDArray[np.intp],
    where: npt.NDArray[np.float64],
    share: float,
) -> npt.NDArray[np.intp]:
    """Return a share of some rows, of every class, and of whole units.

    Parameters
    ----------
    rows : ndarray of intp, shape (m,)
        Sorted.
    labels, units : ndarray of int, shape (n,)
        Class and unit (group or image) of every row of the cache.
    where : ndarray of float64, shape (u,)
        Of the units, from `hash_to_unit_interval`: the first ones are taken.
    share : float
        Above 0, up to 1.

    Returns
    -------
    ndarray of intp
        Sorted. At least the share of each class and, where there are two, two units of it; a smaller share is within
        a larger.
    """
    # units beside each other, even those that share a place
    ordered = rows[np.lexsort((units[rows], where[units[rows]]))]
    taken = []
    for label in np.unique(labels[rows]):
        mine = units[ordered[labels[ordered] == label]]
        second = np.flatnonzero(mine != mine[0])[:1]
        taken.append(mine[: max(math.ceil(share * len(mine)), *(second + 1), 1)])
    return rows[np.isin(units[rows], np.concatenate(taken))]
