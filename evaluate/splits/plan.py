"""The splits that heads are scored on: grouped, random, folds or those of the user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

from ...cache import FeatureCache, display
from ...errors import SplitError, check_int
from .groups import Groups
from .make import has_folds, make_folds, make_split
from .split import Split, identical_in_training, merge_folds


@dataclass(frozen=True, eq=False)
class SplitPlan(Sequence[Split]):
    """The splits that heads are scored on by one method: a single split, or the folds of all repeats.

    Attributes
    ----------
    splits : tuple of Split
        All folds of the first repeat, then those of the second, and so on.
    """

    splits: tuple[Split, ...]

    @property
    def method(self) -> str:
        """``random``, ``grouped``, ``file``, ``none`` or ``custom``."""
        return self.splits[0].method

    @property
    def has_folds(self) -> bool:
        """Whether this is a cross-validation."""
        return len(self.splits) > 1

    @property
    def repeats(self) -> tuple[tuple[Split, ...], ...]:
        """The folds of every repeat."""
        numbers = sorted({split.repeat or 0 for split in self.splits})
        return tuple(tuple(split for split in self.splits if (split.repeat or 0) == number) for number in numbers)

    @cached_property
    def merged(self) -> Split:
        """The single split, or all folds as one: see :func:`merge_folds`."""
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
    split: str | Path | Split | None,
    seed: int,
    groups: Groups | None,
    folds: int | None = None,
    repeats: int = 1,
) -> tuple[list[SplitPlan], list[str]]:
    """Return the splits to score heads on, and what to know of the choice.

    Returns
    -------
    list of SplitPlan
        One or two, the grouped one first.
    list of str

    Raises
    ------
    SplitError
        When a split is impossible.
    """
    check_folds(split, folds, repeats)
    if isinstance(split, Split):
        return [SplitPlan((split,))], []

    def make(method: str | Path) -> SplitPlan:
        if folds is None and not has_folds(method):
            return SplitPlan((make_split(cache, method, seed, groups),))
        return SplitPlan(tuple(make_folds(cache, method, seed, groups, folds or 2, repeats)))

    if split is not None:
        return [make(split)], []
    if groups is None:
        return [make("random")], []
    if len(groups) == len(cache):
        return [make("random")], [
            "no image has a copy among the others, so there is nothing to leak: the split is random"
        ]
    try:
        return [make("grouped"), make("random")], []
    except SplitError as error:
        if groups.source != "found":  # the user's own groups are meant to be kept
            raise
        return [make("random")], [f"copies of one original could not be kept together, so the split is random: {error}"]


def check_folds(split: Any, folds: Any, repeats: Any) -> None:
    """Check the parameters ``folds`` and ``repeats``.

    Raises
    ------
    ParameterError
        If one of them is not an integer, or is too small.
    SplitError
        If they cannot be combined with the split.
    """
    if folds is not None:
        check_int("folds", "compare", folds, 2)
    check_int("repeats", "compare", repeats, 1)
    if repeats > 1 and folds is None:
        raise SplitError(f"parameter repeats of compare repeats folds, got repeats={repeats} without folds")
    if folds is not None and (isinstance(split, Split) or split not in (None, "random", "grouped")):
        raise SplitError(
            "parameter folds of compare is for random and grouped splits; a split file has its own parts or folds, "
            f"got folds={folds} with split={str(split) if not isinstance(split, Split) else split.method!r}"
        )


def notes_on(cache: FeatureCache, split: Split) -> list[str]:
    """Return what a reader of scores on this cache and split should know."""
    notes = []
    if cache.random_weights:
        notes.append(
            f"the features come from random weights ({cache.random_weights}), not from a trained network: "
            "the scores show that the tool works, nothing more"
        )
    copies = identical_in_training(split, cache)
    if copies:
        notes.append(
            f"{copies:,} of {len(split.test):,} test images are byte-for-byte copies of training images, "
            "which flatters every score"
        )
    if cache.rejects:
        notes.append(f"{len(cache.rejects)} image(s) could not be embedded and take no part")
    notes += split.notes()
    missing = [display(name) for name, count in cache.class_counts.items() if not count]
    if missing:
        notes.append(f"no image of class {', '.join(missing)} could be embedded")
    return notes
