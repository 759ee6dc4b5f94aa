"""Saving heads, loading them, and refusing files that mean harm."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import zipfile
from pathlib import Path

import joblib
import numpy as np
import pytest
import skops.io
from embedonce._keras import import_keras
from embedonce.errors import HeadError, ModelFileError, OutputError
from embedonce.heads.io import keras_files
from embedonce.heads.io.files import TRUSTED, load_head, read_metadata, save_head, suffixes_for
from embedonce.heads.io.keras_files import write_keras_metadata
from embedonce.heads.registry import HEADS, make_head
from embedonce.heads.softmax import SoftmaxHead
from sklearn.datasets import make_blobs
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

METADATA = {"fingerprint": {"alpha": 1.0}, "class_names": ["aca", "größe", "scc"], "training": {"rows": 60}}
LABELS = {
    "short strings": np.array(["aca", "größe", "scc"]),
    "objects": np.array(["aca", "größe", "scc"], dtype=object),
    "int64": np.array([3, 5, 900]),
    "int32": np.array([0, 1, 2], dtype=np.int32),
    "uint8": np.array([0, 1, 255], dtype=np.uint8),
}


def fitted(name, labels=LABELS["short strings"]):
    X, codes = make_blobs(60, 4, centers=3, random_state=0)
    params = {"epochs": 1} if name == "softmax" else {}
    X = X.astype(np.float32)
    return make_head(name, **params).fit(X, labels[codes]), X


@pytest.fixture(scope="module")
def softmax_head():
    return fitted("softmax")


@pytest.fixture(scope="module")
def keras_file(softmax_head, tmp_path_factory):
    path = tmp_path_factory.mktemp("keras") / "head.keras"
    save_head(softmax_head[0], path, METADATA)
    return path


def assert_same(head, loaded, X):
    assert type(loaded) is type(head)
    assert loaded.classes_.dtype == head.classes_.dtype
    np.testing.assert_array_equal(loaded.classes_, head.classes_)
    np.testing.assert_array_equal(loaded.predict(X), head.predict(X))
    np.testing.assert_array_equal(loaded.predict_proba(X), head.predict_proba(X))
    assert loaded.get_params() == head.get_params()
    assert loaded.n_features_in_ == head.n_features_in_


def test_a_skops_file_may_hold_every_head_but_the_one_that_keras_keeps():
    assert len(TRUSTED) == len(HEADS) - 1
    assert all(name.startswith("embedonce.heads.") for name in TRUSTED)
    assert "embedonce.heads.softmax.SoftmaxHead" not in TRUSTED


@pytest.mark.parametrize("labels", list(LABELS))
@pytest.mark.parametrize("suffix", [".skops", ".joblib"])
@pytest.mark.parametrize("name", [name for name in HEADS if name != "softmax"])
def test_scikit_learn_head_comes_back_the_same(tmp_path, name, suffix, labels):
    head, X = fitted(name, LABELS[labels])
    path = tmp_path / f"model{suffix}"
    save_head(head, path, METADATA)
    assert_same(head, load_head(path, trust=suffix == ".joblib"), X)
    assert read_metadata(path) == METADATA


@pytest.mark.parametrize("labels", list(LABELS))
def test_softmax_head_comes_back_the_same_from_keras(tmp_path, labels):
    head, X = fitted("softmax", LABELS[labels])
    save_head(head, tmp_path / "model.keras", METADATA)
    loaded = load_head(tmp_path / "model.keras")
    assert_same(head, loaded, X)
    assert loaded.history_ == head.history_
    assert read_metadata(tmp_path / "model.keras") == METADATA


def test_softmax_head_comes_back_the_same_from_joblib(tmp_path, softmax_head):
    head, X = softmax_head
    save_head(head, tmp_path / "model.joblib", METADATA)
    assert_same(head, load_head(tmp_path / "model.joblib", trust=True), X)


def test_loaded_keras_head_can_be_fitted_again(keras_file, softmax_head):
    head, X = softmax_head
    again = load_head(keras_file).fit(X, head.predict(X))
    assert len(again.history_["loss"]) == 1


def test_keras_reads_the_head_without_embedonce(keras_file, softmax_head):
    head, X = softmax_head
    model = import_keras().models.load_model(keras_file)
    np.testing.assert_allclose(model.predict(X, verbose=0), head.predict_proba(X), atol=1e-6)


def whole_model(head_model):
    keras = import_keras()
    image = keras.Input((2, 2, 1))
    return keras.Model(image, head_model(keras.layers.Flatten()(image)), name="image_classifier")


def test_head_is_taken_out_of_a_whole_image_model(tmp_path, softmax_head):
    head, X = softmax_head
    path = tmp_path / "whole.keras"
    whole_model(head.model_).save(path)
    write_keras_metadata(path, METADATA, head=head)
    assert_same(head, load_head(path), X)
    assert read_metadata(path) == METADATA


def test_a_head_that_keras_reads_is_the_one_that_is_read_without_it(tmp_path, softmax_head, monkeypatch, python):
    head, _ = softmax_head
    whole_model(head.model_).save(tmp_path / "whole.keras")
    save_head(head, tmp_path / "alone.keras", METADATA)
    write_keras_metadata(tmp_path / "whole.keras", METADATA, head=head)
    paths = [tmp_path / "alone.keras", tmp_path / "whole.keras"]
    quick = [load_head(path) for path in paths]
    monkeypatch.setattr(keras_files, "read_dense", lambda path: None)
    for one, path in zip(quick, paths, strict=True):
        by_keras = load_head(path)
        np.testing.assert_array_equal(by_keras.coef_, one.coef_)
        np.testing.assert_array_equal(by_keras.intercept_, one.intercept_)
    code = (
        "import sys, embedonce\n"
        "print([embedonce.load_head(path).coef_.shape[1] for path in sys.argv[1:]])\n"
        "print('keras' in sys.modules, 'tensorflow' in sys.modules)\n"
    )
    assert python(code, *paths) == f"[{head.n_features_in_}, {head.n_features_in_}]\nFalse False\n"


def test_a_head_among_other_models_of_its_kind_is_still_the_right_one(tmp_path, softmax_head):
    head, X = softmax_head
    keras = import_keras()
    image = keras.Input((2, 2, 1))
    before = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(4, kernel_initializer="ones")])
    path = tmp_path / "whole.keras"
    keras.Model(image, head.model_(before(image))).save(path)
    write_keras_metadata(path, METADATA, head=head)
    assert_same(head, load_head(path), X)


def test_class_names_in_the_metadata_are_enough_for_a_whole_model(tmp_path, softmax_head):
    head, X = softmax_head
    path = tmp_path / "whole.keras"
    whole_model(head.model_).save(path)
    write_keras_metadata(path, {"class_names": ["old"]})
    write_keras_metadata(path, METADATA)
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist().count("embedonce.json") == 1
    loaded = load_head(path)
    np.testing.assert_array_equal(loaded.predict(X), head.predict(X))


@pytest.mark.parametrize(
    ("names", "message"),
    [(["a", "b"], "3 outputs for 2 class names"), (["a"], "fewer than two classes"), (None, "class_names")],
)
def test_class_names_that_do_not_fit_the_model_are_refused(tmp_path, softmax_head, names, message):
    path = tmp_path / "head.keras"
    softmax_head[0].model_.save(path)
    write_keras_metadata(path, {} if names is None else {"class_names": names})
    with pytest.raises(ModelFileError, match=message):
        load_head(path)


def test_keras_model_of_another_shape_is_no_head(tmp_path):
    keras = import_keras()
    deep = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(5), keras.layers.Dense(3, activation="softmax")], name="head"
    )
    for name, model in {"deep": deep, "other": keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])}.items():
        model.save(tmp_path / f"{name}.keras")
        write_keras_metadata(tmp_path / f"{name}.keras", METADATA)
    with pytest.raises(ModelFileError, match="one dense softmax layer, got Dense Dense"):
        load_head(tmp_path / "deep.keras")
    with pytest.raises(ModelFileError, match="no model named 'head'"):
        load_head(tmp_path / "other.keras")


def test_keras_file_with_code_in_it_is_refused_and_not_run(tmp_path):
    keras = import_keras()
    marker = tmp_path / "ran"

    def payload(x, path=str(marker)):
        from pathlib import Path

        Path(path).touch()
        return x

    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Lambda(payload), keras.layers.Dense(3, activation="softmax")], name="head"
    )
    model.save(tmp_path / "evil.keras")
    write_keras_metadata(tmp_path / "evil.keras", METADATA)
    marker.unlink(missing_ok=True)
    with pytest.raises(ModelFileError, match="Keras cannot load it"):
        load_head(tmp_path / "evil.keras")
    assert not marker.exists()


def test_foreign_keras_file_is_refused(tmp_path, softmax_head):
    softmax_head[0].model_.save(tmp_path / "plain.keras")
    with pytest.raises(ModelFileError, match=r"holds no embedonce\.json"):
        load_head(tmp_path / "plain.keras")


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


def test_metadata_of_a_hostile_joblib_file_are_read_without_unpickling(tmp_path):
    head, _ = fitted("dummy")
    path, marker = tmp_path / "evil.joblib", tmp_path / "ran"
    save_head(head, path, METADATA)
    good = path.read_bytes()
    joblib.dump(Payload(marker), path)
    evil = path.read_bytes()
    path.write_bytes(evil + good[good.index(b'{\n "format"') :])
    assert read_metadata(path) == METADATA
    assert not marker.exists()


def test_metadata_of_a_large_joblib_file_are_read_from_its_end(tmp_path, monkeypatch):
    path = tmp_path / "model.joblib"
    save_head(fitted("dummy")[0], path, METADATA)
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("the whole file was read"))
    assert read_metadata(path) == METADATA


def test_joblib_file_of_something_else_is_no_head(tmp_path):
    joblib.dump({"a": 1}, tmp_path / "dict.joblib")
    with pytest.raises(ModelFileError, match="no fitted head, but a dict"):
        load_head(tmp_path / "dict.joblib", trust=True)


def test_skops_file_with_foreign_type_is_refused_by_name_and_loads_with_trust(tmp_path, monkeypatch):
    (tmp_path / "foreign_thing.py").write_text("class ForeignThing:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    foreign = importlib.import_module("foreign_thing").ForeignThing()
    head, X = fitted("logreg")
    path = tmp_path / "model.skops"
    head.extra = foreign
    with pytest.raises(ModelFileError, match=r"foreign_thing\.ForeignThing.*use \.joblib"):
        save_head(head, path)
    assert not path.exists()
    del head.extra
    save_head(head, path)
    head.extra = foreign
    replace_archive(path, skops.io.dumps(head))
    with pytest.raises(ModelFileError, match=r"foreign_thing\.ForeignThing.*trust=True"):
        load_head(path)
    assert_same(head, load_head(path, trust=True), X)


def replace_archive(path, archive):
    """Keep embedonce.json of a .skops file, but take everything else from another archive."""
    with zipfile.ZipFile(path) as old:
        document = old.read("embedonce.json")
    path.write_bytes(archive)
    with zipfile.ZipFile(path, "a") as new:
        new.writestr("embedonce.json", document)


def test_skops_file_with_a_call_in_it_is_refused_and_not_run(tmp_path):
    head, _ = fitted("logreg")
    path, marker = tmp_path / "evil.skops", tmp_path / "ran"
    save_head(head, path)
    head.extra = Payload(marker)
    replace_archive(path, skops.io.dumps(head))
    with pytest.raises(ModelFileError, match="does not know"):
        load_head(path)
    assert not marker.exists()


def test_foreign_classifier_is_saved_where_its_types_are_trusted(tmp_path):
    X, y = make_blobs(60, 4, centers=3, random_state=0)
    plain = LogisticRegression().fit(X, y)
    save_head(plain, tmp_path / "plain.skops")
    np.testing.assert_array_equal(load_head(tmp_path / "plain.skops").predict(X), plain.predict(X))
    forest = RandomForestClassifier(2, random_state=0).fit(X, y)
    save_head(forest, tmp_path / "forest.joblib", METADATA)
    loaded = load_head(tmp_path / "forest.joblib", trust=True)
    np.testing.assert_array_equal(loaded.predict(X), forest.predict(X))


@pytest.mark.parametrize("name", ["logreg", "svm", "knn"])
@pytest.mark.parametrize("suffix", [".skops", ".joblib"])
def test_every_truncation_is_an_error_in_one_line(tmp_path, name, suffix):
    head, _ = fitted(name)
    whole, cut = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    save_head(head, whole, METADATA)
    data = whole.read_bytes()
    for size in np.linspace(0, len(data) - 1, 23).astype(int):
        cut.write_bytes(data[:size])
        with pytest.raises(ModelFileError) as caught:
            read_metadata(cut)
        assert str(cut) in str(caught.value)
        assert "\n" not in str(caught.value)
        if suffix == ".skops":
            with pytest.raises(ModelFileError):
                load_head(cut)


def test_truncated_keras_file_is_an_error(tmp_path, keras_file):
    data = keras_file.read_bytes()
    for size in np.linspace(0, len(data) - 1, 7).astype(int):
        (tmp_path / "cut.keras").write_bytes(data[:size])
        with pytest.raises(ModelFileError):
            load_head(tmp_path / "cut.keras")


def test_flipped_bytes_never_pass_as_another_kind_of_error(tmp_path):
    head, X = fitted("svm")
    path = tmp_path / "model.skops"
    save_head(head, path, METADATA)
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(data), 60):
        damaged = bytearray(data)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        # any other exception fails the test
        with contextlib.suppress(ModelFileError):
            np.testing.assert_array_equal(load_head(path).predict(X), head.predict(X))


@pytest.mark.parametrize("suffix", [".skops", ".joblib", ".keras"])
def test_text_under_a_model_name_is_an_error(tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    path.write_text("not a model")
    with pytest.raises(ModelFileError, match=r"damaged|not a"):
        load_head(path, trust=True)
    with pytest.raises(ModelFileError):
        read_metadata(path)


def test_later_format_and_foreign_document_are_refused(tmp_path):
    head, _ = fitted("dummy")
    path = tmp_path / "model.skops"
    for document, message in [
        ({"format": "embedonce model", "format_version": 2, "head": None, "metadata": {}}, "format version is 2"),
        ({"format": "other"}, "not written by embedonce"),
        ([], "not written by embedonce"),
    ]:
        path.write_bytes(skops.io.dumps(head))
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("embedonce.json", json.dumps(document))
        with pytest.raises(ModelFileError, match=message):
            read_metadata(path)


def test_wrong_suffix_says_which_ones_the_head_takes(tmp_path, softmax_head):
    head, _ = fitted("logreg")
    with pytest.raises(ModelFileError, match=r"\.skops or \.joblib"):
        save_head(head, tmp_path / "model.keras")
    with pytest.raises(ModelFileError, match=r"\.keras or \.joblib"):
        save_head(softmax_head[0], tmp_path / "model.skops")
    with pytest.raises(ModelFileError, match=r"\.skops, \.keras, \.joblib"):
        load_head(tmp_path / "model.pkl")
    assert suffixes_for(head)[0] == ".skops"


def test_missing_file_is_said_to_be_missing(tmp_path):
    for suffix in (".skops", ".keras", ".joblib"):
        with pytest.raises(ModelFileError, match="no such file"):
            load_head(tmp_path / f"absent{suffix}", trust=True)


def test_unfitted_head_is_not_saved(tmp_path):
    for head, suffix in [(make_head("svm"), ".skops"), (SoftmaxHead(), ".keras")]:
        with pytest.raises(HeadError, match="not fitted"):
            save_head(head, tmp_path / f"model{suffix}")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("suffix", [".skops", ".joblib"])
def test_metadata_outside_json_are_refused_before_anything_is_written(tmp_path, suffix):
    head, _ = fitted("dummy")
    with pytest.raises(ModelFileError, match="JSON"):
        save_head(head, tmp_path / f"model{suffix}", {"array": np.zeros(3)})
    assert os.listdir(tmp_path) == []


def test_folders_are_made_and_nothing_else_is_left(tmp_path):
    head, _ = fitted("dummy")
    save_head(head, tmp_path / "a" / "b" / "model.skops")
    assert os.listdir(tmp_path / "a" / "b") == ["model.skops"]


@pytest.mark.parametrize("name", ["dummy", "softmax"])
def test_path_that_cannot_be_written_is_an_output_error(tmp_path, name, softmax_head):
    head = softmax_head[0] if name == "softmax" else fitted(name)[0]
    suffix = suffixes_for(head)[0]
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="file"):
        save_head(head, tmp_path / "file" / f"model{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    with pytest.raises(OutputError):
        save_head(head, tmp_path / f"folder{suffix}")
    assert sorted(os.listdir(tmp_path)) == ["file", f"folder{suffix}"]


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    head, X = fitted("logreg")
    path = tmp_path / "model.skops"
    save_head(head, path)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OutputError):
        save_head(fitted("svm")[0], path)
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["model.skops"]
    assert_same(head, load_head(path), X)
