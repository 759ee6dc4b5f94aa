from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from embedonce import FeatureCache, convert
from embedonce.errors import OutputError, ParameterError


@pytest.fixture
def cache():
    features = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    return FeatureCache.from_arrays(
        features, [0, 1, -1, 0, 1], ["ash", "=birch"], metadata={"age": [1, 2, 3, None, 5], "path": list("abcde")}
    )


def test_csv_files_keep_every_bit(cache, tmp_path):
    assert convert(cache, tmp_path / "new" / "a.csv") == tmp_path / "new" / "a.csv"
    with open(tmp_path / "new" / "a.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == ["ash/0", "'=birch/1", "2", "ash/3", "'=birch/4"]
    assert [row["class_name"] for row in rows] == ["ash", "'=birch", "", "ash", "'=birch"]
    assert [row["age"] for row in rows] == ["1", "2", "3", "", "5"]
    assert [row["path_metadata"] for row in rows] == list("abcde")
    values = np.array([[row[f"feature_{number}"] for number in range(3)] for row in rows], np.float32)
    np.testing.assert_array_equal(values, cache.features)


def test_blocks_of_rows_make_one_table(cache, tmp_path, monkeypatch):
    convert(cache, tmp_path / "a.csv")
    monkeypatch.setattr("embedonce.cache.conversion._BLOCK_ROWS", 2)
    convert(cache, tmp_path / "b.csv")
    assert (tmp_path / "b.csv").read_bytes() == (tmp_path / "a.csv").read_bytes()


def test_numpy_files_need_no_pickle(cache, tmp_path):
    convert(cache, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["features"], cache.features)
        assert arrays["labels"].tolist() == [0, 1, -1, 0, 1] or arrays["labels"].tolist() == cache.labels.tolist()
        assert arrays["class_names"].tolist() == cache.class_names
        assert arrays["paths"].tolist() == cache.paths
        assert arrays["metadata/age"].tolist() == ["1", "2", "3", "", "5"]
        assert json.loads(str(arrays["fingerprint"])) == cache.fingerprint


def test_parquet_files_have_types(cache, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    convert(cache, tmp_path / "a.parquet")
    table = parquet.read_table(tmp_path / "a.parquet")
    assert table.column_names[:4] == ["path", "class_name", "age", "path_metadata"]
    assert str(table.schema.field("feature_2").type) == "float"
    np.testing.assert_array_equal(table["feature_2"].to_numpy(), cache.features[:, 2])
    assert table["class_name"].to_pylist() == ["ash", "=birch", None, "ash", "=birch"]


@pytest.mark.parametrize("suffix", ["csv", "npz", "parquet"])
def test_features_may_be_left_out(cache, tmp_path, suffix):
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    whole, part = (convert(cache, tmp_path / f"{name}.{suffix}", features=name == "a") for name in "ab")
    assert part.stat().st_size < whole.stat().st_size
    if suffix == "csv":
        assert part.read_text().splitlines()[0] == "path,class_name,age,path_metadata"


def test_other_suffixes_and_the_cache_itself_are_refused(cache, tmp_path):
    with pytest.raises(ParameterError, match=r"output of convert must end in .csv, .parquet or .npz, got '.*a.xlsx'"):
        convert(cache, tmp_path / "a.xlsx")
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(OutputError, match="cannot write"):
        convert(cache, tmp_path / "a.csv")
