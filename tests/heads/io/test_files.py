"""Saving heads, loading them, and refusing files that mean harm."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import zipfile
from pathlib import Path

import joblib
import numpy as np
import pytest
import skops.io
from embedonce.errors import HeadError, ModelFileError, OutputError
from embedonce.heads.calibrated import CalibratedHead
from embedonce.heads.io.files import load_head, load_predictor, read_metadata, read_parameters, save_head, suffixes_for
from embedonce.heads.registry import HEADS, make_head
from sklearn.datasets import make_blobs
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

METADATA = {"fingerprint": {"alpha": 1.0}, "class_names": ["aca", "größe", "scc"], "training": {"rows": 60}}
LABELS = {
    "short strings": np.array(["aca", "größe", "scc"]),
    "objects": np.array(["aca", "größe", "scc"], dtype=object),
    "int64": np.array([3, 5, 900]),
    "uint8": np.array([0, 1, 255], dtype=np.uint8),
}
VARIANTS = {
    "softmax": {"epochs": 1},
    "logreg": {"class_weight": {"aca": 2.0}},
    "linear-svm": {},
    "svm": {},
    "knn": {"metric": "cosine", "weights": "distance"},
    "dummy": {},
}
OLD = Path(__file__).parents[2] / "data" / "models-v1"


def fitted(name, labels=LABELS["short strings"], n_classes=3, **parameters):
    X, codes = make_blobs(60, 4, centers=n_classes, random_state=0)
    X = X.astype(np.float32)
    return make_head(name, **parameters).fit(X, labels[codes]), X


def assert_same(head, loaded, X):
    assert type(loaded) is type(head)
    assert loaded.classes_.dtype == head.classes_.dtype
    np.testing.assert_array_equal(loaded.classes_, head.classes_)
    np.testing.assert_array_equal(loaded.predict(X), head.predict(X))
    np.testing.assert_array_equal(loaded.predict_proba(X), head.predict_proba(X))
    assert loaded.get_params() == head.get_params()
    assert loaded.__getstate__().keys() == head.__getstate__().keys()


@pytest.mark.parametrize("suffix", [".npz", ".joblib"])
@pytest.mark.parametrize("name", list(HEADS))
def test_a_head_comes_back_the_same(tmp_path, name, suffix):
    head, X = fitted(name, **VARIANTS[name])
    save_head(head, tmp_path / f"model{suffix}", METADATA)
    loaded = load_head(tmp_path / f"model{suffix}", trust=suffix == ".joblib")
    assert_same(head, loaded, X)
    assert read_metadata(tmp_path / f"model{suffix}") == METADATA
    labels = LABELS["short strings"][np.arange(60) % 3]
    assert_same(head.fit(X, labels), loaded.fit(X, labels), X)


@pytest.mark.parametrize("labels", list(LABELS))
def test_class_labels_keep_their_type(tmp_path, labels):
    head, X = fitted("dummy", LABELS[labels])
    save_head(head, tmp_path / "model.npz")
    assert_same(head, load_head(tmp_path / "model.npz"), X)


@pytest.mark.filterwarnings("ignore::embedonce.errors.ApproximationWarning")
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("softmax", {"epochs": 1}),
        ("logreg", {}),
        ("linear-svm", {}),
        ("linear-svm", {"probability": False}),
        ("svm", {}),
        ("svm", {"approximate_above": 50, "n_components": 40}),
        ("knn", {}),
        ("dummy", {}),
    ],
)
def test_a_predictor_predicts_what_the_head_predicts(tmp_path, name, parameters, n_classes):
    head, X = fitted(name, n_classes=n_classes, **parameters)
    save_head(head, tmp_path / "model.npz")
    predictor = load_predictor(tmp_path / "model.npz")
    np.testing.assert_array_equal(predictor.predict(X), head.predict(X))
    assert hasattr(predictor, "predict_proba") == hasattr(head, "predict_proba")
    if hasattr(head, "predict_proba"):
        for rows in (X, X.astype(np.float64)):
            np.testing.assert_array_equal(predictor.predict_proba(rows), head.predict_proba(rows))
    with pytest.raises(ValueError, match="features"):
        predictor.predict(X[:, :3])


def test_predicting_needs_numpy_alone(tmp_path, python):
    names = [name for name in HEADS if name != "knn"]
    for name in names:
        save_head(fitted(name, **VARIANTS[name])[0], tmp_path / f"{name}.npz", METADATA)
    code = (
        "import sys, numpy\n"
        "from embedonce.heads.io import load_predictor, read_metadata\n"
        "for path in sys.argv[1:]:\n"
        "    read_metadata(path)\n"
        "    load_predictor(path).predict_proba(numpy.eye(4, dtype='float32'))\n"
        "print([name for name in ('sklearn', 'skops', 'scipy', 'tensorflow', 'keras') if name in sys.modules])\n"
    )
    assert python(code, *(tmp_path / f"{name}.npz" for name in names)) == "[]\n"


def test_numpy_reads_the_arrays(tmp_path):
    head, _ = fitted("logreg")
    save_head(head, tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz") as arrays:
        np.testing.assert_array_equal(arrays["coef_"], head.coef_)


def test_a_calibrated_head_is_saved_with_the_head_inside(tmp_path):
    X, codes = make_blobs(60, 4, centers=3, random_state=0)
    head = CalibratedHead(make_head("logreg", C=0.1), "sigmoid").fit(X, LABELS["short strings"][codes])
    save_head(head, tmp_path / "model.npz")
    loaded = load_head(tmp_path / "model.npz")
    np.testing.assert_array_equal(loaded.predict_proba(X), head.predict_proba(X))
    assert loaded.head.get_params() == head.head.get_params()
    assert not hasattr(loaded.head, "coef_")
    foreign = CalibratedHead(LogisticRegression()).fit(X, codes)
    with pytest.raises(ModelFileError, match=r"\.skops or \.joblib"):
        save_head(foreign, tmp_path / "foreign.npz")
    save_head(foreign, tmp_path / "foreign.skops")
    loaded = load_head(tmp_path / "foreign.skops")
    np.testing.assert_array_equal(loaded.predict_proba(X), foreign.predict_proba(X))


def test_parameters_are_read_without_the_estimator(tmp_path):
    save_head(fitted("logreg", C=0.25)[0], tmp_path / "model.npz")
    assert read_parameters(tmp_path / "model.npz")["C"] == 0.25


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.InconsistentVersionWarning")
@pytest.mark.parametrize("file", [path.name for path in sorted(OLD.iterdir()) if path.suffix != ".json"])
def test_files_of_the_first_format_are_read(file, tmp_path):
    expected = json.loads((OLD / "expected.json").read_text(encoding="utf-8"))
    X = np.array(expected["queries"], np.float32)
    head = load_head(OLD / file, trust=file.endswith(".joblib"))
    np.testing.assert_allclose(head.predict_proba(X), expected["probabilities"][file], rtol=1e-6)
    assert read_metadata(OLD / file) == expected["metadata"]
    save_head(head, tmp_path / "new.npz")
    assert_same(head, load_head(tmp_path / "new.npz"), X)


class Payload:
    """Pickles to a call that leaves a mark."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def test_joblib_is_refused_unread_without_trust(tmp_path):
    path, marker = tmp_path / "evil.joblib", tmp_path / "ran"
    joblib.dump(Payload(marker), path)
    with pytest.raises(ModelFileError, match=r"runs code.*trust=True"):
        load_head(path)
    with pytest.raises(ModelFileError, match="footer"):
        read_metadata(path)
    assert not marker.exists()


def test_metadata_of_a_joblib_file_are_read_without_unpickling(tmp_path):
    head, _ = fitted("dummy")
    path, marker = tmp_path / "evil.joblib", tmp_path / "ran"
    save_head(head, path, METADATA)
    good = path.read_bytes()
    joblib.dump(Payload(marker), path)
    path.write_bytes(path.read_bytes() + good[good.index(b'{\n "format"') :])
    assert read_metadata(path) == METADATA
    assert not marker.exists()


def test_a_joblib_file_without_a_head_is_refused(tmp_path):
    joblib.dump({"a": 1}, tmp_path / "dict.joblib")
    with pytest.raises(ModelFileError, match="no fitted head, but a dict"):
        load_head(tmp_path / "dict.joblib", trust=True)


def test_a_skops_file_with_a_foreign_type_needs_trust(tmp_path, monkeypatch):
    (tmp_path / "foreign_thing.py").write_text("class ForeignThing:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    X, y = make_blobs(60, 4, centers=3, random_state=0)
    plain, path = LogisticRegression().fit(X, y), tmp_path / "model.skops"
    save_head(plain, path, METADATA)
    np.testing.assert_array_equal(load_head(path).predict(X), plain.predict(X))
    plain.extra = importlib.import_module("foreign_thing").ForeignThing()
    with pytest.raises(ModelFileError, match=r"foreign_thing\.ForeignThing.*Use \.joblib"):
        save_head(plain, path)
    replace_archive(path, skops.io.dumps(plain))
    with pytest.raises(ModelFileError, match=r"foreign_thing\.ForeignThing.*trust=True"):
        load_head(path)
    np.testing.assert_array_equal(load_head(path, trust=True).predict(X), plain.predict(X))


def replace_archive(path, archive):
    """Keep embedonce.json of a .skops file, but take everything else from another archive."""
    with zipfile.ZipFile(path) as old:
        document = old.read("embedonce.json")
    path.write_bytes(archive)
    with zipfile.ZipFile(path, "a") as new:
        new.writestr("embedonce.json", document)


def test_a_skops_file_with_a_call_in_it_is_refused(tmp_path):
    X, y = make_blobs(60, 4, centers=3, random_state=0)
    plain, path, marker = LogisticRegression().fit(X, y), tmp_path / "evil.skops", tmp_path / "ran"
    save_head(plain, path)
    plain.extra = Payload(marker)
    replace_archive(path, skops.io.dumps(plain))
    with pytest.raises(ModelFileError, match="does not know"):
        load_head(path)
    assert not marker.exists()


def test_a_foreign_classifier_is_saved_as_joblib(tmp_path):
    X, y = make_blobs(60, 4, centers=3, random_state=0)
    forest = RandomForestClassifier(2, random_state=0).fit(X, y)
    save_head(forest, tmp_path / "forest.joblib", METADATA)
    np.testing.assert_array_equal(load_head(tmp_path / "forest.joblib", trust=True).predict(X), forest.predict(X))


@pytest.mark.parametrize("suffix", [".npz", ".joblib", ".skops"])
def test_every_truncation_is_an_error_in_one_line(tmp_path, suffix):
    X, y = make_blobs(60, 4, centers=3, random_state=0)
    head = LogisticRegression().fit(X, y) if suffix == ".skops" else fitted("svm")[0]
    whole, cut = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    save_head(head, whole, METADATA)
    data = whole.read_bytes()
    for size in np.linspace(0, len(data) - 1, 23).astype(int):
        cut.write_bytes(data[:size])
        with pytest.raises(ModelFileError) as caught:
            read_metadata(cut)
        assert str(cut) in str(caught.value)
        assert "\n" not in str(caught.value)
        if suffix != ".joblib":
            with pytest.raises(ModelFileError):
                load_head(cut)


@pytest.mark.parametrize("load", [load_head, load_predictor])
def test_no_flipped_byte_changes_a_prediction_in_silence(tmp_path, load):
    head, X = fitted("svm")
    path = tmp_path / "model.npz"
    save_head(head, path, METADATA)
    data, expected = path.read_bytes(), head.predict_proba(X)
    for position in range(0, len(data), 23):
        path.write_bytes(data[:position] + bytes([data[position] ^ 4]) + data[position + 1 :])
        with contextlib.suppress(ModelFileError):  # any other exception fails the test
            np.testing.assert_array_equal(load(path).predict_proba(X), expected)


def changed(path, entries=None, **changes):
    """Write an .npz file again with other entries and another description of its head."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    document = json.loads(contents["embedonce.json"])
    document["head"] |= changes
    contents |= {"embedonce.json": json.dumps(document).encode(), **(entries or {})}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in contents.items():
            archive.writestr(name, data)


def npy(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


HUGE = npy(np.zeros(3)).replace(b"(3,), }          ", b"(900000000000,), }")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "other"}, "no head 'other'"),
        ({"parameters": {"nonsense": 1}}, "nonsense"),
        ({"attributes": {}}, "not fitted"),
        ({"attributes": {"predict": 1}}, "attributes of other names"),
        ({"attributes": {"classes_": {"array": "none.npy"}}}, r"none\.npy"),
        ({"attributes": None}, "damaged"),
        ({"entries": {"coef_.npy": npy(np.array([Payload(None)]), allow_pickle=True)}}, "not an array of plain values"),
        ({"entries": {"coef_.npy": HUGE}}, "not an array of plain values"),
        ({"entries": {"coef_.npy": b"text"}}, "damaged"),
    ],
)
def test_a_file_that_was_tampered_with_is_refused(tmp_path, change, message):
    path = tmp_path / "model.npz"
    save_head(fitted("logreg")[0], path)
    changed(path, **change)
    with pytest.raises(ModelFileError, match=message) as caught:
        load_head(path)
    assert str(path) in str(caught.value)


def test_compressed_arrays_are_refused(tmp_path):
    path = tmp_path / "model.npz"
    save_head(fitted("logreg")[0], path)
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    with pytest.raises(ModelFileError, match="is compressed"):
        load_head(path)


def test_arrays_without_a_head_are_refused(tmp_path):
    np.savez(tmp_path / "model.npz", coef_=np.zeros(3))
    with pytest.raises(ModelFileError, match=r"not written by embedonce: it holds no embedonce\.json"):
        load_head(tmp_path / "model.npz")


@pytest.mark.parametrize("suffix", [".npz", ".skops", ".joblib", ".keras"])
def test_text_under_a_model_name_is_an_error(tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    path.write_text("not a model")
    with pytest.raises(ModelFileError, match=r"damaged|not a"):
        load_head(path, trust=True)
    with pytest.raises(ModelFileError):
        read_metadata(path)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"format": "embedonce model", "format_version": 3, "head": None, "metadata": {}}, "format version is 3"),
        ({"format": "other"}, "not written by embedonce"),
        ([], "not written by embedonce"),
    ],
)
def test_another_document_is_refused(tmp_path, document, message):
    path = tmp_path / "model.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("embedonce.json", json.dumps(document))
    with pytest.raises(ModelFileError, match=message):
        read_metadata(path)


def test_a_wrong_suffix_names_those_that_the_head_takes(tmp_path):
    head, _ = fitted("logreg")
    softmax, _ = fitted("softmax", epochs=1)
    with pytest.raises(ModelFileError, match=r"\.npz or \.joblib"):
        save_head(head, tmp_path / "model.keras")
    with pytest.raises(ModelFileError, match=r"\.keras or \.npz or \.joblib"):
        save_head(softmax, tmp_path / "model.skops")
    with pytest.raises(ModelFileError, match=r"\.skops or \.joblib"):
        save_head(LogisticRegression(), tmp_path / "model.npz")
    with pytest.raises(ModelFileError, match=r"\.npz, \.keras, \.skops, \.joblib"):
        load_head(tmp_path / "model.pkl")
    assert suffixes_for(head)[0] == ".npz"


def test_a_missing_file_is_named(tmp_path):
    for suffix in (".npz", ".skops", ".keras", ".joblib"):
        with pytest.raises(ModelFileError, match=f"absent{suffix}: there is no such file"):
            load_head(tmp_path / f"absent{suffix}", trust=True)


@pytest.mark.parametrize("name", ["svm.skops", "svm-approximate.skops"])
def test_an_old_svm_is_standardised(name):
    assert load_head(OLD / name).scaling == "standard"


def test_an_svm_file_without_scaling_is_standardised(tmp_path):
    head, X = fitted("svm", scaling="standard")
    save_head(head, tmp_path / "new.npz")
    with zipfile.ZipFile(tmp_path / "new.npz") as new, zipfile.ZipFile(tmp_path / "old.npz", "w") as old:
        for entry in new.namelist():
            old.writestr(entry, new.read(entry).replace(b'"scaling": "standard",', b""))
    assert b"scaling" not in (tmp_path / "old.npz").read_bytes()
    assert_same(head, load_head(tmp_path / "old.npz"), X)


def test_an_unfitted_head_is_not_saved(tmp_path):
    for name in ("svm", "softmax"):
        with pytest.raises(HeadError, match="not fitted"):
            save_head(make_head(name), tmp_path / "model.npz")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("suffix", [".npz", ".joblib"])
def test_metadata_outside_json_are_refused(tmp_path, suffix):
    with pytest.raises(ModelFileError, match="JSON"):
        save_head(fitted("dummy")[0], tmp_path / f"model{suffix}", {"array": np.zeros(3)})
    assert os.listdir(tmp_path) == []


def test_folders_are_made(tmp_path):
    save_head(fitted("dummy")[0], tmp_path / "a" / "b" / "model.npz")
    assert os.listdir(tmp_path / "a" / "b") == ["model.npz"]


def test_a_path_that_cannot_be_written_is_an_output_error(tmp_path):
    head, _ = fitted("dummy")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="file"):
        save_head(head, tmp_path / "file" / "model.npz")
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(OutputError):
        save_head(head, tmp_path / "folder.npz")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.npz"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    head, X = fitted("logreg")
    path = tmp_path / "model.npz"
    save_head(head, path)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OutputError):
        save_head(fitted("svm")[0], path)
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["model.npz"]
    assert_same(head, load_head(path), X)


@pytest.mark.parametrize("suffix", [".npz", ".keras", ".skops"])
def test_an_archive_that_would_fill_the_memory_is_refused(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    head = make_head("softmax", epochs=1).fit([[0.0], [1.0]], ["a", "b"])
    save_head(head if suffix != ".skops" else LogisticRegression().fit([[0.0], [1.0]], ["a", "b"]), path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(100 * 2**20))
    with pytest.raises(ModelFileError, match=r"its entries claim 104,8\d\d,\d\d\d bytes, too many for a file of"):
        load_head(path)
    with pytest.raises(ModelFileError, match="its entries claim"):
        read_metadata(path)


def test_a_document_of_endless_depth_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("embedonce.json", "[" * 200_000)
    with pytest.raises(ModelFileError, match=r"embedonce\.json in it is damaged"):
        read_metadata(tmp_path / "a.npz")
