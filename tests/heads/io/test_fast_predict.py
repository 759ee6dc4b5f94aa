"""Predicting from a saved head's arrays, without the libraries that trained it."""

from __future__ import annotations

import json
import warnings
import zipfile

import numpy as np
import pytest
from embedonce import load_head, make_head, save_head
from embedonce.errors import ModelFileError
from embedonce.heads.io.fast_predict import load_plain

HEADS = [
    ("logreg", {}),
    ("logreg", {"class_weight": "balanced"}),
    ("linear-svm", {}),
    ("svm", {}),
    ("svm", {"approximate_above": 50, "n_components": 40}),
]


def rows(n_classes, dtype=np.float32, n=200, d=12):
    rng = np.random.default_rng(n_classes)
    codes = np.arange(n) % n_classes
    X = rng.normal(size=(n, d)) + rng.normal(size=(n_classes, d))[codes]
    return X.astype(dtype), np.array([f"kind {code}" for code in codes])


def saved(path, name, parameters, X, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save_head(make_head(name, **parameters).fit(X, y), path)
    return path


@pytest.mark.parametrize("n_classes", [2, 3, 5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "parameters"), HEADS)
def test_arrays_predict_what_the_head_predicts(name, parameters, dtype, n_classes, tmp_path):
    X, y = rows(n_classes, dtype)
    path = saved(tmp_path / "head.skops", name, parameters, X, y)
    plain, head = load_plain(path), load_head(path)
    queries = np.random.default_rng(0).normal(size=(500, X.shape[1])).astype(np.float32)
    for some in (X, queries):
        np.testing.assert_array_equal(plain.predict(some), head.predict(some))
        np.testing.assert_allclose(plain.predict_proba(some), head.predict_proba(some), atol=1e-5)
    np.testing.assert_array_equal(plain.classes_, head.classes_)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("knn", {}), ("dummy", {}), ("svm", {"probability": False}), ("linear-svm", {"probability": False})],
)
def test_other_heads_and_those_without_probabilities_are_left_to_load_head(name, parameters, tmp_path):
    assert load_plain(saved(tmp_path / "head.skops", name, parameters, *rows(3))) is None


def test_a_file_of_another_kind_is_left_to_load_head(tmp_path):
    save_head(make_head("logreg").fit(*rows(3)), tmp_path / "head.joblib")
    assert load_plain(tmp_path / "head.joblib") is None


@pytest.mark.parametrize(
    "change",
    [
        {"protocol": 99},
        {"__loader__": "ReduceNode"},
        {"__class__": "SomeHead"},
        {"content": {"content": {}}},
        {"content": None},
    ],
)
def test_a_schema_that_is_not_as_expected_is_left_to_load_head(change, tmp_path):
    path = saved(tmp_path / "head.skops", "svm", {}, *rows(3))
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    entries["schema.json"] = json.dumps(json.loads(entries["schema.json"]) | change).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    assert load_plain(path) is None


@pytest.mark.parametrize("name", ["logreg", "svm"])
def test_no_flipped_byte_changes_a_prediction_in_silence(name, tmp_path):
    X, y = rows(3, n=30, d=3)
    path = saved(tmp_path / "head.skops", name, {}, X, y)
    data, shares = path.read_bytes(), load_plain(path).predict_proba(X)
    for place in range(0, len(data), 37):
        path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        try:
            plain = load_plain(path)
        except ModelFileError:
            continue
        if plain is not None:
            np.testing.assert_array_equal(plain.predict_proba(X), shares)


@pytest.mark.parametrize(("offset", "value"), [(8, 1), (10, 99)], ids=["encrypted", "unknown compression"])
def test_entries_that_cannot_be_unpacked_are_an_error_in_one_line(offset, value, tmp_path):
    path = saved(tmp_path / "head.skops", "logreg", {}, *rows(3))
    data, place = bytearray(path.read_bytes()), -1
    while (place := data.find(b"PK\x01\x02", place + 1)) >= 0:
        name = data[place + 46 : place + 46 + data[place + 28]]
        if name.endswith(b".npy"):
            data[place + offset] = value
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match=r"head\.skops: damaged: ") as caught:
        load_plain(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelFileError, match=r"nowhere\.skops"):
        load_plain(tmp_path / "nowhere.skops")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["logreg", "linear-svm", "svm"])
def test_predicting_an_image_imports_neither_scikit_learn_nor_tensorflow(name, cache_path, images, tmp_path, python):
    from embedonce import FeatureCache
    from embedonce.evaluate.models.training import train

    train(FeatureCache.open(cache_path), name, tmp_path / "head.skops", split="none")
    code = (
        "import sys\n"
        "from embedonce.cli.app import main\n"
        "main(['predict', sys.argv[1], sys.argv[2]], standalone_mode=False)\n"
        "print([name for name in ('sklearn', 'skops', 'scipy', 'tensorflow', 'keras') if name in sys.modules])\n"
    )
    said = python(code, tmp_path / "head.skops", images / "ash").splitlines()
    assert len(said) == 1 + len(list((images / "ash").iterdir()))
    assert said[-1] == "[]"
