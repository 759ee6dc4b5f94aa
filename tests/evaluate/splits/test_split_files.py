"""Splits and folds are written to CSV and read from any table."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from embedonce.errors import SplitError
from embedonce.evaluate.splits.groups import Groups
from embedonce.evaluate.splits.plan import make_split, make_splits, notes_on
from embedonce.evaluate.splits.split import Split
from embedonce.evaluate.splits.split_files import read_split, write_folds, write_split
from split_caches import cache_of


@pytest.fixture
def build():
    """Return a function that makes a cache with so many images per class."""

    def make(counts, names=("class00", "class01")):
        return cache_of(
            {f"{name}/{row:04d}.png": name for name, count in zip(names, counts, strict=True) for row in range(count)}
        )

    return make


def test_a_written_split_is_read_back(build, tmp_path):
    cache = build([10, 10], ["caf\udce9,\n", 'quo"te'])
    split = make_split(cache, "random", 0)
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
        ("path,part\nnone.png,train\n", r"1 path that the cache does not have: none.png"),
        ("path,part\nclass00/0000.png,dev\n", "line 2: part must be train, val or test, got 'dev'"),
        ("path,part\nclass00/0000.png,train\nclass00/0000.png,test\n", "line 3: class00/0000.png is named twice"),
        ("path,part\nclass00/0000.png,train\n", "has no test images$"),
        ("path,part\nclass00/0000.png,train\nclass00/0001.png,val\n", "To test on its val images, write test instead"),
        ("path,fold\nclass00/0000.png,1\nclass00/0001.png,2\n", "one training and one test part here, got 2 folds"),
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
    assert len(make_splits(cache, f"{tmp_path / 'meta.csv'}:age", 0)) == 3
    table = table.replace("41,class00/0001.png,,", "41,class00/0001.png,trian,")
    (tmp_path / "meta.csv").write_text(table + ",class01/0001.png\n")
    with pytest.raises(SplitError, match="line 3: set must be train, val or test, got 'trian'"):
        make_split(cache, f"{tmp_path / 'meta.csv'}:set", 0)


def test_a_split_file_may_name_rejected_images(tmp_path):
    cache = cache_of({"a/1.png": "a", "b/1.png": "b"}, rejects=["b/torn.png"])
    (tmp_path / "s.csv").write_text("path,part\na/1.png,train\nb/torn.png,test\nb/1.png,test\n")
    assert read_split(tmp_path / "s.csv", cache).test.tolist() == [1]


def test_leakage_of_a_split_file_is_reported(build, tmp_path):
    cache = build([3, 3])
    (tmp_path / "s.csv").write_text("path,part\nclass00/0000.png,train\nclass00/0001.png,test\nclass01/0000.png,test\n")
    split = make_split(cache, tmp_path / "s.csv", 0, Groups(cache.paths, [path[:7] for path in cache.paths], "file"))
    assert (split.groups["crossing"], split.groups["leak_share"]) == (1, 0.5)


@pytest.mark.parametrize(("k", "repeats"), [(5, 1), (3, 2), (12, 1)])
def test_written_folds_are_read_back(build, tmp_path, k, repeats):
    cache = build([40, 40], ["caf\udce9,\n", 'quo"\r te'])
    splits = make_splits(cache, "random", 1, None, k, repeats)
    write_folds(splits, cache, tmp_path / "folds.csv")
    again = make_splits(cache, tmp_path / "folds.csv", 9)
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
    first, second = make_splits(cache, f"{tmp_path / 'meta.csv'}:site", 0)
    assert (first.train.tolist(), first.test.tolist()) == ([2, 3], [0, 1, 5, 6])
    assert (second.train.tolist(), second.test.tolist()) == ([0, 1, 5, 6], [2, 3])
    for text, message in [
        ("a,b\n", "must be CSV with the columns path,part"),
        ("path,fold\nclass00/0000.png,1\n", "column fold must have at least 2 folds, got 1"),
        ("path,fold\nother.png,1\n", r"names 1 path that the cache does not have: other.png"),
    ]:
        (tmp_path / "bad.csv").write_text(text)
        with pytest.raises(SplitError, match=message):
            make_splits(cache, tmp_path / "bad.csv", 0)


def parts_of(split):
    return split.train.tolist(), split.validation.tolist(), split.test.tolist()


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("Training", " VALID ", "TESTING"), ("TRAIN", "validation", "Test")]
)
def test_values_of_a_split_file_may_be_written_as_usual(build, tmp_path, names):
    cache = build([3, 3])
    rows = [f"{path},{name}" for path, name in zip(cache.paths, 2 * names, strict=True)]
    (tmp_path / "s.csv").write_text("\n".join(["path,part", *rows]))
    assert parts_of(make_split(cache, tmp_path / "s.csv", 0)) == ([0, 3], [1, 4], [2, 5])


def test_a_split_with_validation_keeps_its_bytes(build, tmp_path):
    cache = build([3, 3])
    split = Split([0, 3], [2, 5], "file", validation=[1, 4])
    write_split(split, cache, tmp_path / "split.csv")
    again = make_split(cache, tmp_path / "split.csv", 0)
    assert parts_of(again) == parts_of(split)
    write_split(again, cache, tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "split.csv").read_bytes()


@pytest.mark.parametrize("form", ["{stem}.png", "{stem}", "images/{stem}.png", "C:\\data\\{stem}.jpg", " {stem}.png"])
def test_split_files_match_names_and_stems(tmp_path, form):
    cache = cache_of({"a/caf\xe9 1.png": "a", "a/2.png": "a", "b/3.x.png": "b", "b/4.png": "b"})
    parts = dict(zip(["caf\xe9 1", "2", "3.x", "4"], ["train", "test"] * 2, strict=True))
    rows = [f"{form.format(stem=unicodedata.normalize('NFD', stem))},{part}" for stem, part in parts.items()]
    if form == "{stem}":
        rows[2] = "3.x.png,train"  # .x would be a suffix
    (tmp_path / "s.csv").write_text("\n".join(["path,part", *rows]), encoding="utf-8")
    assert parts_of(make_split(cache, tmp_path / "s.csv", 0)) == ([0, 2], [], [1, 3])


def test_a_file_name_comes_before_a_stem(tmp_path):
    cache = cache_of({"a/1.png": "a", "b/1.jpg": "b", "b/torn.png": "b"}, rejects=["c/2.png"])
    (tmp_path / "s.csv").write_text("path,part\n1.jpg,test\n1,train\n2.png,train\n")
    assert parts_of(make_split(cache, tmp_path / "s.csv", 0)) == ([0], [], [1])


def test_a_name_of_several_images_is_an_error(tmp_path):
    cache = cache_of({"a/1.png": "a", "a/2.png": "a", "b/1.png": "b", "b/2.png": "b"})
    (tmp_path / "s.csv").write_text("path,part\n1.png,train\n2.png,test\n")
    with pytest.raises(SplitError, match=r"the image of 2 .*: 1.png \(a/1.png, b/1.png\), 2.png \(a/2.png, b/2.png\)"):
        make_split(cache, tmp_path / "s.csv", 0)
    (tmp_path / "s.csv").write_text("path,part\n1.png,train\na/2.png,test\n1.png,train\n2.png,val\n")
    assert parts_of(make_split(cache, tmp_path / "s.csv", 0)) == ([0, 2], [3], [1])
    (tmp_path / "s.csv").write_text("path,part\na/2.png,train\n2.png,test\n2,test\n")
    with pytest.raises(SplitError, match=r"names 1 path that the cache does not have: 2"):
        make_split(cache, tmp_path / "s.csv", 0)


def test_a_folder_of_the_cache_is_not_replaced(tmp_path):
    cache = cache_of({"a/1.png": "a", "b/2.png": "b"})
    (tmp_path / "s.csv").write_text("path,part\na/1.png,train\na/2.png,test\n")
    with pytest.raises(SplitError, match=r"names 1 path that the cache does not have: a/2.png"):
        make_split(cache, tmp_path / "s.csv", 0)


def test_images_outside_a_split_file_are_counted(build, tmp_path):
    cache = build([3, 3])
    (tmp_path / "s.csv").write_text("path,part\n" + "".join(f"{path},train\n" for path in cache.paths[:3]))
    with (tmp_path / "s.csv").open("a") as file:
        file.write(f"{cache.paths[3]},val\n{cache.paths[4]},test\n")
    notes = notes_on(cache, make_split(cache, tmp_path / "s.csv", 0))
    assert sum("1 image is for validation" in note for note in notes) == 1
    assert sum("1 of the 6 images are in no part of the split file" in note for note in notes) == 1
