"""Every form of the parameter split becomes one plan."""

from __future__ import annotations

import numpy as np
import pytest
from embedonce import FeatureCache
from embedonce.errors import ParameterError, SplitError
from embedonce.evaluate.comparison.run import compare
from embedonce.evaluate.models.training import train
from embedonce.evaluate.splits.groups import Groups
from embedonce.evaluate.splits.plan import (
    SplitPlan,
    check_class_sizes,
    check_folds,
    make_split,
    make_splits,
    notes_on,
    plan_splits,
)
from embedonce.evaluate.splits.split import Split
from embedonce.evaluate.tuning.run import tune
from sklearn.model_selection import (
    GroupKFold,
    GroupShuffleSplit,
    LeaveOneGroupOut,
    RepeatedStratifiedKFold,
    ShuffleSplit,
    StratifiedKFold,
)
from split_caches import cache_of


@pytest.fixture
def cache():
    return cache_of({f"{name}/{number}.png": name for name in "ab" for number in range(20)})


@pytest.fixture
def groups(cache):
    return Groups(cache.paths, [f"g{row // 2}" for row in range(len(cache))])


def rows_of(plan):
    return [(split.train.tolist(), split.test.tolist()) for split in plan]


@pytest.mark.parametrize("form", ["Split", "arrays", "lists", "tuple of unequal length", "list of one"])
def test_one_split_may_be_given_in_many_forms(cache, groups, form):
    split = Split(np.arange(0, 40, 2), np.arange(1, 40, 2))
    shorter = Split(np.arange(0, 40, 2), [1, 3])
    given = {
        "Split": split,
        "arrays": (split.train, split.test),
        "lists": [split.train.tolist(), split.test.tolist()],
        "tuple of unequal length": (shorter.train, shorter.test),
        "list of one": [split],
    }[form]
    plan = make_splits(cache, given, 0, groups)
    expected = shorter if "unequal" in form else split
    assert rows_of(plan) == rows_of([expected])
    assert (plan.method, plan.has_folds) == ("custom", False)
    assert plan.merged.groups["leak_share"] == 1
    assert rows_of([make_split(cache, given, 0)]) == rows_of([expected])


@pytest.mark.parametrize("form", ["splitter", "pairs", "Splits", "tuple of pairs"])
def test_folds_may_be_given_in_many_forms(cache, form):
    splitter = RepeatedStratifiedKFold(n_splits=4, n_repeats=3, random_state=0)
    pairs = list(splitter.split(cache.labels, cache.labels))
    given = {
        "splitter": splitter,
        "pairs": pairs,
        "Splits": [Split(*pair) for pair in pairs],
        "tuple of pairs": tuple(pairs),
    }[form]
    plan = make_splits(cache, given, 0)
    assert rows_of(plan) == rows_of([Split(*pair) for pair in pairs])
    assert [(split.repeat, split.fold, split.folds) for split in plan] == [
        (r, f, 4) for r in range(3) for f in range(4)
    ]
    assert plan.merged.test.tolist() == list(range(40))
    again = make_splits(cache, list(plan), 0)
    assert [split.fold for split in again] == [split.fold for split in plan]


def test_two_folds_are_not_taken_for_one_split(cache):
    pairs = list(StratifiedKFold(2).split(cache.labels, cache.labels))
    assert len(make_splits(cache, pairs, 0)) == 2
    assert len(make_splits(cache, [Split(*pair) for pair in pairs], 0)) == 2


def test_a_splitter_gets_the_groups(cache, groups):
    plan = make_splits(cache, GroupKFold(4), 0, groups)
    assert [split.groups["crossing"] for split in plan] == [0] * 4
    assert len(make_splits(cache, GroupShuffleSplit(1, random_state=0), 0, groups)) == 1
    assert len(make_splits(cache, LeaveOneGroupOut(), 0, groups)) == 20
    with pytest.raises(SplitError, match=r"the splitter GroupKFold.* cannot split this cache: .*groups"):
        make_splits(cache, GroupKFold(4), 0)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (
            "magic",
            "must be random or grouped, the path of a split file, FILE:COLUMN, or @NAME for a column of metadata, got 'magic'",
        ),
        ("grouped", "must be random or a file when there are no groups"),
        (7, "a splitter with a method split, or a list of folds, got 7"),
        ([], "must have at least one fold, got none"),
        ([1, 2, 3], r"a fold must be a Split or a pair \(train, test\) of row numbers, got 1"),
        (Split([0], [40]), "must have rows of the 40 images of trees.h5, got row 40. Make the split for this cache"),
        ([([0], [1]), ([1], [0]), ([0], [1])], "those of each repeat the same images"),
        (ShuffleSplit(3, test_size=0.5, random_state=0), "Use a splitter such as StratifiedGroupKFold"),
    ],
)
def test_what_is_not_a_split_is_refused(cache, split, message):
    with pytest.raises(SplitError, match=message):
        make_splits(cache, split, 0)


def test_groups_of_other_images_are_refused(cache):
    with pytest.raises(SplitError, match="parameter groups must be of the 40 images"):
        make_splits(cache, "random", 0, Groups(["x"], ["p"]))


def test_one_split_is_asked_for_and_folds_are_given(cache):
    with pytest.raises(SplitError, match="one training and one test part here, got 5 folds"):
        make_split(cache, StratifiedKFold(5), 0)


def test_without_a_split_groups_decide_the_plans(cache, groups):
    def methods(groups):
        plans, notes = plan_splits(cache, None, 0, groups)
        return [plan.method for plan in plans], notes

    assert methods(None) == (["random"], [])
    assert methods(groups) == (["grouped", "random"], [])
    for source, alone in (("found", "no image has a near-duplicate"), ("file", "no two images are of one group")):
        assert methods(Groups(cache.paths, cache.paths, source)) == (
            ["random"],
            [f"{alone}, so the split is random"],
        )
    by_class = Groups(cache.paths, [path[0] for path in cache.paths], "found")
    assert methods(by_class)[0] == ["random"]
    with pytest.raises(SplitError, match="at least 2 groups"):
        methods(Groups(cache.paths, by_class.names))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((None, 1, 1), "parameter folds of compare must be an integer of at least 2, got 1"),
        ((None, True, 1), "parameter folds of compare"),
        ((None, 5, 0), "parameter repeats of compare must be an integer of at least 1, got 0"),
        ((None, None, 2), "repeats folds, got repeats=2 without folds"),
        (("split.csv", 5, 1), "is for random and grouped splits.*got folds=5 with split='split.csv'"),
        ((StratifiedKFold(5), 5, 1), "with split=a StratifiedKFold"),
    ],
)
def test_folds_that_cannot_be_are_refused(options, message):
    with pytest.raises((ParameterError, SplitError), match=message):
        check_folds(*options)


def test_a_plan_says_what_it_is(cache):
    plan = make_splits(cache, "random", 0, None, 5, 2)
    assert repr(plan) == "<SplitPlan random: 10 splits>"
    assert repr(SplitPlan(plan.splits[:1])) == "<SplitPlan random: 1 split>"
    assert [len(folds) for folds in plan.repeats] == [5, 5]


def test_a_class_that_cannot_be_predicted_is_noted_first(cache):
    train = np.flatnonzero(cache.labels == 0)[:10]
    test = np.setdiff1d(np.arange(len(cache)), train)
    note = notes_on(cache, Split(train, test))[0]
    assert note.startswith("class b has 20 test images and no training image")
    assert not [note for note in notes_on(cache, Split(test, train)) if "no training image" in note]


@pytest.mark.parametrize("split", [None, "grouped", "random"])
def test_a_small_class_is_refused_before_the_search(split, monkeypatch, tmp_path):
    def search(*args, **kwargs):
        raise AssertionError("near-duplicates were searched")

    monkeypatch.setattr("embedonce.evaluate.duplicates.find.find_duplicates", search)
    rng = np.random.default_rng(0)
    cache = FeatureCache.from_arrays(rng.normal(size=(11, 8)), ["a"] * 10 + ["b"], signatures=np.zeros((11, 784)))
    for work in (
        lambda: compare(cache, ["knn"], split=split),
        lambda: compare(cache, ["knn"], split=split, folds=5),
        lambda: tune(cache, "knn", split=split),
        lambda: train(cache, "knn", tmp_path / "a.npz", split=split),
    ):
        with pytest.raises(SplitError, match="images in every class, but b has 1.*remove the class folder"):
            work()


def test_one_class_is_refused_before_the_work():
    cache = cache_of({f"a/{number}.png": "a" for number in range(9)})
    for split in (None, "random", "split.csv"):
        with pytest.raises(SplitError, match=r"trees.h5 has images of 1 class, and a head needs at least 2. Put the"):
            check_class_sizes(cache, split)


def test_classes_with_few_test_images_or_groups_are_named():
    labels = ["cat"] * 200 + ["dog"] * 100 + ["eel"] * 40
    cache = FeatureCache.from_arrays(np.zeros((340, 2), np.float32), labels)
    test = np.r_[0:50, 200:230, 300:307]
    train = np.setdiff1d(np.arange(340), test)
    (note,) = [note for note in notes_on(cache, Split(train, test, "random")) if "few test images" in note]
    assert (
        note == "few test images, so intervals may be too narrow or too wide: eel (7). Test all with compare --folds 5"
    )
    groups = Groups(cache.paths, [f"g{row // 3}" for row in range(340)])
    (note,) = [note for note in notes_on(cache, Split(train, test, "grouped"), groups=groups) if "few test" in note]
    assert "cat (50 in 17 groups), dog (30 in 11 groups), eel (7 in 3 groups)" in note
    (note,) = [note for note in notes_on(cache, Split(train, test, "file"), groups=groups) if "few test" in note]
    assert "--folds" not in note


@pytest.mark.parametrize(
    ("in_groups", "note"), [(0, "knn errs in 6 of 100 test images only"), (2, "knn errs in 3 of 50 groups of test")]
)
def test_few_errors_of_the_best_head_are_noted(in_groups, note):
    cache = FeatureCache.from_arrays(np.zeros((400, 2), np.float32), ["cat", "dog"] * 200)
    groups = Groups(cache.paths, [f"g{row // in_groups}" for row in range(400)]) if in_groups else None
    split = Split(np.arange(100, 400), np.arange(100), "random")
    correct = np.arange(100) >= 6
    assert any(note in each for each in notes_on(cache, split, groups=groups, scored=("knn", correct)))
    many = np.arange(100) >= 40
    assert not any("errs" in each for each in notes_on(cache, split, groups=groups, scored=("knn", many)))


def test_groups_that_differ_much_in_size_are_noted():
    cache = FeatureCache.from_arrays(np.zeros((2000, 2), np.float32), ["cat", "dog"] * 1000)
    split = Split(np.arange(1600, 2000), np.arange(1600), "grouped")
    notes = {}
    for name, sizes in (("even", [10] * 160), ("uneven", [2] * 200 + [30] * 40)):
        numbers = [*np.repeat(np.arange(len(sizes)), sizes), *range(1000, 1400)]
        groups = Groups(cache.paths, [f"g{number}" for number in numbers])
        notes[name] = [note for note in notes_on(cache, split, groups=groups) if "differ much in size" in note]
    assert not notes["even"]
    assert "the 240 groups of test images differ much in size (2 to 30 images)" in notes["uneven"][0]
