"""Rows of caches, and caches in memory."""

from __future__ import annotations

import pickle
import sys

import numpy as np
import pytest
from cache_tables import by_path, make_table
from embedonce.cache import FeatureCache, StoredRows, row_blocks, write_cache
from embedonce.errors import DamagedCacheError, FingerprintError, MissingPackageError, ParameterError
from hypothesis import given, settings
from hypothesis import strategies as st

ROWS = 150


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("stored") / "a.h5"
    write_cache(by_path(make_table(ROWS)), path)
    return path


@pytest.fixture(scope="module")
def whole(path):
    return FeatureCache.open(path).features


@pytest.fixture
def trees():
    features = np.arange(12, dtype=np.float64).reshape(6, 2)
    return FeatureCache.from_arrays(features, ["birch", "ash", "birch", "ash", "cedar", "ash"])


@given(
    rows=st.lists(st.integers(0, ROWS - 1), max_size=2 * ROWS), block=st.integers(1, 2 * ROWS), ordered=st.booleans()
)
@settings(max_examples=50)
def test_any_rows_in_any_blocks_are_those_of_the_whole_matrix(path, whole, rows, block, ordered):
    wanted = np.array(sorted(rows) if ordered else rows, np.intp)
    with FeatureCache.open(path) as cache:
        source = StoredRows(cache, wanted)
        assert source.shape == (len(wanted), whole.shape[1])
        parts = list(row_blocks(source, block))
        assert all(len(part) <= block for part in parts)
        np.testing.assert_array_equal(np.concatenate([whole[:0], *parts]), whole[wanted])


@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize(
    "rows", [7, -1, np.int64(3), slice(None), slice(5, 90, 4), [3, 3, -2], [], np.arange(ROWS) % 3 == 0]
)
def test_rows_are_chosen_as_in_numpy(path, whole, rows, loaded):
    expected = whole[rows if not isinstance(rows, list) else np.array(rows, np.intp)]
    with FeatureCache.open(path) as cache:
        if loaded:
            _ = cache.features
        assert cache[rows].dtype == np.float32
        np.testing.assert_array_equal(cache[rows], expected)


@pytest.mark.parametrize("rows", [ROWS, [0, ROWS], np.ones(3, bool)])
def test_rows_that_do_not_exist_are_refused(path, rows):
    with FeatureCache.open(path) as cache, pytest.raises(IndexError):
        cache[rows]


def test_rows_of_read_features_come_from_memory(path):
    cache = FeatureCache.open(path)
    whole = cache.features
    cache.close()
    np.testing.assert_array_equal(cache[[5, 2, 5]], whole[[5, 2, 5]])


def test_damage_matters_only_in_chosen_rows(path, whole, tmp_path):
    data = bytearray(path.read_bytes())
    data[data.index(whole[51].tobytes())] ^= 1
    hurt = tmp_path / "hurt.h5"
    hurt.write_bytes(data)
    with FeatureCache.open(hurt) as cache:
        around = np.array([48, 49, 50, 52, 53])
        np.testing.assert_array_equal(cache[around], whole[around])
        with pytest.raises(DamagedCacheError, match="0051.jpg|features of 1 image"):
            cache[48:54]


@pytest.mark.parametrize("in_memory", [False, True])
def test_arrays_of_a_cache_cannot_be_edited(path, in_memory):
    stored = FeatureCache.open(path)
    cache = stored.select(slice(0, 9)) if in_memory else stored
    for array in (cache.features, cache.labels, cache.signatures, pickle.loads(pickle.dumps(cache)).labels):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_a_cache_of_arrays_has_sorted_classes_and_copies():
    features = np.zeros((3, 2))
    cache = FeatureCache.from_arrays(features, [1, 0, 1], ["birch", "ash"])
    features[:] = 1
    assert not cache.features.any()
    assert (cache.class_names, cache.label_names.tolist()) == (["ash", "birch"], ["ash", "birch", "ash"])
    assert cache.paths == ["ash/0", "birch/1", "ash/2"]
    assert len(np.unique(cache.files.hashes, axis=0)) == 1
    assert (cache.path, cache.signatures, cache.digest) == (None, None, None)
    assert FeatureCache.from_arrays(features, [1, 0, 1]).class_names == ["0", "1"]
    assert FeatureCache.from_arrays(np.zeros((0, 2)), []).shape == (0, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0], ["a"]), r"features of from_arrays must have shape \(n, d\), got \(1,\)"),
        (([[1.0]], ["a", "b"]), r"labels of from_arrays must have shape \(1,\), got \(2,\)"),
        (([[1.0]], [1], ["a"]), "labels of from_arrays must be from 0 to 0"),
        (([[1.0]], ["b"], ["a"]), "labels of from_arrays must be among the class names, got 'b'"),
        (([[1.0]], ["a"], ["a", "a"]), "class_names of from_arrays must name everything once, got 'a' twice"),
        (([[1.0]], ["a"], None, []), "paths of from_arrays must have 1 entries, got 0"),
        (([[1.0], [2.0]], ["a", "a"], None, ["x", "x"]), "paths of from_arrays must name everything once"),
    ],
)
def test_arrays_that_do_not_fit_are_named(arguments, message):
    with pytest.raises(ParameterError, match=message):
        FeatureCache.from_arrays(*arguments)
    with pytest.raises(ParameterError, match=r"signatures of from_arrays must have shape \(1, 784\)"):
        FeatureCache.from_arrays([[1.0]], ["a"], signatures=np.zeros((1, 3)))


def test_a_selection_keeps_order_files_and_its_classes(path, trees):
    some = trees.select([4, 1, 3])
    assert (some.class_names, some.paths) == (["ash", "cedar"], ["cedar/4", "ash/1", "ash/3"])
    np.testing.assert_array_equal(some.features, trees.features[[4, 1, 3]])
    np.testing.assert_array_equal(some.files.hashes, trees.files.hashes[[4, 1, 3]])
    stored = FeatureCache.open(path)
    half = stored.select(stored.labels == 1)
    np.testing.assert_array_equal(half.signatures, stored.signatures[stored.labels == 1])
    assert (half.class_names, half.rejects, half.path) == (["class1"], [], None)
    with pytest.raises(ParameterError, match="rows of select must name no row twice"):
        trees.select([1, 1])


def test_other_labels_leave_everything_else(path):
    stored = FeatureCache.open(path)
    other = stored.with_labels(["x" if row % 3 else "y" for row in range(ROWS)])
    assert other.class_counts == {"x": 100, "y": 50}
    assert (other.paths, other.rejects, other.provenance) == (stored.paths, stored.rejects, stored.provenance)
    np.testing.assert_array_equal(other.features, stored.features)
    with pytest.raises(ParameterError, match="labels of with_labels must have shape"):
        stored.with_labels(["x"])


def test_parts_of_a_cache_join_to_the_whole(path):
    stored = FeatureCache.open(path)
    joined = FeatureCache.concat([stored.select(slice(0, 70)), stored.select(slice(70, None))])
    for name in ("features", "signatures", "labels"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(stored, name))
    assert (joined.paths, joined.provenance) == (stored.paths, stored.provenance)


def test_caches_that_do_not_fit_are_not_joined(trees, path):
    with pytest.raises(FingerprintError, match="equal fingerprints, got another alpha, architecture, features, source"):
        FeatureCache.concat([trees, FeatureCache.open(path)])
    with pytest.raises(ParameterError, match="caches of concat must name everything once, got 'birch/0' twice"):
        FeatureCache.concat([trees, trees])
    with pytest.raises(ParameterError, match="at least one cache"):
        FeatureCache.concat([])


def test_a_cache_in_memory_is_pickled_by_content(trees):
    again = pickle.loads(pickle.dumps(trees))
    np.testing.assert_array_equal(again.features, trees.features)
    assert (again.paths, repr(again)) == (trees.paths, "<FeatureCache (in memory): 6 images x 2 features, 3 classes>")


def test_a_data_frame_needs_its_library(trees, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingPackageError, match="pip install pandas"):
        trees.to_frame()
