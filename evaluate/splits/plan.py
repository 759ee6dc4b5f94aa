"""The splits that heads are scored on: grouped, random, folds or those of the user."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...cache import FeatureCache, display
from ...errors import SplitError
from .groups import Groups
from .make import has_folds, make_folds, make_split
from .split import Split, identical_in_training


def plan_splits(
    cache: FeatureCache,
    split: str | Path | Split | None,
    seed: int,
    groups: Groups | None,
    folds: int | None = None,
    repeats: int = 1,
) -> tuple[list[list[Split]], list[str]]:
    """Return the splits to score heads on, and what to know of the choice.

    Returns
    -------
    list of list of Split
        One or two, the honest one first; each is one split or the folds of all repeats.
    list of str

    Raises
    ------
    SplitError
        When a split is impossible.
    """
    check_folds(split, folds, repeats)
    if isinstance(split, Split):
        return [[split]], []

    def make(method: str | Path) -> list[Split]:
        if folds is None and not has_folds(method):
            return [make_split(cache, method, seed, groups)]
        return make_folds(cache, method, seed, groups, folds or 2, repeats)

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
    SplitError
        When they are no whole numbers, too small, or do not go together with the split.
    """
    for name, value, least in (("folds", folds, 2), ("repeats", repeats, 1)):
        if value is None and name == "folds":
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise SplitError(f"parameter {name} of compare must be a whole number from {least} on, got {value!r}")
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
