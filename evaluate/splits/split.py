"""A split of a cache's images, and what crosses it: groups and copies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache
from ...errors import SplitError
from ..shared import format_examples
from .groups import Groups


@dataclass(frozen=True)
class Split:
    """Which rows of a cache are for training and which for testing.

    Attributes
    ----------
    train, test : ndarray of intp
        Row numbers, sorted. No row is in both.
    method : str
        ``random``, ``grouped``, ``file`` or ``none`` (every row is for training).
    seed : int or None
        Of a random or grouped split.
    fold, repeat : int or None
        Which of several splits this is, from 0; ``fold`` is the one that is tested.
    folds : int or None
        How many folds there are.
    moved : ndarray of intp
        Rows that are on the other side, or in another fold, than their hash says, to keep every class in every part.
        They alone may change sides when images are added.
    groups : mapping or None
        What :func:`group_report` says, when groups are known.
    parts : tuple of Split
        The folds that this one holds together: see :func:`merge_folds`.
    """

    train: npt.NDArray[np.intp]
    test: npt.NDArray[np.intp]
    method: str
    seed: int | None = None
    fold: int | None = None
    folds: int | None = None
    repeat: int | None = None
    moved: npt.NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, np.intp))
    groups: Mapping[str, Any] | None = None
    parts: tuple[Split, ...] = ()

    def __repr__(self) -> str:
        seed = "" if self.seed is None else f", seed {self.seed}"
        return f"<Split {self.method}{seed}: {len(self.train):,} rows for training, {len(self.test):,} for testing>"

    def describe(self) -> dict[str, Any]:
        """Return method, sizes and proofs, JSON-serialisable; what does not apply is left out."""
        about: dict[str, Any] = {
            "method": self.method,
            "seed": self.seed,
            "train": len(self.train),
            "test": len(self.test),
        }
        if self.fold is not None:
            about |= {"fold": self.fold, "folds": self.folds, "repeat": self.repeat}
        if len(self.moved):
            about["moved"] = len(self.moved)
        if self.groups is not None:
            about["groups"] = dict(self.groups)
        if self.parts:
            about["train"] = round(sum(len(part.train) for part in self.parts) / len(self.parts))
            about |= {"folds": self.folds, "repeats": 1 + max(part.repeat or 0 for part in self.parts)}
            about["parts"] = [part.describe() for part in self.parts]
        return about

    def notes(self) -> list[str]:
        """Return what a reader of scores on this split should know."""
        notes = []
        if len(self.moved):
            notes.append(
                f"{len(self.moved):,} image(s) of small classes were moved so that every class is in every part of the "
                "split; they may move back when images are added"
            )
        if self.groups is not None and self.groups["crossing"]:
            notes.append(
                f"{100 * self.groups['leak_share']:.1f} % of the test images have an image of their group in training, "
                f"which flatters every score ({self.groups['crossing']:,} of {self.groups['groups']:,} groups cross); "
                "split='grouped' keeps them together"
            )
        return notes


def merge_folds(splits: Sequence[Split]) -> Split:
    """Return the folds of a cross-validation as one split, whose test part holds the rows of every fold.

    Its training part is empty, since every fold has another; ``parts`` are the folds. With groups it says, over all
    folds of the first repeat, which share of the test images had an image of their group in training.
    """
    first = [split for split in splits if (split.repeat or 0) == (splits[0].repeat or 0)]
    test = np.sort(np.concatenate([split.test for split in first]))
    groups = None
    if first[0].groups is not None:
        reports = [dict(split.groups or {}) for split in first]
        sizes = [len(split.test) for split in first]
        groups = {key: reports[0][key] for key in ("groups", "group_source", "group_digest")}
        groups["crossing"] = max(report["crossing"] for report in reports)
        groups["leak_share"] = float(np.average([report["leak_share"] for report in reports], weights=sizes))
    moved = np.unique(np.concatenate([split.moved for split in splits]))
    return Split(
        np.zeros(0, np.intp), test, first[0].method, first[0].seed, None, len(first), None, moved, groups, tuple(splits)
    )


def every_row(cache: FeatureCache) -> Split:
    """Return the split that trains on everything and tests on nothing."""
    return Split(np.arange(len(cache)), np.zeros(0, np.intp), "none")


def leak_share(split: Split, groups: Groups) -> float:
    """Return the share of test images that have an image of their group in training, from 0 to 1.

    Raises
    ------
    SplitError
        When the split has rows that the groups have not.
    """
    train, test = _group_ids(split, groups)
    return float(np.isin(test, train).mean()) if len(test) else 0.0


def group_report(split: Split, groups: Groups) -> dict[str, Any]:
    """Return how the groups lie to a split, JSON-serialisable.

    Returns
    -------
    dict
        ``groups``, how many there are in the cache; ``train_groups`` and ``test_groups``, how many have images in
        each part; ``crossing``, how many have images in both; ``leak_share``, see :func:`leak_share`; ``group_source``
        and ``group_digest``, which is the SHA-256 of the file of :func:`embedonce.evaluate.splits.groups.write_groups`.

    Raises
    ------
    SplitError
        When the split has rows that the groups have not.
    """
    train, test = _group_ids(split, groups)
    return {
        "groups": len(groups),
        "train_groups": len(np.unique(train)),
        "test_groups": len(np.unique(test)),
        "crossing": len(np.intersect1d(train, test)),
        "leak_share": leak_share(split, groups),
        "group_source": groups.source,
        "group_digest": groups.digest,
    }


def check_no_leakage(split: Split, groups: Groups) -> dict[str, Any]:
    """Check that no group has images both in training and in the test part.

    It looks at the names of the groups of the split's rows, not at how the split was made.

    Returns
    -------
    dict
        See :func:`group_report`; ``crossing`` is 0.

    Raises
    ------
    SplitError
        When a group stands on both sides.
    """
    _group_ids(split, groups)
    crossing = sorted({groups.names[row] for row in split.train} & {groups.names[row] for row in split.test})
    if crossing:
        raise SplitError(
            f"no group may be on both sides of a grouped split, got {len(crossing):,} of {len(groups):,} that are: "
            f"{format_examples(crossing)}; make the split again from these groups"
        )
    return group_report(split, groups)


def with_groups(split: Split, groups: Groups | None, proof: bool = False) -> Split:
    """Return the split with a report on its groups; ``proof`` makes a group that crosses an error."""
    if groups is None:
        return split
    return replace(split, groups=check_no_leakage(split, groups) if proof else group_report(split, groups))


def identical_in_training(split: Split, cache: FeatureCache) -> int:
    """Return how many test images are byte for byte a copy of a training image, in the first repeat of folds."""
    if split.parts:
        return sum(identical_in_training(part, cache) for part in split.parts if not part.repeat)
    digests = [digest.tobytes() for digest in cache.files.hashes]
    training = {digests[row] for row in split.train}
    return sum(digests[row] in training for row in split.test)


def _group_ids(split: Split, groups: Groups) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the groups of the training rows and of the test rows."""
    highest = int(np.concatenate([split.train, split.test]).max(initial=-1))
    if highest >= len(groups.ids):
        raise SplitError(
            f"parameter groups must have a group for every row of the split, got groups of {len(groups.ids):,} rows "
            f"for a split with row {highest}; read or find them again for this cache"
        )
    return groups.ids[split.train], groups.ids[split.test]
