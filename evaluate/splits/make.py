"""Splits of a cache's images into a training and a test part: stable, stratified, and along groups.

What decides the part of an image, and why, stands in :mod:`embedonce.evaluate.splits.stable_hash`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache, display
from ...errors import ParameterError, SplitError, check_int, is_number
from .groups import Groups
from .split import (
    Split,
    with_groups,
)
from .split_files import fold_columns, read_folds, read_split
from .stable_hash import assign_parts, hash_to_unit_interval

TEST_FRACTION = 0.2


def make_split(cache: FeatureCache, split: str | Path, seed: int, groups: Groups | None = None) -> Split:
    """Split a cache as asked.

    Parameters
    ----------
    cache : FeatureCache
    split : str or path-like
        ``random`` or ``grouped`` (80 % for training, stratified by class), the path of a split file, or
        ``FILE:COLUMN`` for a column of a table that says ``train`` or ``test``.
    seed : int
        Of a random or grouped split.
    groups : Groups, optional
        A grouped split keeps each together; for another, the result says how many of them cross it.

    Returns
    -------
    Split

    Raises
    ------
    SplitError
        When the split is impossible or does not fit the cache.
    """
    if groups is not None:
        groups.require_rows_of(cache)
    if str(split) == "random":
        return with_groups(random_split(cache, seed), groups)
    if str(split) == "grouped":
        return grouped_split(cache, _required(groups), seed)
    path, column = _file_and_column(split)
    if path is None:
        raise SplitError(
            "parameter split must be random or grouped, the path of a split file or FILE:COLUMN, "
            f"got {display(str(split))!r}"
        )
    if column is None and fold_columns(path):
        raise SplitError(
            f"the split file {display(str(path))} has folds and no column part; test on each fold, or name a column of "
            "train and test as FILE:COLUMN"
        )
    return with_groups(read_split(path, cache, column), groups)


def make_folds(
    cache: FeatureCache,
    split: str | Path,
    seed: int,
    groups: Groups | None = None,
    k: int = 5,
    repeats: int = 1,
) -> list[Split]:
    """Make folds as asked.

    Parameters
    ----------
    cache : FeatureCache
    split : str or path-like
        ``random`` or ``grouped``, stratified by class; the path of a file with the columns ``path,fold``; or
        ``FILE:COLUMN`` for a column of a table, whose values are the folds.
    seed : int
        Of random or grouped folds.
    groups : Groups, optional
        Grouped folds keep each together; for others, the results say how many of them cross.
    k, repeats : int
        Of random or grouped folds; a file says it itself.

    Returns
    -------
    list of Split
        See :func:`folds`.

    Raises
    ------
    SplitError
        When the folds are impossible or do not fit the cache.
    """
    if groups is not None:
        groups.require_rows_of(cache)
    if str(split) == "random":
        return [with_groups(fold, groups) for fold in folds(cache, k, repeats, seed)]
    if str(split) == "grouped":
        return folds(cache, k, repeats, seed, _required(groups))
    path, column = _file_and_column(split)
    if path is None:
        raise SplitError(
            "parameter split must be random or grouped, the path of a file with folds or FILE:COLUMN, "
            f"got {display(str(split))!r}"
        )
    return [with_groups(fold, groups) for fold in read_folds(path, cache, column)]


def has_folds(split: str | Path) -> bool:
    """Return whether a split file holds folds, rather than a training and a test part."""
    path, column = _file_and_column(split)
    return path is not None and column is None and bool(fold_columns(path))


def random_split(cache: FeatureCache, seed: int, test_fraction: float = TEST_FRACTION) -> Split:
    """Split image by image, every class on both sides; what people usually do.

    The side of an image depends on its path and the seed alone, so that adding images moves no old one. The share of
    the test part is thus not exact: see :mod:`embedonce.evaluate.splits.stable_hash`.

    Parameters
    ----------
    cache : FeatureCache
    seed : int
        From 0 to 2**32 - 1.
    test_fraction : float
        Expected share of the test part, of each class.

    Raises
    ------
    SplitError
        When a class has fewer than two images, or a parameter is wrong.
    """
    return _two_parts(cache, seed, test_fraction, None)


def grouped_split(cache: FeatureCache, groups: Groups, seed: int, test_fraction: float = TEST_FRACTION) -> Split:
    """Split group by group, every class on both sides, no group on both.

    The side of a group depends on its name and the seed alone, so that adding images and groups moves no old one. The
    share of the test part is thus not exact, and less so the more the groups differ in size: with groups of s_1, s_2, …
    images, its standard deviation is ``sqrt(f (1 - f) sum(s_i ** 2)) / sum(s_i)``.

    Parameters
    ----------
    cache : FeatureCache
    groups : Groups
        Of the cache's rows. A group may hold several classes.
    seed : int
        From 0 to 2**32 - 1.
    test_fraction : float
        Expected share of the test part, of each class.

    Returns
    -------
    Split
        ``groups`` is the proof of :func:`check_no_leakage`.

    Raises
    ------
    SplitError
        When a class has fewer than two groups, or a parameter is wrong.
    """
    return _two_parts(cache, seed, test_fraction, groups)


def folds(
    cache: FeatureCache, k: int = 5, repeats: int = 1, seed: int = 0, groups: Groups | None = None
) -> list[Split]:
    """Make the splits of a k-fold cross-validation, every class in every fold.

    The fold of an image, or of a group, depends on its name, the seed, the repeat and ``k`` alone, so that adding
    images moves no old one. The folds are thus not of exactly equal size. The first of five folds is tested in
    :func:`random_split` or :func:`grouped_split` of the same seed, but for classes of few images.

    Parameters
    ----------
    cache : FeatureCache
    k : int
        Number of folds, at least 2.
    repeats : int
        How many times, each with folds of its own.
    seed : int
        From 0 to 2**32 - 1.
    groups : Groups, optional
        Of the cache's rows; no group is in two folds of a repeat.

    Returns
    -------
    list of Split
        ``k * repeats`` splits: all folds of the first repeat, then of the second, and so on. Every row is in the test
        part of one fold of each repeat. With groups, each has the proof of :func:`check_no_leakage`.

    Raises
    ------
    SplitError
        When a class has fewer images (or groups) than there are folds, or a parameter is wrong.
    """
    check_int("repeats", "the folds", repeats, 1)
    return [fold for repeat in range(repeats) for fold in folds_of_repeat(cache, k, repeat, seed, groups)]


def folds_of_repeat(cache: FeatureCache, k: int, repeat: int, seed: int, groups: Groups | None = None) -> list[Split]:
    """Make the folds of one repeat: see :func:`folds`."""
    check_int("k", "the folds", k, 2)
    check_int("seed", "the split", seed, 0, 2**32 - 1)
    parts, moved = _cut(cache, groups, seed, repeat, [number / k for number in range(1, k)])
    splits = []
    for fold in range(k):
        train, test = np.flatnonzero(parts != fold), np.flatnonzero(parts == fold)
        method = "random" if groups is None else "grouped"
        split = Split(train, test, method, int(seed), fold, int(k), repeat, moved)
        splits.append(with_groups(split, groups, proof=True))
    return splits


def _two_parts(cache: FeatureCache, seed: int, test_fraction: float, groups: Groups | None) -> Split:
    check_int("seed", "the split", seed, 0, 2**32 - 1)
    if not is_number(test_fraction) or not 0 < test_fraction < 1:
        raise ParameterError(f"parameter test_fraction of the split must be between 0 and 1, got {test_fraction!r}")
    parts, moved = _cut(cache, groups, seed, 0, [float(test_fraction)])
    method = "random" if groups is None else "grouped"
    split = Split(np.flatnonzero(parts == 1), np.flatnonzero(parts == 0), method, int(seed), moved=moved)
    return with_groups(split, groups, proof=True)


def _cut(
    cache: FeatureCache, groups: Groups | None, seed: int, repeat: int, edges: Sequence[float]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the part of every row, and the rows that had to be moved."""
    if groups is None:
        keys, unit_of_row = cache.paths, np.arange(len(cache))
    else:
        groups.require_rows_of(cache)
        keys, unit_of_row = groups.unique, groups.ids
    pairs = np.unique(np.stack([unit_of_row, cache.labels.astype(np.intp)], axis=1), axis=0)
    units, classes = pairs[:, 0], pairs[:, 1]
    _require_enough(cache, np.bincount(classes, minlength=len(cache.class_names)).tolist(), len(edges) + 1, groups)
    parts, moved = assign_parts(hash_to_unit_interval(keys, seed, repeat), edges, units, classes, cache.class_names)
    return parts[unit_of_row], np.flatnonzero(moved[unit_of_row])


def _require_enough(cache: FeatureCache, counts: list[int], parts: int, groups: Groups | None) -> None:
    small = [
        f"{display(name)} has {count}" for name, count in zip(cache.class_names, counts, strict=True) if count < parts
    ]
    if small:
        unit = "images" if groups is None else "groups"
        fewer = "ask for fewer folds, " if parts > 2 else ""
        if groups is not None:
            fewer += "split image by image with --split random, "
        raise SplitError(
            f"a split by class needs at least {parts} {unit} in every class, but {', '.join(small)}; "
            f"{fewer}add images or remove the class folder, then run embedonce extract again"
        )


def _required(groups: Groups | None) -> Groups:
    if groups is None:
        raise SplitError(
            "parameter split must be random or a file when there are no groups, got 'grouped'; give the groups, such "
            "as with --groups FILE"
        )
    return groups


def _file_and_column(split: str | Path) -> tuple[Path | None, str | None]:
    """Return the file and the column of ``FILE`` or ``FILE:COLUMN``; None for a file that is not there."""
    if Path(split).is_file():
        return Path(split), None
    file, _, column = str(split).rpartition(":")
    if file and column and Path(file).is_file():
        return Path(file), column
    return None, None
