"""The splits that heads are scored on, from every form of the parameter ``split``."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache, counted, display
from ...errors import ParameterError, SplitError, check_int, describe, is_number
from ..metrics import Clusters, units
from .groups import Groups
from .make import fold_rows, require_enough, split_rows
from .split import TEST_FRACTION, Split, identical_in_training, merge_folds, with_groups
from .split_files import column_splits, given_split, read_splits

SplitLike: TypeAlias = "str | os.PathLike[str] | Split | Sequence[Any] | Any"
"""``random``, ``grouped``, a path, ``FILE:COLUMN``, ``@NAME`` (a column of metadata), a `Split`, a pair (train, test)
of arrays of rows, a splitter of scikit-learn, or a list of folds, each a `Split` or a pair."""


@dataclass(frozen=True, eq=False)
class SplitPlan(Sequence[Split]):
    """The splits that heads are scored on by one method: a single split, or the folds of all repeats in order."""

    splits: tuple[Split, ...]

    def __post_init__(self) -> None:
        tested = [np.sort(np.concatenate([split.test for split in folds])) for folds in self.repeats]
        if any(len(np.unique(rows)) < len(rows) or not np.array_equal(rows, tested[0]) for rows in tested):
            raise SplitError(
                "the folds of a split must test every image once, and those of each repeat the same images, got folds "
                "that do not. Use a splitter such as StratifiedGroupKFold, or give one training and one test part"
            )

    @property
    def method(self) -> str:
        """The method of the splits: see `Split`."""
        return self.splits[0].method

    @property
    def has_folds(self) -> bool:
        """True for a cross-validation."""
        return len(self.splits) > 1

    @property
    def repeats(self) -> list[list[Split]]:
        """The folds of every repeat."""
        numbers = sorted({split.repeat or 0 for split in self.splits})
        return [[split for split in self.splits if (split.repeat or 0) == number] for number in numbers]

    @cached_property
    def merged(self) -> Split:
        """The single split, or all folds as one: see `merge_folds`."""
        return merge_folds(self.splits) if self.has_folds else self.splits[0]

    def __len__(self) -> int:
        return len(self.splits)

    @overload
    def __getitem__(self, index: int) -> Split: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Split, ...]: ...
    def __getitem__(self, index: int | slice) -> Split | tuple[Split, ...]:
        return self.splits[index]

    def __repr__(self) -> str:
        return f"<SplitPlan {self.method}: {len(self)} split{'s' * self.has_folds}>"


def plan_splits(
    cache: FeatureCache,
    split: SplitLike | None,
    seed: int,
    groups: Groups | None,
    folds: int | None = None,
    repeats: int = 1,
    test_fraction: float | None = None,
) -> tuple[list[SplitPlan], list[str]]:
    """Return the plans to score heads on, and notes; by default of the image folder's split, or grouped and random."""

    def make(method: SplitLike) -> SplitPlan:
        return make_splits(cache, method, seed, groups, folds, repeats, test_fraction)

    if split is not None:
        return [make(split)], []
    given = given_split(cache) if folds is None else None
    if given is not None:
        return _plans_of_given(make, make(given), groups)
    if groups is None:
        return [make("random")], []
    if len(groups) == len(cache):
        found = groups.source == "found"
        alone = "no image has a near-duplicate" if found else "no two images are of one group"
        return [make("random")], [f"{alone}, so the split is random"]
    try:
        return [make("grouped"), make("random")], []
    except SplitError as error:
        if groups.source != "found":  # the user's groups must be kept together
            raise
        return [make("random")], [f"near-duplicates could not be kept together, so the split is random: {error}"]


def _plans_of_given(
    make: Callable[[SplitLike], SplitPlan], given: SplitPlan, groups: Groups | None
) -> tuple[list[SplitPlan], list[str]]:
    """Return the plan of a given split and, if groups are on both sides of it, a grouped one."""
    notes = ["the split is that of the image folder"]
    leakage = given.merged.groups
    if groups is None or leakage is None:
        return [given], notes
    if not leakage["crossing"]:
        if len(groups) < len(groups.paths):
            notes = ["the split is that of the image folder; no group has images in its training and its test part"]
        return [given], notes
    try:
        return [given, make("grouped")], notes
    except SplitError as error:
        return [given], [*notes, f"a grouped split for comparison could not be made: {error}"]


def make_splits(
    cache: FeatureCache,
    split: SplitLike,
    seed: int,
    groups: Groups | None = None,
    folds: int | None = None,
    repeats: int = 1,
    test_fraction: float | None = None,
) -> SplitPlan:
    """Return the splits that a value of the parameter ``split`` stands for, with their reports of groups."""
    if groups is not None:
        groups.require_rows_of(cache)
    if isinstance(split, (str, os.PathLike)):
        if str(split) not in ("random", "grouped"):
            splits = _from_file(cache, split)
        elif str(split) == "grouped" and groups is None:
            raise SplitError(
                "parameter split must be random or a file when there are no groups, got 'grouped'. Give the groups, "
                "such as with --groups FILE"
            )
        else:
            images = cache.paths, cache.labels, cache.class_names
            kept_groups = groups if str(split) == "grouped" else None
            if folds is None:
                splits = [split_rows(*images, seed, kept_groups, test_fraction or TEST_FRACTION)]
            else:
                splits = [
                    fold for repeat in range(repeats) for fold in fold_rows(*images, folds, repeat, seed, kept_groups)
                ]
    else:
        splits = _given(cache, split, groups)
    return SplitPlan(tuple(one if one.groups is not None else with_groups(one, groups) for one in splits))


def make_split(cache: FeatureCache, split: SplitLike, seed: int, groups: Groups | None = None) -> Split:
    """Return the one split that a value of the parameter ``split`` stands for: see `make_splits`."""
    return single_split(cache, split, seed, groups)[0]


def single_split(
    cache: FeatureCache,
    split: SplitLike | None,
    seed: int,
    groups: Groups | None = None,
    test_fraction: float | None = None,
) -> tuple[Split, list[str]]:
    """Return the first split of `plan_splits`, by default the grouped one if images have groups, and notes."""
    (plan, *_), notes = plan_splits(cache, split, seed, groups, test_fraction=test_fraction)
    if plan.has_folds:
        raise SplitError(
            f"parameter split must have one training and one test part here, got {len(plan)} folds. Give random, "
            "grouped, a file with the columns path,part, or one of the folds"
        )
    return plan[0], notes


def _from_file(cache: FeatureCache, split: str | os.PathLike[str]) -> list[Split]:
    if str(split).startswith("@"):
        return column_splits(cache, str(split))
    file, _, column = str(split).rpartition(":")
    if Path(split).is_file():
        return read_splits(Path(split), cache)
    if file and column and Path(file).is_file():
        return read_splits(Path(file), cache, column)
    raise SplitError(
        "parameter split must be random or grouped, the path of a split file, FILE:COLUMN, or @NAME for a column of "
        f"metadata, got {display(str(split))!r}"
    )


def _given(cache: FeatureCache, split: Any, groups: Groups | None) -> list[Split]:
    """Return the splits of a `Split`, a pair of arrays, a splitter, or a list of folds."""
    if isinstance(split, Split):
        splits = [split]
    elif callable(getattr(split, "split", None)) and not isinstance(split, type):
        splits = _as_folds(_from_splitter(cache, split, groups))
    elif _is_pair(split):
        splits = [Split(*split)]
    elif isinstance(split, Iterable) and not isinstance(split, bytes):
        splits = _as_folds(split)
    else:
        raise SplitError(
            "parameter split must be random, grouped, a path, a Split, a pair (train, test) of row numbers, a splitter "
            f"with a method split, or a list of folds, got {split!r}"
        )
    highest = max(int(part.max(initial=-1)) for one in splits for part in (one.train, one.test))
    if highest >= len(cache):
        raise SplitError(
            f"parameter split must have rows of the {len(cache):,} images of {cache.display_path}, got row "
            f"{highest}. Make the split for this cache"
        )
    return splits


def _is_pair(value: Any) -> bool:
    try:
        return len(value) == 2 and all(np.ndim(part) == 1 for part in value)
    except (TypeError, ValueError):  # no sequence, or parts that are pairs of arrays of unequal lengths
        return False


def _from_splitter(cache: FeatureCache, splitter: Any, groups: Groups | None) -> list[Any]:
    rows = np.zeros((len(cache), 1))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The groups parameter is ignored")
            return list(splitter.split(rows, cache.labels, None if groups is None else groups.ids))
    except (TypeError, ValueError) as error:
        advice = "" if groups is not None else ". If it needs groups, pass groups, such as find_groups(cache).groups"
        raise SplitError(f"the splitter {splitter!r} cannot split this cache: {error}{advice}") from error


def _as_folds(folds: Iterable[Any]) -> list[Split]:
    """Return folds with their numbers; a fold that tests a row again begins a new repeat."""
    splits = []
    for fold in folds:
        if not isinstance(fold, Split) and not _is_pair(fold):
            raise SplitError(f"a fold must be a Split or a pair (train, test) of row numbers, got {fold!r}")
        splits.append(fold if isinstance(fold, Split) else Split(*fold))
    if not splits:
        raise SplitError("parameter split must have at least one fold, got none")
    if len(splits) == 1 or all(split.fold is not None for split in splits):
        return splits
    repeats: list[list[Split]] = [[]]
    for split in splits:
        if any(np.isin(split.test, other.test).any() for other in repeats[-1]):
            repeats.append([])
        repeats[-1].append(split)
    return [
        replace(split, fold=fold, folds=len(of_repeat), repeat=repeat)
        for repeat, of_repeat in enumerate(repeats)
        for fold, split in enumerate(of_repeat)
    ]


def check_folds(split: SplitLike | None, folds: Any, repeats: Any) -> None:
    """Check the parameters ``folds`` and ``repeats``."""
    if folds is not None:
        check_int("folds", "compare", folds, 2)
    check_int("repeats", "compare", repeats, 1)
    if repeats > 1 and folds is None:
        raise SplitError(f"parameter repeats of compare repeats folds, got repeats={repeats} without folds")
    if folds is not None and split is not None and not (isinstance(split, str) and split in ("random", "grouped")):
        got = repr(str(split)) if isinstance(split, (str, os.PathLike)) else f"a {type(split).__name__}"
        raise SplitError(
            "parameter folds of compare is for random and grouped splits, since other splits have their parts or "
            f"folds already, got folds={folds} with split={got}"
        )


def check_test_fraction(
    owner: str, test_fraction: Any, cache: FeatureCache, split: SplitLike | None, folds: int | None = None
) -> None:
    """Check the parameter ``test_fraction``, which is for random and grouped splits."""
    if test_fraction is None:
        return
    if not is_number(test_fraction) or not 0 < test_fraction < 1:
        raise ParameterError(
            f"parameter test_fraction of {owner} must be a number between 0 and 1, got {describe(test_fraction)}"
        )
    reason = ""
    if folds is not None:
        reason = f"folds={folds}. Each fold tests one part of {folds}"
    elif split is None and given_split(cache) is not None:
        reason = "the split of the image folder. Give split='grouped' or 'random'"
    elif split is not None and not (isinstance(split, str) and split in ("random", "grouped")):
        shown = repr(str(split)) if isinstance(split, (str, os.PathLike)) else f"a {type(split).__name__}"
        reason = f"split={shown}, which has its parts already"
    if reason:
        raise SplitError(
            f"parameter test_fraction of {owner} is for random and grouped splits, got {test_fraction} with {reason}"
        )


def check_class_sizes(cache: FeatureCache, split: SplitLike | None, parts: int = 2) -> None:
    """Raise SplitError if a class has too few images for a random or grouped split, before the search for groups."""
    if len(cache.class_names) < 2:
        raise SplitError(
            f"{cache.display_path} has images of {len(cache.class_names)} class, and a head needs at least 2. Put the "
            "images into one folder per class and run embedonce extract again, or change labels with: embedonce label "
            "CACHE --labels FILE"
        )
    if split is None and parts == 2 and given_split(cache) is not None:
        return
    if split is None or (isinstance(split, (str, os.PathLike)) and str(split) in ("random", "grouped")):
        require_enough(cache.class_names, list(cache.class_counts.values()), parts, False)


def untrained_classes(cache: FeatureCache, splits: Sequence[Split]) -> dict[str, int]:
    """Return the number of test images of every class that a split tests without training images of it."""
    rows = [np.zeros(0, np.intp)]
    for split in splits:
        if len(split.train):
            rows.append(split.test[~np.isin(cache.labels[split.test], cache.labels[split.train])])
    labels, counts = np.unique(cache.labels[np.unique(np.concatenate(rows))], return_counts=True)
    return {cache.class_names[label]: int(count) for label, count in zip(labels, counts, strict=True)}


FEW, FEW_ERRORS = 25, 10
"""Below this number of test images, or groups of equal size, of a class, and of images, or groups, with an error,
intervals may be too narrow or too wide."""
UNEQUAL = 0.6
"""Below this ratio of groups of equal size to groups, intervals may be too narrow if larger groups are harder."""

_FOLDS, _LISTED = 5, 6  # that a note proposes, and classes that it names


def notes_on_size(
    cache: FeatureCache,
    split: Split,
    folds: Sequence[Split] = (),
    groups: Groups | None = None,
    scored: tuple[str, npt.NDArray[np.bool_]] | None = None,
) -> list[str]:
    """Return a note on the classes of which few images, or groups, are tested, or on few errors of a head.

    ``scored`` is the name of the head, and which test images it classifies correctly, bool, shape (t,).
    """
    few, most = [], _FOLDS
    for label, name in enumerate(cache.class_names):
        rows = split.test[cache.labels[split.test] == label]
        tested = units(None if groups is None else groups.ids[rows], len(rows))
        if len(rows) and tested.effective < FEW:
            in_groups = "" if tested.alone else f" in {tested.groups:,} group{'s' * (tested.groups != 1)}"
            few.append(f"{display(name)} ({len(rows):,}{in_groups})")
            everywhere = np.flatnonzero(cache.labels == label)
            most = min(most, len(np.unique(everywhere if groups is None else groups.ids[everywhere])))
    if not few:
        if not len(split.test):
            return []
        tested = units(None if groups is None else groups.ids[split.test], len(split.test))
        return ([] if scored is None else _note_on_errors(*scored, tested)) + _note_on_sizes(tested)
    shown = ", ".join(few[:_LISTED]) + (f" and {len(few) - _LISTED} other classes" if len(few) > _LISTED else "")
    no_folds = folds or split.method not in ("random", "grouped") or most < 2
    advice = "" if no_folds else f". Test all with compare --folds {most}"
    return [f"few test images, so intervals may be too narrow or too wide: {shown}{advice}"]


def _note_on_sizes(tested: Clusters) -> list[str]:
    if tested.effective >= UNEQUAL * tested.groups:
        return []
    sizes = np.bincount(tested.of_row)
    differ = f"differ much in size ({sizes.min():,} to {sizes.max():,} images)"
    tested_groups = f"the {tested.groups:,} groups of test images"
    return [f"{tested_groups} {differ}, so intervals may be too narrow if larger ones are harder"]


def _note_on_errors(name: str, correct: npt.NDArray[np.bool_], tested: Clusters) -> list[str]:
    wrong = len(np.unique(tested.of_row[~correct]))
    if wrong >= FEW_ERRORS:
        return []
    unit = "test images" if tested.alone else "groups of test images"
    counted_groups = f"{wrong:,} of {tested.groups:,} {unit}"
    return [f"{display(name)} errs in {counted_groups} only, so intervals may be too narrow or too wide"]


def notes_on(
    cache: FeatureCache,
    split: Split,
    folds: Sequence[Split] = (),
    groups: Groups | None = None,
    scored: tuple[str, npt.NDArray[np.bool_]] | None = None,
) -> list[str]:
    """Return remarks for readers of scores on this cache and split, which merges the folds if there are any.

    ``scored`` is the best head: see `notes_on_size`.
    """
    notes = [
        f"class {display(name)} has {counted(count, 'test image(s)')} and no training image, so no head can predict "
        "it and every score is too low"
        for name, count in untrained_classes(cache, folds or [split]).items()
    ]
    if cache.random_weights:
        notes.append(
            f"the features come from random weights ({cache.random_weights}), not from a trained network, so the "
            "scores only show that the tool works"
        )
    notes += notes_on_size(cache, split, folds, groups, scored)
    identical = identical_in_training(split, cache)
    if identical:
        notes.append(
            f"{identical:,} of {len(split.test):,} test images have the same bytes as a training image, so every score "
            "is too high"
        )
    if cache.unlabelled:
        notes.append(counted(cache.unlabelled, "image(s) (has|have) no label and (is|are) left out"))
    if cache.rejects:
        notes.append(counted(len(cache.rejects), "image(s) could not be embedded and (is|are) left out"))
    notes += split.notes()
    unnamed = len(cache) - len(split.train) - len(split.test) - len(split.validation)
    if split.method == "file" and unnamed:
        notes.append(f"{unnamed:,} of the {len(cache):,} images are in no part of the split file, so they are left out")
    missing = [display(name) for name, count in cache.class_counts.items() if not count]
    if missing:
        notes.append(f"no image of class {', '.join(missing)} could be embedded")
    return notes
