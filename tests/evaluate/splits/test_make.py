from __future__ import annotations

import numpy as np
import pytest
from embedonce.cache.reader import FeatureCache
from embedonce.cache.table import Files, Table
from embedonce.cache.writer import write_cache
from embedonce.errors import ParameterError, SplitError
from embedonce.evaluate.splits.groups import Groups
from embedonce.evaluate.splits.make import (
    folds,
    make_folds,
    make_split,
    random_split,
)
from embedonce.evaluate.splits.split import Split, every_row, identical_in_training
from embedonce.evaluate.splits.split_files import read_split, write_folds, write_split
from hypothesis import given, settings
from hypothesis import strategies as st
from split_caches import cache_of


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
@settings(max_examples=60, deadline=None)
def test_a_random_split_parts_every_row_once_and_has_every_class_on_both_sides(counts, seed):
    cache = cache_of({f"{name}/{row}.png": str(name) for name, count in enumerate(counts) for row in range(count)})
    split = random_split(cache, seed)
    both = np.sort(np.concatenate([split.train, split.test]))
    np.testing.assert_array_equal(both, np.arange(len(cache)))
    for part in (split.train, split.test):
        assert set(cache.labels[part]) == set(range(len(counts)))


def test_a_random_split_is_about_80_20_in_every_class(build):
    # exactly 80/20 would move old images when others are added
    cache = build([1000, 500, 2000])
    split = random_split(cache, 1)
    shares = np.bincount(cache.labels[split.test]) / [1000, 500, 2000]
    assert (np.abs(shares - 0.2) < 4 * np.sqrt(0.16 / np.array([1000, 500, 2000]))).all()


def test_a_seed_gives_one_split_and_another_seed_another(build):
    cache = build([40, 40])
    one, same, other = random_split(cache, 3), random_split(cache, 3), random_split(cache, 4)
    np.testing.assert_array_equal(one.test, same.test)
    assert one.test.tolist() != other.test.tolist()


def test_a_class_of_one_image_is_named(build):
    with pytest.raises(SplitError, match="at least 2 images in every class, but class01 has 1"):
        random_split(build([5, 1]), 0)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, True])
def test_a_wrong_seed_is_refused(build, seed):
    with pytest.raises(ParameterError, match="parameter seed"):
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
        ("path,fold\nclass00/0000.png,1\n", "has folds and no column part; test on each fold"),
    ],
)
def test_a_split_file_that_does_not_fit_is_explained(build, tmp_path, text, message):
    cache = build([3, 3])
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(SplitError, match=message):
        make_split(cache, tmp_path / "s.csv", 0)


def test_a_column_of_a_table_can_be_the_split(build, tmp_path):
    cache = build([3, 3])
    table = "age,path,set,part\n40,class00/0000.png,train,x\n41,class00/0001.png,,x\n,class01/0002.png,test,x\n7"
    (tmp_path / "meta.csv").write_text(table + ",class01/0001.png\n", encoding="utf-8-sig")
    split = make_split(cache, f"{tmp_path / 'meta.csv'}:set", 0)
    assert (split.train.tolist(), split.test.tolist(), split.method) == ([0], [5], "file")
    with pytest.raises(SplitError, match="must be CSV with the columns path,side, got age,path,set,part"):
        make_split(cache, f"{tmp_path / 'meta.csv'}:side", 0)
    with pytest.raises(SplitError, match="line 2: age must be train or test, got '40'"):
        make_split(cache, f"{tmp_path / 'meta.csv'}:age", 0)


def test_a_split_file_may_name_images_that_could_not_be_embedded(tmp_path):
    cache = cache_of({"a/1.png": "a", "b/1.png": "b"}, rejects=["b/torn.png"])
    (tmp_path / "s.csv").write_text("path,part\na/1.png,train\nb/torn.png,test\nb/1.png,test\n")
    assert read_split(tmp_path / "s.csv", cache).test.tolist() == [1]


def test_a_split_file_that_lets_groups_cross_is_reported(build, tmp_path):
    cache = build([3, 3])
    (tmp_path / "s.csv").write_text("path,part\nclass00/0000.png,train\nclass00/0001.png,test\nclass01/0000.png,test\n")
    split = make_split(cache, tmp_path / "s.csv", 0, Groups(cache.paths, [path[:7] for path in cache.paths], "file"))
    assert (split.groups["crossing"], split.groups["leak_share"]) == (1, 0.5)


@pytest.mark.parametrize(("k", "repeats"), [(5, 1), (3, 2), (12, 1)])
def test_written_folds_are_read_back(build, tmp_path, k, repeats):
    cache = build([40, 40], [b"caf\xe9,\n", b'quo"\r te'])
    splits = folds(cache, k, repeats, 1)
    write_folds(splits, cache, tmp_path / "folds.csv")
    again = make_folds(cache, tmp_path / "folds.csv", seed=9)
    assert len(again) == k * repeats
    for one, other in zip(splits, again, strict=True):
        np.testing.assert_array_equal(one.test, other.test)
        np.testing.assert_array_equal(one.train, other.train)
        assert (one.fold, one.folds, one.repeat) == (other.fold, other.folds, other.repeat)
        assert other.method == "file"


def test_folds_may_be_a_column_of_a_table(build, tmp_path):
    cache = build([4, 4])
    rows = ["site,path", *(f"{site},{path}" for site, path in zip("AABB AA ", cache.paths, strict=True))]
    (tmp_path / "meta.csv").write_text("\n".join(rows))
    first, second = make_folds(cache, f"{tmp_path / 'meta.csv'}:site", 0)
    assert (first.train.tolist(), first.test.tolist()) == ([2, 3], [0, 1, 5, 6])
    assert (second.train.tolist(), second.test.tolist()) == ([0, 1, 5, 6], [2, 3])
    for text, message in [
        ("path,part\n", "must be CSV with the columns path,fold"),
        ("path,fold\nclass00/0000.png,1\n", "column fold must have at least 2 folds, got 1"),
        ("path,fold\nother.png,1\n", r"names 1 path\(s\) that the cache does not have: other.png"),
    ]:
        (tmp_path / "bad.csv").write_text(text)
        with pytest.raises(SplitError, match=message):
            make_folds(cache, tmp_path / "bad.csv", 0)


def test_an_unknown_method_is_refused(build):
    with pytest.raises(
        SplitError, match="must be random or grouped, the path of a split file or FILE:COLUMN, got 'magic'"
    ):
        make_split(build([3, 3]), "magic", 0)


def test_copies_of_training_images_are_counted(build):
    cache = build([4, 4])
    cache.files.hashes[7] = cache.files.hashes[0]
    assert identical_in_training(Split(np.arange(6), np.arange(6, 8), "random"), cache) == 1
    assert identical_in_training(every_row(cache), cache) == 0
