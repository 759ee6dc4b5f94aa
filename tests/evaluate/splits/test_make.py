"""Random and grouped splits are stable, stratified, and keep groups together."""

from __future__ import annotations

import numpy as np
import pytest
from embedonce.errors import ParameterError, SplitError
from embedonce.evaluate.splits.groups import Groups
from embedonce.evaluate.splits.plan import make_split, make_splits
from embedonce.evaluate.splits.split import check_no_leakage
from embedonce.evaluate.splits.stable_hash import hash_to_unit_interval
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


def cache_and_groups(images, paths):
    cache = cache_of({path: images[path][0] for path in paths}, CLASSES)
    return cache, Groups(list(paths), [images[path][1] for path in paths], "file")


def sides(split, cache):
    """Return {path: in the test part}, and the paths that were moved."""
    test = set(split.test.tolist())
    return {path: row in test for row, path in enumerate(cache.paths)}, {cache.paths[row] for row in split.moved}


def every_split(cache, groups, seed):
    """Yield splits of all kinds that are defined for these images."""
    yield make_split(cache, "random", seed)
    yield from make_splits(cache, "random", seed, None, 5, 2)
    for folds, repeats in ((None, 1), (3, 2)):
        try:
            yield from make_splits(cache, "grouped", seed, groups, folds, repeats)
        except SplitError as error:
            assert "needs at least" in str(error) or "cannot be in every part" in str(error)
            return


@given(grown(), SEEDS)
@settings(max_examples=50)
def test_adding_images_moves_no_old_one(data, seed):
    images, first = data
    old, old_groups = cache_and_groups(images, first)
    new, new_groups = cache_and_groups(images, sorted(images))
    for before, after in zip(every_split(old, old_groups, seed), every_split(new, new_groups, seed), strict=False):
        was, moved_before = sides(before, old)
        now, moved_after = sides(after, new)
        for path in set(was) - moved_before - moved_after:
            assert now[path] == was[path]
        if not moved_before:  # every class was in every part by itself, and still is
            assert not moved_after


@given(grown(), SEEDS)
@settings(max_examples=30)
def test_groups_stay_together_and_classes_are_everywhere(data, seed):
    images, _ = data
    cache, groups = cache_and_groups(images, sorted(images))
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
@settings(max_examples=30)
def test_every_row_is_tested_in_one_fold_of_each_repeat(data, seed, k, repeats):
    images, _ = data
    cache, groups = cache_and_groups(images, sorted(images))
    for method in ("random", "grouped"):
        try:
            splits = make_splits(cache, method, seed, groups, k, repeats)
        except SplitError as error:
            assert method == "grouped"
            assert "needs at least" in str(error) or "cannot be in every part" in str(error)
            continue
        assert [(split.repeat, split.fold) for split in splits] == [(r, f) for r in range(repeats) for f in range(k)]
        for repeat in range(repeats):
            tested = np.concatenate([split.test for split in splits if split.repeat == repeat])
            np.testing.assert_array_equal(np.sort(tested), np.arange(len(cache)))


@given(grown(), SEEDS, st.randoms(use_true_random=False))
@settings(max_examples=20)
def test_the_order_of_rows_does_not_matter(data, seed, random):
    images, _ = data
    shuffled = sorted(images)
    random.shuffle(shuffled)
    one, other = cache_and_groups(images, sorted(images)), cache_and_groups(images, shuffled)
    for split, again in zip(every_split(*one, seed), every_split(*other, seed), strict=True):
        assert sides(split, one[0]) == sides(again, other[0])


@pytest.mark.parametrize("seed", range(3))
def test_each_class_has_its_fraction_within_chance(seed):
    images = {f"{name}/{number}.png": name for name in CLASSES for number in range(4000)}
    cache = cache_of(images)
    groups = Groups(cache.paths, [path[:-5] for path in cache.paths], "file")  # ten images each, and a few of one
    deviation = np.sqrt(0.16 / 4000)
    counts = np.array([sum(name.startswith(kind) for name in groups.names) for kind in CLASSES])
    assert (counts == 4000).all()
    by_image, by_group = (make_split(cache, method, seed, groups).test for method in ("random", "grouped"))
    for label in range(3):
        rows = np.flatnonzero(cache.labels == label)
        assert abs(np.isin(rows, by_image).mean() - 0.2) < 5 * deviation
        assert abs(np.isin(rows, by_group).mean() - 0.2) < 5 * deviation * np.sqrt(10)
    sizes = [len(split.test) for split in make_splits(cache, "random", seed, None, 10)]
    assert np.abs(np.array(sizes) - 1200).max() < 5 * np.sqrt(12000 * 0.09)


def test_seeds_and_repeats_differ_and_are_independent():
    cache = cache_of({f"{name}/{number}.png": name for name in CLASSES for number in range(1000)})
    first, second = (split.test for split in make_splits(cache, "random", 7, None, 5, 2) if split.fold == 0)
    other = make_split(cache, "random", 8).test
    for one, two in [(first, second), (first, other)]:
        shared = len(np.intersect1d(one, two)) / 3000
        assert abs(shared - 0.04) < 5 * np.sqrt(0.04 * 0.96 / 3000)


def test_the_first_of_five_folds_equals_the_split():
    cache = cache_of({f"{name}/{number}.png": name for name in CLASSES for number in range(200)})
    np.testing.assert_array_equal(make_splits(cache, "random", 3, None, 5)[0].test, make_split(cache, "random", 3).test)


def test_groups_of_one_image_are_split_like_images():
    cache = cache_of({f"{name}/{number}.png": name for name in CLASSES for number in range(50)})
    alone = Groups(cache.paths, cache.paths, "file")
    np.testing.assert_array_equal(*(make_split(cache, method, 5, alone).test for method in ("grouped", "random")))


def test_small_classes_are_moved_and_counted():
    cache = cache_of({f"{name}/{number}.png": name for name in CLASSES for number in range(2)})
    for seed in range(30):
        split = make_split(cache, "random", seed)
        assert np.bincount(cache.labels[split.test]).tolist() == [1, 1, 1]
        where = hash_to_unit_interval(cache.paths, seed)
        expected = [row for row in range(6) if (where[row] < 0.2) != (row in split.test)]
        assert split.moved.tolist() == expected
        # the test image is the one that its hash puts nearest to the test part
        assert all(where[row] < where[row ^ 1] for row in split.test)
    assert any("moved so that every class" in note for note in split.notes())
    assert split.to_dict()["moved"] == len(split.moved)


@pytest.mark.parametrize(
    ("method", "folds", "message"),
    [
        ("random", 5, "at least 5 images in every class, but b has 3. Ask for fewer folds, add images"),
        ("grouped", None, "at least 2 groups in every class, but b has 1. Split image by image with --split random"),
        ("grouped", 5, "Ask for fewer folds, split image by image"),
    ],
)
def test_classes_that_are_too_small_are_named(method, folds, message):
    cache = cache_of({f"a/{n}.png": "a" for n in range(9)} | {f"b/{n}.png": "b" for n in range(3)})
    groups = Groups(cache.paths, ["p" if path[0] == "b" else path for path in cache.paths])
    with pytest.raises(SplitError, match=message):
        make_splits(cache, method, 0, groups, folds)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, True])
def test_a_seed_out_of_range_is_refused(seed):
    cache = cache_of({f"{name}/{number}.png": name for name in CLASSES for number in range(5)})
    with pytest.raises(ParameterError, match="parameter seed of the split must be an integer from 0 to 4294967295"):
        make_split(cache, "random", seed)
