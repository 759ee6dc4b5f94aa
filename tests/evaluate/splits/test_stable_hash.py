"""Splits are stable, stratified, and keep groups together."""

from __future__ import annotations

import numpy as np
import pytest
from embedonce.errors import ParameterError, SplitError
from embedonce.evaluate.splits.groups import Groups
from embedonce.evaluate.splits.make import (
    folds,
    grouped_split,
    make_folds,
    make_split,
    random_split,
)
from embedonce.evaluate.splits.split import Split, check_no_leakage, leak_share
from embedonce.evaluate.splits.stable_hash import assign_parts, hash_to_unit_interval
from hypothesis import given, settings
from hypothesis import strategies as st
from split_caches import cache_of

CLASSES = ["ash", "birch", "cedar"]
SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def grown(draw):
    """Draw images with class and group, as {path: (class, group)}, and some of them that were there first."""
    images = {}
    generator = np.random.default_rng(draw(SEEDS))  # a draw for every image would take longer than what is tested
    for name in CLASSES:
        for number, groups in enumerate(generator.integers(6, 31, draw(st.integers(6, 60))).tolist()):
            images[f"{name}/{number:03d}.png"] = (name, f"{name}-{number % groups}")
    for number in range(draw(st.integers(0, 12))):  # patients with more than one class
        images[f"{CLASSES[number % 3]}/mixed{number}.png"] = (CLASSES[number % 3], f"patient {number % 4}")
    # enough of the old ones for five folds: six groups and six images of each class
    keep = dict(zip(images, generator.random(len(images)) < draw(st.floats(0, 1)), strict=True))
    first = [path for path in images if keep[path] or ("mixed" not in path and int(path[-7:-4]) < 6)]
    return images, first


def made(images, paths):
    cache = cache_of({path: images[path][0] for path in paths}, CLASSES)
    return cache, Groups(list(paths), [images[path][1] for path in paths], "file")


def sides(split, cache):
    """Return {path: in the test part}, and the paths that were moved."""
    test = set(split.test.tolist())
    return {path: row in test for row, path in enumerate(cache.paths)}, {cache.paths[row] for row in split.moved}


def every_split(cache, groups, seed):
    """Yield splits of all kinds that are defined for these images."""
    yield random_split(cache, seed)
    yield from folds(cache, 5, 2, seed)
    for make in (lambda: [grouped_split(cache, groups, seed)], lambda: folds(cache, 3, 2, seed, groups)):
        try:
            yield from make()
        except SplitError as error:
            assert "needs at least" in str(error) or "cannot be in every part" in str(error)
            return


@given(grown(), SEEDS)
@settings(max_examples=80, deadline=None)
def test_adding_images_moves_no_old_one(data, seed):
    images, first = data
    old, old_groups = made(images, first)
    new, new_groups = made(images, sorted(images))
    for before, after in zip(every_split(old, old_groups, seed), every_split(new, new_groups, seed), strict=False):
        was, moved_before = sides(before, old)
        now, moved_after = sides(after, new)
        for path in set(was) - moved_before - moved_after:
            assert now[path] == was[path]
        if not moved_before:  # every class was in every part by itself, and still is
            assert not moved_after


@given(grown(), SEEDS)
@settings(max_examples=50, deadline=None)
def test_no_group_crosses_and_every_class_is_on_both_sides(data, seed):
    images, _ = data
    cache, groups = made(images, sorted(images))
    for split in every_split(cache, groups, seed):
        np.testing.assert_array_equal(np.sort(np.concatenate([split.train, split.test])), np.arange(len(cache)))
        for part in (split.train, split.test):
            assert set(cache.labels[part]) == {0, 1, 2}
        if split.method == "grouped":
            names = np.array(groups.names)
            assert not set(names[split.train]) & set(names[split.test])
            assert split.groups["crossing"] == 0
            assert split.groups == check_no_leakage(split, groups)


@given(grown(), SEEDS, st.integers(2, 6), st.integers(1, 3))
@settings(max_examples=50, deadline=None)
def test_every_row_is_tested_in_one_fold_of_each_repeat(data, seed, k, repeats):
    images, _ = data
    cache, groups = made(images, sorted(images))
    for known in (None, groups):
        try:
            splits = folds(cache, k, repeats, seed, known)
        except SplitError as error:
            assert known is not None
            assert "needs at least" in str(error) or "cannot be in every part" in str(error)
            continue
        assert [(split.repeat, split.fold) for split in splits] == [(r, f) for r in range(repeats) for f in range(k)]
        for repeat in range(repeats):
            tested = np.concatenate([split.test for split in splits if split.repeat == repeat])
            np.testing.assert_array_equal(np.sort(tested), np.arange(len(cache)))


@given(grown(), SEEDS, st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_the_order_of_rows_does_not_matter(data, seed, random):
    images, _ = data
    shuffled = sorted(images)
    random.shuffle(shuffled)
    one, other = made(images, sorted(images)), made(images, shuffled)
    for split, again in zip(every_split(*one, seed), every_split(*other, seed), strict=True):
        assert sides(split, one[0]) == sides(again, other[0])


@pytest.mark.parametrize("seed", range(3))
def test_every_class_has_its_share_within_what_chance_allows(seed):
    images = {f"{name}/{number}.png": name for name in CLASSES for number in range(4000)}
    cache = cache_of(images)
    groups = Groups(cache.paths, [path[:-5] for path in cache.paths], "file")  # ten images each, and a few of one
    deviation = np.sqrt(0.16 / 4000)
    counts = np.array([sum(name.startswith(kind) for name in groups.names) for kind in CLASSES])
    assert (counts == 4000).all()
    by_image, by_group = random_split(cache, seed).test, grouped_split(cache, groups, seed).test
    for label in range(3):
        rows = np.flatnonzero(cache.labels == label)
        assert abs(np.isin(rows, by_image).mean() - 0.2) < 5 * deviation
        assert abs(np.isin(rows, by_group).mean() - 0.2) < 5 * deviation * np.sqrt(10)
    sizes = [len(split.test) for split in folds(cache, 10, 1, seed)]
    assert np.abs(np.array(sizes) - 1200).max() < 5 * np.sqrt(12000 * 0.09)


def test_seeds_and_repeats_differ_and_are_independent():
    cache = cache_of({f"{name}/{number}.png": name for name in CLASSES for number in range(1000)})
    first, second = (split.test for split in folds(cache, 5, 2, 7) if split.fold == 0)
    other = random_split(cache, 8).test
    for one, two in [(first, second), (first, other)]:
        shared = len(np.intersect1d(one, two)) / 3000
        assert abs(shared - 0.04) < 5 * np.sqrt(0.04 * 0.96 / 3000)


def test_the_first_of_five_folds_is_the_split_of_the_same_seed():
    cache = cache_of({f"{name}/{number}.png": name for name in CLASSES for number in range(200)})
    np.testing.assert_array_equal(folds(cache, 5, 1, 3)[0].test, random_split(cache, 3).test)


def test_images_that_are_groups_of_their_own_are_split_like_images():
    cache = cache_of({f"{name}/{number}.png": name for name in CLASSES for number in range(50)})
    alone = Groups(cache.paths, cache.paths, "file")
    np.testing.assert_array_equal(grouped_split(cache, alone, 5).test, random_split(cache, 5).test)


def test_places_are_pinned():
    # another number here would move images of splits that people have
    np.testing.assert_allclose(
        hash_to_unit_interval(["ash/1.png", "caf\udce9"], 0), [0.3366489602, 0.5097143897], atol=1e-9
    )
    assert hash_to_unit_interval(["ash/1.png"], 0, 1) != hash_to_unit_interval(["ash/1.png"], 0)


def test_small_classes_are_on_both_sides_and_what_was_moved_is_said():
    cache = cache_of({f"{name}/{number}.png": name for name in CLASSES for number in range(2)})
    for seed in range(30):
        split = random_split(cache, seed)
        assert np.bincount(cache.labels[split.test]).tolist() == [1, 1, 1]
        where = hash_to_unit_interval(cache.paths, seed)
        expected = [row for row in range(6) if (where[row] < 0.2) != (row in split.test)]
        assert split.moved.tolist() == expected
        # the test image is the one that its hash puts nearest to the test part
        assert all(where[row] < where[row ^ 1] for row in split.test)
    assert any("moved so that every class" in note for note in split.notes())
    assert split.describe()["moved"] == len(split.moved)


def test_a_group_is_not_moved_when_it_is_the_last_of_a_class():
    where = np.array([0.1, 0.3, 0.4, 0.5, 0.6])
    # unit 0 and 4: class a; unit 0 to 3: class b. Both classes are on both sides.
    parts, moved = assign_parts(where, [0.2], np.array([0, 4, 0, 1, 2, 3]), np.array([0, 0, 1, 1, 1, 1]), ["a", "b"])
    assert parts.tolist() == [0, 1, 1, 1, 1]
    assert not moved.any()
    # a is missing from the test part; unit 1 is nearer but the last of c in training
    units, classes = np.array([0, 1, 2, 0, 1]), np.array([1, 0, 0, 2, 2])
    parts, moved = assign_parts(
        np.array([0.1, 0.3, 0.5, 0.6]), [0.2], np.append(units, 3), np.append(classes, 1), list("abc")
    )
    assert parts.tolist() == [0, 1, 0, 1]
    assert moved.tolist() == [False, False, True, False]


def test_a_group_of_two_missing_classes_brings_both():
    parts, moved = assign_parts(
        np.array([0.7, 0.4, 0.9]), [0.2], np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 0, 1, 0, 1]), ["a", "b"]
    )
    assert parts.tolist() == [1, 0, 1]
    assert moved.tolist() == [False, True, False]


def test_groups_that_cannot_be_parted_by_class_are_explained():
    # b has one group only, so it cannot be on both sides
    with pytest.raises(SplitError, match="class b cannot be in every part"):
        assign_parts(np.array([0.1, 0.5]), [0.2], np.array([0, 1, 0]), np.array([0, 0, 1]), ["a", "b"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c, g: folds(c, 5), "at least 5 images in every class, but b has 3; ask for fewer folds"),
        (
            lambda c, g: grouped_split(c, g, 0),
            "at least 2 groups in every class, but b has 1; split image by image with --split random, add",
        ),
        (lambda c, g: folds(c, 1), "parameter k of the folds must be an integer of at least 2, got 1"),
        (lambda c, g: folds(c, 2, 0), "parameter repeats of the folds must be an integer of at least 1, got 0"),
        (lambda c, g: folds(c, 2, seed=-1), "parameter seed"),
        (lambda c, g: random_split(c, 0, 1.0), "parameter test_fraction of the split must be between 0 and 1, got 1.0"),
        (lambda c, g: make_split(c, "grouped", 0), "must be random or a file when there are no groups"),
        (lambda c, g: make_folds(c, "grouped", 0), "must be random or a file when there are no groups"),
        (lambda c, g: make_folds(c, "magic", 0), "must be random or grouped, the path of a file with folds"),
        (lambda c, g: grouped_split(c, Groups(["x"], ["p"], "file"), 0), "parameter groups must be of the 12 images"),
    ],
)
def test_what_cannot_be_is_explained(call, message):
    cache = cache_of({f"a/{n}.png": "a" for n in range(9)} | {f"b/{n}.png": "b" for n in range(3)})
    groups = Groups(cache.paths, ["p" if path[0] == "b" else path for path in cache.paths], "file")
    with pytest.raises((ParameterError, SplitError), match=message):
        call(cache, groups)


def test_a_group_that_crosses_is_refused_in_a_proof_and_counted_in_a_report():
    groups = Groups(["1", "2", "3", "4", "5"], ["p", "p", "q", "r", "r"], "file")
    split = Split(np.array([0, 2]), np.array([1, 3, 4]), "random")
    with pytest.raises(SplitError, match="got 1 of 3 that are: p;"):
        check_no_leakage(split, groups)
    assert leak_share(split, groups) == pytest.approx(1 / 3)
    assert leak_share(Split(np.array([0, 1]), np.array([2, 3]), "random"), groups) == 0
    assert leak_share(Split(np.arange(5), np.zeros(0, np.intp), "none"), groups) == 0
    with pytest.raises(SplitError, match="groups of 5 rows for a split with row 7"):
        leak_share(Split(np.array([7]), np.array([1]), "random"), groups)


def test_a_random_split_with_known_groups_says_how_much_leaks():
    cache = cache_of({f"{name}/{number}.png": name for name in "ab" for number in range(100)})
    groups = Groups(cache.paths, [path[:3] for path in cache.paths], "found")  # about ten images each
    split = make_split(cache, "random", 0, groups)
    assert split.groups["leak_share"] > 0.8
    assert split.groups["group_source"] == "found"
    assert "of the test images have an image of their group in training" in split.notes()[0]
    assert make_folds(cache, "random", 0, groups, k=3)[2].groups["crossing"] > 0
    proven = make_split(cache, "grouped", 0, groups)
    assert (proven.groups["crossing"], proven.notes()) == (0, [])
    about = proven.groups
    assert about["train_groups"] + about["test_groups"] == about["groups"] == 20
    assert [split.groups["crossing"] for split in make_folds(cache, "grouped", 0, groups, k=3, repeats=2)] == [0] * 6


def test_what_results_say_of_a_fold():
    cache = cache_of({f"{name}/{number}.png": name for name in "ab" for number in range(100)})
    about = folds(cache, 4, 2, 1)[5].describe()
    assert {name: about[name] for name in ("method", "seed", "fold", "folds", "repeat")} == {
        "method": "random", "seed": 1, "fold": 1, "folds": 4, "repeat": 1,
    }  # fmt: skip
    assert about["train"] + about["test"] == 200
    assert set(random_split(cache, 1).describe()) == {"method", "seed", "train", "test"}
