from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cache_tables import make_table
from embedonce import FeatureCache
from embedonce.cache import CacheLocation, Manifest, Metadata, publish_shards, write_cache
from embedonce.errors import CacheError, LabelsError, ParameterError
from hypothesis import given
from hypothesis import strategies as st

COLUMNS = {"patient": ["Ada", "", "007"], "größe, =1": ["1.5", "2", ""]}
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)


def with_metadata(**changes):
    table = make_table(n=3, d=2, m=1)
    return replace(table, metadata=Metadata.of_columns(COLUMNS), **changes)


def test_metadata_and_missing_labels_are_read_back(tmp_path):
    labels = np.array([1, -1, 0], np.int32)
    for signatures in (True, False):
        table = with_metadata(labels=labels)
        write_cache(table if signatures else replace(table, signatures=None), tmp_path / "a.h5")
        cache = FeatureCache.open(tmp_path / "a.h5")
        assert {name: column.tolist() for name, column in cache.metadata.items()} == COLUMNS
        assert cache.labels.tolist() == [1, -1, 0]
        assert cache.label_names.tolist() == ["class1", "", "class0"]
        assert cache.class_counts == {"class0": 1, "class1": 1}
        assert (cache.signatures is not None) == signatures


def test_a_cache_without_metadata_keeps_its_version(tmp_path):
    table = make_table(n=3)
    assert table.format_version == 2
    assert replace(table, signatures=None).format_version == 1
    assert with_metadata().format_version == 3
    assert replace(table, labels=np.full(3, -1, np.int32)).format_version == 3


@given(st.dictionaries(texts, st.lists(texts, min_size=4, max_size=4), max_size=4), st.permutations(range(4)))
def test_columns_keep_their_texts(columns, rows):
    metadata = Metadata.of_columns(columns)
    assert {name: column.tolist() for name, column in metadata.columns.items()} == columns
    taken = metadata.take(np.array(rows[:2]))
    assert [column.tolist() for column in taken.columns.values()] == [
        [column[row] for row in rows[:2]] for column in columns.values()
    ]


def test_shards_may_have_other_columns(tmp_path):
    parts = [with_metadata(), replace(with_metadata(), metadata=Metadata.of_columns({"age": ["3", "4", "5"]}))]
    parts[1].files.paths[:] = [b"class1/%d.jpg" % number for number in (7, 8, 9)]
    parts[1].rejects.paths[:] = [b"class1/bad.jpg"]
    place = CacheLocation.of(tmp_path / "a.cache")
    place.path.mkdir()
    publish_shards(place, [], parts, Manifest(parts[0].fingerprint, {}, parts[0].class_names, []))
    cache = FeatureCache.open(place.path)
    rows = [cache.paths.index(path) for path in ("class0/0000.jpg", "class1/8.jpg")]
    assert cache.metadata["patient"][rows].tolist() == ["Ada", ""]
    assert cache.metadata["age"][rows].tolist() == ["", "4"]


@pytest.mark.parametrize(
    "metadata",
    [
        Metadata(["a"], ["x"], np.array([[1], [0], [0]], np.int32)),
        Metadata(["a"], ["x"], np.array([[-2], [0], [0]], np.int32)),
        Metadata(["a", "a"], ["x"], np.zeros((3, 2), np.int32)),
        Metadata(["a"], ["x"], np.zeros((3, 2), np.int32)),
    ],
    ids=["code too high", "code too low", "column twice", "column without name"],
)
def test_metadata_that_do_not_fit_are_refused(tmp_path, metadata):
    write_cache(replace(make_table(n=3), metadata=metadata), tmp_path / "a.h5")
    with pytest.raises(CacheError, match="its metadata do not fit its rows"):
        FeatureCache.open(tmp_path / "a.h5")


def test_labels_below_minus_one_are_refused(tmp_path):
    write_cache(with_metadata(labels=np.array([0, -2, 0], np.int32)), tmp_path / "a.h5")
    with pytest.raises(CacheError, match="a label has no class name"):
        FeatureCache.open(tmp_path / "a.h5")


def test_caches_in_memory_take_metadata():
    cache = FeatureCache.from_arrays(
        np.eye(3), ["a", "b", "a"], metadata={"age": [3, None, float("nan")], "site": ["x", "y", "x"]}
    )
    assert cache.metadata["age"].tolist() == ["3", "", ""]
    assert cache.select([2, 1]).metadata["site"].tolist() == ["x", "y"]
    assert cache.with_labels([0, 0, 1]).metadata["site"].tolist() == ["x", "y", "x"]
    other = FeatureCache.from_arrays(np.eye(3), paths=["p", "q", "r"])
    joined = FeatureCache.concat([cache, other])
    assert joined.metadata["site"].tolist() == ["x", "y", "x", "", "", ""]
    assert joined.label_names.tolist() == ["a", "b", "a", "", "", ""]
    with pytest.raises(
        ParameterError, match="column age of parameter metadata of from_arrays must have 3 values, got 1"
    ):
        FeatureCache.from_arrays(np.eye(3), metadata={"age": [1]})


def test_images_without_a_label_are_left_out_on_request():
    cache = FeatureCache.from_arrays(np.eye(4), [0, -1, 1, -1], ["a", "b"])
    kept = cache.labelled("compare")
    assert (kept.paths, kept.unlabelled, kept.labels.tolist()) == (["a/0", "b/2"], 2, [0, 1])
    assert kept.path is None
    assert kept.labelled() is kept
    assert cache.select([1, 3]).class_names == []
    with pytest.raises(
        LabelsError, match=r"\(in memory\) has no labels, which compare needs. Add them with: embedonce"
    ):
        FeatureCache.from_arrays(np.eye(2)).labelled("compare")


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_frame_has_labels_metadata_and_features(library):
    pytest.importorskip(library)
    metadata = {"age": [3, 4], "size": [1.5, None], "id": ["007", "8"], "path": ["x", "y"], "none": [None, None]}
    cache = FeatureCache.from_arrays([[0.5], [1.5]], [0, -1], ["a"], metadata=metadata)
    frame = cache.to_frame(library=library)
    # pandas has NaN for a missing text, polars None
    columns = {name: [value if value == value else None for value in frame[name].to_list()] for name in frame.columns}
    assert columns.pop("size")[0] == 1.5
    assert columns == {
        "path": ["a/0", "1"],
        "class_name": ["a", None],
        "age": [3, 4],
        "id": ["007", "8"],
        "path_metadata": ["x", "y"],
        "none": [None, None],
    }
    with_features = cache.to_frame(library=library, features=True)
    assert with_features["feature_0"].to_list() == [0.5, 1.5]
    assert "float32" in str(with_features["feature_0"].dtype).lower()
    with pytest.raises(ParameterError, match="library of to_frame must be one of pandas, polars"):
        cache.to_frame(library="excel")
