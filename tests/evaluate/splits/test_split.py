"""A split checks its rows and reports leakage."""

from __future__ import annotations

import numpy as np
import pytest
from embedonce.errors import SplitError
from embedonce.evaluate.splits.groups import Groups
from embedonce.evaluate.splits.plan import make_split, make_splits
from embedonce.evaluate.splits.split import (
    Split,
    check_no_leakage,
    every_row,
    identical_in_training,
    leaked_fraction,
    with_groups,
)
from split_caches import cache_of


@pytest.fixture
def cache():
    return cache_of({f"{name}/{number}.png": name for name in "ab" for number in range(100)})


def test_rows_are_sorted_copied_and_read_only():
    rows = np.array([3, 1])
    split = Split(rows, [0])
    rows[0] = 7
    assert split.train.tolist() == [1, 3]
    with pytest.raises(ValueError, match="read-only"):
        split.train[0] = 5
    with pytest.raises(AttributeError):
        split.seed = 1


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ([0.0, 1.0], [2], "parameter train of Split .* row numbers, got an array of float64"),
        ([0], np.array([True, False]), "parameter test of Split .* row numbers, got an array of bool"),
        ([[0, 1]], [2], r"one-dimensional array of row numbers, got an array of int64 with shape \(1, 2\)"),
        ([0, -1], [2], "parameter train of Split must have row numbers from 0, got -1"),
        ([0, 1, 1], [2], "parameter train of Split must have each row once, got row 1 twice"),
        ([0, 1], [1, 2], "in train or in test, got 1 in both: 1"),
        ([], [1], "parameter train of Split must have at least one row"),
        ([1], [], "parameter test of Split must have at least one row"),
    ],
)
def test_rows_that_make_no_split_are_refused(train, test, message):
    with pytest.raises(SplitError, match=message):
        Split(train, test)


def test_leakage_is_counted_and_refused_by_the_check():
    groups = Groups(["1", "2", "3", "4", "5"], ["p", "p", "q", "r", "r"])
    split = Split([0, 2], [1, 3, 4])
    with pytest.raises(SplitError, match="got 1 of 3 that are: p. Make"):
        check_no_leakage(split, groups)
    assert leaked_fraction(split, groups) == pytest.approx(1 / 3)
    assert leaked_fraction(Split([0, 1], [2, 3]), groups) == 0
    with pytest.raises(SplitError, match="groups of 5 rows for a split with row 7"):
        leaked_fraction(Split([7], [1]), groups)


def test_a_random_split_notes_its_leakage(cache):
    groups = Groups(cache.paths, [path[:3] for path in cache.paths], "found")  # about ten images each
    split = make_split(cache, "random", 0, groups)
    assert split.groups["leak_share"] > 0.8
    assert split.groups["group_source"] == "found"
    assert "of the test images have an image of their group in training" in split.notes()[0]
    grouped = make_split(cache, "grouped", 0, groups)
    assert grouped.groups["crossing"] == 0
    assert [note.partition(",")[0] for note in grouped.notes()] == ["no near-duplicate of a test image is in training"]
    report = grouped.groups
    assert report["train_groups"] + report["test_groups"] == report["groups"] == 20


def test_a_group_larger_than_a_test_part_is_noted(cache):
    def notes(groups, folds=None):
        plan = make_splits(cache, "grouped", 0, Groups(cache.paths, groups, "file"), folds)
        return [note for note in plan.merged.notes() if "the largest group" in note]

    even = [str(row % 20) for row in range(200)]
    assert not notes(even)
    large = ["large" if row < 60 else str(row) for row in range(200)]
    assert notes(large)[0].startswith("the largest group has 60 images, more than a test part of 40, so")
    assert notes(large, 2) == []
    assert "more than a test part of 40" in notes(large, 5)[0]


def test_given_groups_are_not_called_near_duplicates(cache):
    groups = Groups(cache.paths, [path[:3] for path in cache.paths], "file")
    for method in ("random", "grouped"):
        assert not any("duplicate" in note for note in make_split(cache, method, 0, groups).notes())


def test_a_fold_describes_itself(cache):
    about = make_splits(cache, "random", 1, None, 4, 2)[5].to_dict()
    assert {name: about[name] for name in ("method", "seed", "fold", "folds", "repeat")} == {
        "method": "random", "seed": 1, "fold": 1, "folds": 4, "repeat": 1,
    }  # fmt: skip
    assert about["train"] + about["test"] == 200
    assert set(make_split(cache, "random", 1).to_dict()) == {"method", "seed", "train", "test", "test_fraction"}


def test_identical_files_on_both_sides_are_counted(cache):
    cache.files.hashes[199] = cache.files.hashes[0]
    assert identical_in_training(Split(np.arange(190), np.arange(190, 200)), cache) >= 1
    assert identical_in_training(every_row(cache), cache) == 0
    assert with_groups(every_row(cache), Groups(cache.paths, cache.paths)).groups["leak_share"] == 0
