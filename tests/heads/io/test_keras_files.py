"""Heads in Keras's files: read from arrays where these are current, through Keras otherwise."""

from __future__ import annotations

import io
import json
import zipfile

import h5py
import numpy as np
import pytest
from embedonce._keras import import_keras
from embedonce.errors import ModelFileError
from embedonce.heads.io import keras_files
from embedonce.heads.io.export_keras import keras_head
from embedonce.heads.io.files import load_head, load_predictor, read_metadata, save_head
from embedonce.heads.io.keras_files import write_keras_metadata
from embedonce.heads.registry import make_head
from sklearn.datasets import make_blobs

METADATA = {"fingerprint": {"alpha": 1.0}, "class_names": ["aca", "größe", "scc"]}
X, CODES = make_blobs(60, 4, centers=3, random_state=0)
X = X.astype(np.float32)


def fitted(name, **parameters):
    return make_head(name, **parameters).fit(X, np.array(METADATA["class_names"])[CODES])


@pytest.fixture(scope="module")
def head():
    return fitted("softmax", epochs=1)


def image_model(head_model):
    keras = import_keras()
    image = keras.Input((2, 2, 1))
    return keras.Model(image, head_model(keras.layers.Flatten()(image)), name="image_classifier")


@pytest.fixture(scope="module")
def files(head, tmp_path_factory):
    """A head alone, one inside an image model, and an RBF machine inside one."""
    folder = tmp_path_factory.mktemp("keras")
    save_head(head, folder / "alone.keras", METADATA)
    image_model(head.model_).save(folder / "image.keras")
    write_keras_metadata(folder / "image.keras", METADATA, head)
    svm = fitted("svm")
    image_model(keras_head(svm)).save(folder / "svm.keras")
    write_keras_metadata(folder / "svm.keras", METADATA, svm)
    return {"alone": folder / "alone.keras", "image": folder / "image.keras", "svm": folder / "svm.keras"}


@pytest.mark.parametrize("name", ["alone", "image"])
def test_a_softmax_head_comes_back_the_same(files, head, name):
    loaded = load_head(files[name])
    np.testing.assert_array_equal(loaded.predict_proba(X), head.predict_proba(X))
    assert loaded.get_params() == head.get_params()
    assert loaded.history_ == head.history_
    assert read_metadata(files[name]) == METADATA
    assert len(loaded.fit(X, CODES).history_["loss"]) == 1


def test_any_head_in_an_image_model_comes_back(files):
    np.testing.assert_array_equal(load_head(files["svm"]).predict_proba(X), fitted("svm").predict_proba(X))


def test_keras_reads_the_files_without_embedonce(files, head):
    model = import_keras().models.load_model(files["alone"])
    np.testing.assert_allclose(model.predict(X, verbose=0), head.predict_proba(X), atol=1e-6)
    image = import_keras().models.load_model(files["image"])
    np.testing.assert_allclose(image.predict(X.reshape(-1, 2, 2, 1), verbose=0), head.predict_proba(X), atol=1e-6)


def test_predicting_imports_neither_keras_nor_scikit_learn(files, python):
    code = (
        "import sys\n"
        "from embedonce.heads.io import load_predictor\n"
        "print([len(load_predictor(path).classes_) for path in sys.argv[1:]])\n"
        "print([name for name in ('keras', 'tensorflow', 'sklearn') if name in sys.modules])\n"
    )
    assert python(code, *files.values()) == "[3, 3, 3]\n[]\n"


def replaced(path, target, names):
    """Write an archive again, with entries that a function of name and contents returns."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, names.get(name, old.read(name)))
    return target


def test_weights_that_were_changed_are_read_by_keras(files, head, tmp_path):
    other = fitted("softmax", epochs=2)
    save_head(other, tmp_path / "other.keras")
    with zipfile.ZipFile(tmp_path / "other.keras") as archive:
        weights = archive.read("model.weights.h5")
    path = replaced(files["alone"], tmp_path / "changed.keras", {"model.weights.h5": weights})
    for load in (load_head, load_predictor):
        np.testing.assert_array_equal(load(path).predict_proba(X), other.predict_proba(X))
    assert load_head(path).get_params() == head.get_params()


def test_class_names_are_enough_for_an_image_model(tmp_path, head):
    path = tmp_path / "whole.keras"
    image_model(head.model_).save(path)
    write_keras_metadata(path, {"class_names": ["old"]}, head)
    write_keras_metadata(path, METADATA)
    with zipfile.ZipFile(path) as archive:
        assert [name for name in archive.namelist() if name.startswith("embedonce")] == ["embedonce.json"]
    np.testing.assert_array_equal(load_head(path).predict_proba(X), head.predict_proba(X))


@pytest.mark.parametrize(
    ("names", "message"),
    [(["a", "b"], "3 outputs for 2 class names"), (["a"], "fewer than two classes"), (None, "class_names")],
)
def test_class_names_must_fit_the_model(tmp_path, head, names, message):
    path = tmp_path / "head.keras"
    head.model_.save(path)
    write_keras_metadata(path, {} if names is None else {"class_names": names})
    with pytest.raises(ModelFileError, match=message):
        load_head(path)


def test_a_keras_model_of_another_shape_is_refused(tmp_path):
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


def test_a_keras_file_with_code_in_it_is_refused(tmp_path):
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


def test_a_foreign_keras_file_is_refused(tmp_path, head):
    head.model_.save(tmp_path / "plain.keras")
    with pytest.raises(ModelFileError, match=r"holds no embedonce\.json"):
        load_head(tmp_path / "plain.keras")
    (tmp_path / "text.keras").write_text("text")
    with pytest.raises(ModelFileError, match="damaged"):
        write_keras_metadata(tmp_path / "text.keras", METADATA)


def test_a_truncated_keras_file_is_an_error(tmp_path, files):
    data = files["image"].read_bytes()
    for size in np.linspace(0, len(data) - 1, 7).astype(int):
        (tmp_path / "cut.keras").write_bytes(data[:size])
        with pytest.raises(ModelFileError):
            load_head(tmp_path / "cut.keras")


def test_a_damaged_document_is_an_error(tmp_path, files):
    with zipfile.ZipFile(files["alone"]) as archive:
        document = json.loads(archive.read("embedonce.json"))
    document |= {"format_version": 1, "head": {"name": "softmax"}}
    path = replaced(files["alone"], tmp_path / "a.keras", {"embedonce.json": json.dumps(document)})
    with pytest.raises(ModelFileError, match=r"embedonce\.json in it is damaged"):
        load_head(path)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (b"no HDF5", r"model\.weights\.h5 in it is damaged \("),
        (None, r"model\.weights\.h5 in it has a link to another place \('layers'\), which is not followed"),
    ],
)
def test_keras_never_gets_hdf5_that_is_damaged_or_forged(files, tmp_path, monkeypatch, weights, message):
    if weights is None:
        content = io.BytesIO()
        with h5py.File(content, "w") as file:
            file["layers"] = h5py.ExternalLink("secret.h5", "/x")
        weights = content.getvalue()
    path = replaced(files["alone"], tmp_path / "x.keras", {"model.weights.h5": weights})
    monkeypatch.setattr(keras_files, "import_keras", None)
    with pytest.raises(ModelFileError, match=message):
        load_head(path)
    with pytest.raises(ModelFileError, match=message):
        keras_files.load_model(path, "the model")


def test_a_keras_file_without_weights_is_refused(files, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(ModelFileError, match=r"the model: holds no model\.weights\.h5"):
        keras_files.load_model(tmp_path / "x.keras", "the model")
    (tmp_path / "x.keras").write_bytes(b"")
    with pytest.raises(ModelFileError, match=r"the model: damaged, or not a \.keras file"):
        keras_files.load_model(tmp_path / "x.keras", "the model")


@pytest.mark.parametrize("units", [10**8, 2**70])
def test_a_configuration_that_claims_much_memory_is_refused(files, tmp_path, units):
    with zipfile.ZipFile(files["alone"]) as archive:
        config = archive.read("config.json")
    forged = config.replace(b'"units": 3', f'"units": {units}'.encode())
    assert forged != config
    path = replaced(files["alone"], tmp_path / "x.keras", {"config.json": forged})
    before = import_keras().layers.Layer.add_weight
    with pytest.raises(ModelFileError, match=r"its layers claim more than 67,\d+,\d+ bytes of weights, too many for"):
        load_head(path)
    assert import_keras().layers.Layer.add_weight is before
