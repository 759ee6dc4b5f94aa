"""One split of a cache's images, and its leakage: groups and identical files on both sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache, counted, format_examples
from ...errors import SplitError
from .groups import Groups

Rows = npt.NDArray[np.intp]

TEST_FRACTION = 0.2


@dataclass(frozen=True, eq=False)
class Split:
    """Rows of a cache for training and rows for testing.

    Parameters
    ----------
    train, test : array-like of int
        Row numbers, each once and in one part only. They are kept sorted and read-only.
    method : {"random", "grouped", "given", "file", "custom", "none", "model"}, default="custom"
        How the split was made: ``given`` is that of the image folder; ``none`` means that every row is for training,
        ``model`` that a trained model is tested.
    seed : int, default=None
        Seed of a random or grouped split.
    fold, repeat : int, default=None
        Number of the fold that is tested and of the repeat, from 0.
    folds : int, default=None
        Number of folds.
    moved : array-like of int, default=()
        Rows that are in another part than their hash says, so that every class is in every part. Only these may change
        their part when images are added.
    groups : mapping, default=None
        Report of the groups on both sides: see ``group_report`` in `split`.
    parts : sequence of Split, default=()
        The folds that this split merges.
    test_fraction : float, default=None
        Fraction of the images, or groups, that a random or grouped split was to test.
    validation : array-like of int, default=()
        Rows that no head is trained or tested on. A search of parameters and the curves of training are scored on them.

    Raises
    ------
    SplitError
        If rows are not integers, negative, given twice or in two parts, or if train or test is empty.

    See Also
    --------
    embedonce.compare : Train and test heads on a split.
    embedonce.Groups : Images that belong together.

    Examples
    --------
    >>> from embedonce import Split
    >>> split = Split([2, 0, 1], [4, 3])
    >>> split
    <Split custom: 3 rows for training, 2 for testing>
    >>> split.train
    array([0, 1, 2])
    """

    train: Rows
    test: Rows
    method: str = "custom"
    seed: int | None = None
    fold: int | None = None
    folds: int | None = None
    repeat: int | None = None
    moved: Rows = field(default_factory=lambda: np.zeros(0, np.intp))
    groups: Mapping[str, Any] | None = None
    parts: Sequence[Split] = ()
    validation: Rows = field(default_factory=lambda: np.zeros(0, np.intp))
    test_fraction: float | None = None

    def __post_init__(self) -> None:
        for name in ("train", "test", "moved", "validation"):
            object.__setattr__(self, name, _checked_rows(getattr(self, name), name))
        empty = {"train": bool(self.parts) or self.method == "model", "test": self.method == "none"}
        for name, may_be_empty in empty.items():
            if not len(getattr(self, name)) and not may_be_empty:
                raise SplitError(f"parameter {name} of Split must have at least one row, got none")
        for name, other in (("train", "test"), ("train", "validation"), ("test", "validation")):
            both = np.intersect1d(getattr(self, name), getattr(self, other), assume_unique=True)
            if len(both):
                raise SplitError(
                    f"a row of Split must be in {name} or in {other}, got {len(both):,} in both: "
                    f"{format_examples([str(row) for row in both[:4]])}"
                )

    def __repr__(self) -> str:
        seed = "" if self.seed is None else f", seed {self.seed}"
        validation = f", {len(self.validation):,} for validation" if len(self.validation) else ""
        sizes = f"{len(self.train):,} rows for training, {len(self.test):,} for testing{validation}"
        return f"<Split {self.method}{seed}: {sizes}>"

    @property
    def has_near_duplicates(self) -> bool:
        """True if the groups are near-duplicates that were found, False if the user gave them or there are none."""
        return self.groups is not None and self.groups["group_source"] == "found"

    def to_dict(self) -> dict[str, Any]:
        """Return method, sizes and the report of groups, JSON-serialisable, without what does not apply."""
        about: dict[str, Any] = {
            "method": self.method,
            "seed": self.seed,
            "train": len(self.train),
            "test": len(self.test),
        }
        if self.test_fraction is not None:
            about["test_fraction"] = self.test_fraction
        if len(self.validation):
            about["validation"] = len(self.validation)
        if self.fold is not None:
            about |= {"fold": self.fold, "folds": self.folds, "repeat": self.repeat}
        if len(self.moved):
            about["moved"] = len(self.moved)
        if self.groups is not None:
            about["groups"] = dict(self.groups)
        if self.parts:
            about["train"] = round(sum(len(part.train) for part in self.parts) / len(self.parts))
            about |= {"folds": self.folds, "repeats": 1 + max(part.repeat or 0 for part in self.parts)}
            about["parts"] = [part.to_dict() for part in self.parts]
        return about

    @property
    def _usual_test_size(self) -> int:
        """Number of test images if groups are small."""
        if self.folds:
            images = len(self.test) if self.parts else len(self.train) + len(self.test)
            return round(images / self.folds)
        images = len(self.train) + len(self.test)
        return len(self.test) if self.test_fraction is None else round(self.test_fraction * images)

    def notes(self) -> list[str]:
        """Return remarks for readers of scores on this split."""
        notes = []
        if len(self.validation):
            notes.append(
                f"{counted(len(self.validation), 'image(s) (is|are)')} for validation: no head is trained or tested on "
                "them. A search of parameters and the curves of training are scored on them"
            )
        if len(self.moved):
            notes.append(
                f"{counted(len(self.moved), 'image(s) of small classes (was|were)')} moved so that every class is in "
                "every part of the split; this may change when images are added"
            )
        if self.groups is not None and len(self.test) and self.groups["largest"] > self._usual_test_size:
            notes.append(
                f"the largest group has {self.groups['largest']:,} images, more than a test part of "
                f"{self._usual_test_size:,}, so the scores depend much on the part that it is in"
            )
        if self.has_near_duplicates and not (self.groups or {}).get("crossing"):
            notes.append(
                "no near-duplicate of a test image is in training, but images can still belong together, such as those "
                "of one patient. embedonce groups CACHE --suggest proposes such groups"
            )
        if self.groups is not None and self.groups["crossing"]:
            notes.append(
                f"{100 * self.groups['leak_share']:.1f} % of the test images have an image of their group in training, "
                f"so every score is too high ({self.groups['crossing']:,} of {self.groups['groups']:,} groups are on "
                "both sides); split='grouped' keeps groups together"
            )
        return notes


def _checked_rows(values: Any, name: str) -> Rows:
    given = np.asarray(values)
    if given.ndim != 1 or (given.size and not np.issubdtype(given.dtype, np.integer)):
        raise SplitError(
            f"parameter {name} of Split must be a one-dimensional array of row numbers, got an array of "
            f"{given.dtype} with shape {given.shape}"
        )
    rows: Rows = np.sort(given).astype(np.intp)
    if len(rows) and rows[0] < 0:
        raise SplitError(f"parameter {name} of Split must have row numbers from 0, got {rows[0]}")
    twice = rows[1:][rows[1:] == rows[:-1]]
    if len(twice):
        raise SplitError(f"parameter {name} of Split must have each row once, got row {twice[0]} twice")
    rows.flags.writeable = False
    return rows


def merge_folds(splits: Sequence[Split]) -> Split:
    """Return the folds of a cross-validation as one split that tests the rows of all folds and trains on none."""
    first = [split for split in splits if (split.repeat or 0) == (splits[0].repeat or 0)]
    groups = None
    if first[0].groups is not None:
        reports = [dict(split.groups or {}) for split in first]
        sizes = [len(split.test) for split in first]
        groups = {key: reports[0][key] for key in ("groups", "group_source", "group_digest")}
        groups["largest"] = max(report["largest"] for report in reports)
        groups["crossing"] = max(report["crossing"] for report in reports)
        groups["leak_share"] = float(np.average([report["leak_share"] for report in reports], weights=sizes))
    return Split(
        np.zeros(0, np.intp),
        np.concatenate([split.test for split in first]),
        first[0].method,
        first[0].seed,
        folds=len(first),
        moved=np.unique(np.concatenate([split.moved for split in splits])),
        groups=groups,
        parts=tuple(splits),
    )


def every_row(cache: FeatureCache) -> Split:
    """Return the split that trains on every row and tests on none."""
    return Split(np.arange(len(cache)), np.zeros(0, np.intp), "none")


def leaked_fraction(split: Split, groups: Groups) -> float:
    """Return the fraction of test images that have an image of their group in training."""
    train, test = _group_ids(split, groups)
    return float(np.isin(test, train).mean()) if len(test) else 0.0


def group_report(split: Split, groups: Groups) -> dict[str, Any]:
    """Return the leakage of a split, JSON-serialisable: numbers of groups on each side and on both."""
    train, test = _group_ids(split, groups)
    return {
        "groups": len(groups),
        "largest": int(np.bincount(np.concatenate([train, test])).max(initial=0)),
        "train_groups": len(np.unique(train)),
        "test_groups": len(np.unique(test)),
        "crossing": len(np.intersect1d(train, test)),
        "leak_share": leaked_fraction(split, groups),
        "group_source": groups.source,
        "group_digest": groups.digest,
    }


def check_no_leakage(split: Split, groups: Groups) -> dict[str, Any]:
    """Return the report of groups of a split, or raise if a group, by name, has images on both sides."""
    report = group_report(split, groups)
    crossing = sorted({groups.names[row] for row in split.train} & {groups.names[row] for row in split.test})
    if crossing:
        raise SplitError(
            f"no group may be on both sides of a grouped split, got {len(crossing):,} of {len(groups):,} that are: "
            f"{format_examples(crossing)}. Make the split again from these groups"
        )
    return report


def with_groups(split: Split, groups: Groups | None, check: bool = False) -> Split:
    """Return the split with its report of groups; with ``check``, leakage is an error."""
    if groups is None:
        return split
    return replace(split, groups=check_no_leakage(split, groups) if check else group_report(split, groups))


def identical_in_training(split: Split, cache: FeatureCache) -> int:
    """Return how many test images have the same bytes as a training image, in the first repeat of folds."""
    if split.parts:
        return sum(identical_in_training(part, cache) for part in split.parts if not part.repeat)
    digests = [digest.tobytes() for digest in cache.files.hashes]
    training = {digests[row] for row in split.train}
    return sum(digests[row] in training for row in split.test)


def _group_ids(split: Split, groups: Groups) -> tuple[Rows, Rows]:
    highest = int(np.concatenate([split.train, split.test]).max(initial=-1))
    if highest >= len(groups.ids):
        raise SplitError(
            f"parameter groups must have a group for every row of the split, got groups of {len(groups.ids):,} rows "
            f"for a split with row {highest}. Read or find them again for this cache"
        )
    return groups.ids[split.train], groups.ids[split.test]
