from __future__ import annotations

import numpy as np
import pytest
from embedonce.cache.errors import SplitError
from embedonce.cache.reader import FeatureCache
from embedonce.cache.table import Files, Table
from embedonce.cache.writer import write_cache
from embedonce.evaluate.split import (
    Split,
    every_row,
    identical_in_training,
    make_split,
    random_split,
    read_split,
    write_split,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


@pytest.fixture
def build(tmp_path):
    """Return a function that makes a cache with so many images per class."""

    def make(counts, names=None):
        names = names or [f"class{number:02d}".encode() for number in range(len(counts))]
        paths = [
            name + f"/{row:04d}.png".encode() for name, count in zip(names, counts, strict=True) for row in range(count)
        ]
        n = len(paths)
        labels = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
        hashes = np.zeros((n, 32), np.uint8)
        hashes[:, :4] = np.arange(n, dtype=">u4").view(np.uint8).reshape(n, 4)
        files = Files(paths, np.ones(n, np.int64), np.ones(n, np.int64), hashes)
        write_cache(Table({}, {}, names, files, labels, np.zeros((n, 2), np.float32)), tmp_path / "a.h5")
        return FeatureCache.open(tmp_path / "a.h5")

    return make


@given(counts=st.lists(st.integers(2, 60), min_size=2, max_size=6), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_random_split_parts_every_row_once_and_has_every_class_on_both_sides(build, counts, seed):
    cache = build(counts)
    split = random_split(cache, seed)
    both = np.sort(np.concatenate([split.train, split.test]))
    np.testing.assert_array_equal(both, np.arange(len(cache)))
    for part in (split.train, split.test):
        assert set(cache.labels[part]) == set(range(len(counts)))


def test_a_random_split_is_80_20_in_every_class(build):
    cache = build([100, 50, 200])
    split = random_split(cache, 1)
    np.testing.assert_array_equal(np.bincount(cache.labels[split.test]), [20, 10, 40])


def test_a_seed_gives_one_split_and_another_seed_another(build):
    cache = build([40, 40])
    one, same, other = random_split(cache, 3), random_split(cache, 3), random_split(cache, 4)
    np.testing.assert_array_equal(one.test, same.test)
    assert (one.test != other.test).any()


def test_a_class_of_one_image_is_named(build):
    with pytest.raises(SplitError, match="at least 2 images in every class, but class01 has 1"):
        random_split(build([5, 1]), 0)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, True])
def test_a_wrong_seed_is_refused(build, seed):
    with pytest.raises(SplitError, match="parameter seed"):
        random_split(build([5, 5]), seed)


def test_a_written_split_is_read_back_also_with_names_that_are_not_utf8(build, tmp_path):
    cache = build([10, 10], [b"caf\xe9,\n", b'quo"te'])
    split = random_split(cache, 0)
    write_split(split, cache, tmp_path / "split.csv")
    again = make_split(cache, tmp_path / "split.csv", seed=9)
    np.testing.assert_array_equal(again.train, split.train)
    np.testing.assert_array_equal(again.test, split.test)
    assert again.method == "file"


def test_a_split_file_may_leave_images_out(build, tmp_path):
    cache = build([3, 3])
    (tmp_path / "s.csv").write_text("path,part\nclass00/0000.png,train\nclass01/0002.png,test\n")
    split = read_split(tmp_path / "s.csv", cache)
    assert (split.train.tolist(), split.test.tolist()) == ([0], [5])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "columns path,part"),
        ("a,b\n1,2\n", "columns path,part"),
        ("path,part\nnone.png,train\n", r"1 path\(s\) that the cache does not have: none.png"),
        ("path,part\nclass00/0000.png,valid\n", "line 2: part must be train or test, got 'valid'"),
        ("path,part\nclass00/0000.png,train\nclass00/0000.png,test\n", "line 3: class00/0000.png stands there twice"),
        ("path,part\nclass00/0000.png,train\n", "has no test images"),
    ],
)
def test_a_split_file_that_does_not_fit_is_explained(build, tmp_path, text, message):
    cache = build([3, 3])
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(SplitError, match=message):
        read_split(tmp_path / "s.csv", cache)


def test_an_unknown_method_is_refused(build):
    with pytest.raises(SplitError, match="must be random or the path of a split file, got 'magic'"):
        make_split(build([3, 3]), "magic", 0)


def test_copies_of_training_images_are_counted(build):
    cache = build([4, 4])
    cache.files.hashes[7] = cache.files.hashes[0]
    assert identical_in_training(Split(np.arange(6), np.arange(6, 8), "random"), cache) == 1
    assert identical_in_training(every_row(cache), cache) == 0
