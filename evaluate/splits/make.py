"""Random and grouped splits and folds: stable (`stable_hash`), stratified by class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache import display
from ...errors import SplitError, check_int
from .groups import Groups
from .split import TEST_FRACTION, Rows, Split, with_groups
from .stable_hash import assign_parts, hash_to_unit_interval

Names = Sequence[str]
Labels = npt.NDArray[np.integer[Any]]


def split_rows(
    paths: Names,
    labels: Labels,
    class_names: Names,
    seed: int,
    groups: Groups | None = None,
    test_fraction: float = TEST_FRACTION,
) -> Split:
    """Split image by image, or group by group: about so many for testing, with every class on both sides."""
    parts, moved = _assign(paths, labels, class_names, seed, 0, [test_fraction], groups)
    method = "random" if groups is None else "grouped"
    train, test = np.flatnonzero(parts == 1), np.flatnonzero(parts == 0)
    split = Split(train, test, method, int(seed), moved=moved, test_fraction=test_fraction)
    return with_groups(split, groups, check=True)


def fold_rows(
    paths: Names, labels: Labels, class_names: Names, k: int, repeat: int, seed: int, groups: Groups | None = None
) -> list[Split]:
    """Make the ``k`` folds of one repeat, with every class in every fold and no group in two."""
    parts, moved = _assign(paths, labels, class_names, seed, repeat, [number / k for number in range(1, k)], groups)
    method = "random" if groups is None else "grouped"
    splits = []
    for fold in range(k):
        train, test = np.flatnonzero(parts != fold), np.flatnonzero(parts == fold)
        split = Split(train, test, method, int(seed), fold, int(k), repeat, moved)
        splits.append(with_groups(split, groups, check=True))
    return splits


def _assign(
    paths: Names,
    labels: Labels,
    class_names: Names,
    seed: int,
    repeat: int,
    edges: Sequence[float],
    groups: Groups | None,
) -> tuple[Rows, Rows]:
    """Return the part of every row, and the rows that had to be moved."""
    check_int("seed", "the split", seed, 0, 2**32 - 1)
    keys, unit_of_row = (paths, np.arange(len(paths))) if groups is None else (groups.unique, groups.ids)
    pairs = np.unique(np.stack([unit_of_row, labels.astype(np.intp)], axis=1), axis=0)
    units, classes = pairs[:, 0], pairs[:, 1]
    counts = np.bincount(classes, minlength=len(class_names)).tolist()
    require_enough(class_names, counts, len(edges) + 1, groups is not None)
    parts, moved = assign_parts(hash_to_unit_interval(keys, seed, repeat), edges, units, classes, class_names)
    return parts[unit_of_row], np.flatnonzero(moved[unit_of_row])


def require_enough(class_names: Names, counts: Sequence[int], parts: int, grouped: bool) -> None:
    """Raise SplitError if a class has fewer images, or groups, than a split has parts."""
    small = [f"{display(name)} has {count}" for name, count in zip(class_names, counts, strict=True) if count < parts]
    if small:
        advice = "Ask for fewer folds, " if parts > 2 else ""
        advice += f"{'s' if advice else 'S'}plit image by image with --split random, " if grouped else ""
        raise SplitError(
            f"a split by class needs at least {parts} {'groups' if grouped else 'images'} in every class, but "
            f"{', '.join(small)}. {advice}{'a' if advice else 'A'}dd images or remove the class folder, then run "
            "embedonce extract again"
        )
