from __future__ import annotations

import json
import warnings
import zipfile

import embedonce
import numpy as np
import pytest
from embedonce._keras import import_keras
from embedonce.cache import FeatureCache
from embedonce.errors import (
    FingerprintError,
    HeadError,
    ModelFileError,
    OutputError,
    WeightsError,
)
from embedonce.evaluate.comparison.evaluation import evaluate_model
from embedonce.evaluate.models import image_model
from embedonce.evaluate.models.training import train
from embedonce.evaluate.shared import plots
from embedonce.heads.io.files import load_head, read_metadata, save_head

pytestmark = pytest.mark.usefixtures("one_backbone")


@pytest.fixture(scope="module")
def trained(cache_path, one_backbone, tmp_path_factory):
    """A softmax head, trained long enough to be confident, as an image model."""
    folder = tmp_path_factory.mktemp("models")
    opened = FeatureCache.open(cache_path)
    return train(opened, "softmax", folder / "trees.keras", parameters={"epochs": 40, "learning_rate": 0.01})


def test_plain_keras_loads_the_image_model(trained, cache, images):
    import tensorflow as tf

    assert trained.checked == image_model.CHECKED_IMAGES
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = import_keras().models.load_model(trained.path, safe_mode=True)
    assert len(model.trainable_weights) == 2  # the backbone is frozen
    names = json.loads(zipfile.ZipFile(trained.path).read("embedonce.json"))["metadata"]["class_names"]
    rows = list(range(0, len(cache), 5))
    pixels = [tf.io.decode_image((images / cache.paths[row]).read_bytes(), channels=3).numpy() for row in rows]
    probabilities = model.predict_on_batch(np.stack(pixels))
    assert [names[index] for index in probabilities.argmax(axis=1)] == trained.head.predict(
        cache.features[rows]
    ).tolist()
    np.testing.assert_allclose(probabilities, trained.head.predict_proba(cache.features[rows]), atol=1e-3)


def test_the_curves_are_drawn_next_to_the_model(trained):
    assert trained.curves == trained.path.with_name("trees.curves.png")
    assert trained.curves.read_bytes().startswith(b"\x89PNG")


def test_a_figure_that_fails_does_not_cost_the_model(cache, tmp_path, monkeypatch):
    path, parameters = tmp_path / "a.npz", {"epochs": 1}
    assert train(cache, "softmax", path, parameters=parameters).curves.exists()

    def fail(figure, path):
        raise RuntimeError("no font")

    monkeypatch.setattr(plots, "save_figure", fail)
    trained = train(cache, "softmax", path, parameters=parameters, seed=1)
    assert trained.curves is None
    assert trained.notes[-1] == "a.curves.png could not be drawn (RuntimeError: no font)"
    assert read_metadata(path)["split"]["seed"] == 1
    assert list(tmp_path.iterdir()) == [path]  # the curves of the earlier model are gone


def test_the_head_comes_back_from_the_image_model(trained, cache):
    head = load_head(trained.path)
    assert head.classes_.tolist() == ["ash", "birch", "cedar"]
    np.testing.assert_allclose(
        head.predict_proba(cache.features), trained.head.predict_proba(cache.features), atol=1e-6
    )


def test_an_image_model_can_serve_as_weights(trained, make_images, tmp_path, small, cache):
    images = make_images(tmp_path / "images", ("ash", "birch"), per_class=1)
    options = small | {"weights": trained.path}
    assert embedonce.extract_features(images, tmp_path / "a.h5", **options).fingerprint == cache.fingerprint


def test_the_model_says_where_it_comes_from(trained, cache):
    metadata = read_metadata(trained.path)
    assert metadata["fingerprint"] == cache.fingerprint
    about = {"method": "random", "seed": 0, "train": 57, "test": 15}
    assert {name: metadata["split"][name] for name in about} == about
    assert metadata["scores"]["accuracy"] == trained.result.scores["accuracy"]


@pytest.mark.usefixtures("other_image_model")
def test_a_model_that_disagrees_is_not_written(cache, tmp_path):
    (tmp_path / "a.keras").write_text("older")
    with pytest.raises(ModelFileError, match="disagrees with the head on .* Nothing was written"):
        train(cache, "softmax", tmp_path / "a.keras", parameters={"epochs": 5, "learning_rate": 0.01})
    assert (tmp_path / "a.keras").read_text() == "older"


@pytest.mark.usefixtures("other_image_model")
def test_an_image_model_without_images_has_a_note(cache, tmp_path, monkeypatch):
    monkeypatch.setitem(cache.provenance, "image_root", str(tmp_path / "gone"))
    done = train(cache, "softmax", tmp_path / "a.keras", parameters={"epochs": 1})
    assert done.checked == 0
    assert any("not checked on images" in note for note in done.notes)


def test_weights_that_are_gone_are_asked_for(cache, tmp_path, monkeypatch):
    monkeypatch.setitem(cache.provenance, "weights_path", str(tmp_path / "gone.h5"))
    with pytest.raises(WeightsError, match=r"gone\.h5, no longer exists\. Name it with --weights FILE"):
        train(cache, "softmax", tmp_path / "a.keras", parameters={"epochs": 1})


@pytest.mark.parametrize(("head", "name"), [("softmax", "a.skops"), ("logreg", "a.keras"), ("logreg", "a")])
def test_an_incorrect_suffix_is_refused_before_training(cache, tmp_path, head, name):
    with pytest.raises(ModelFileError, match=f"model file of head '{head}' must end in"):
        train(cache, head, tmp_path / name)


def test_an_output_that_cannot_be_written_is_refused(cache, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="folder of the model"):
        train(cache, "logreg", tmp_path / "file" / "a.npz")


def test_training_images_are_left_out_of_the_scores(trained, cache):
    done = evaluate_model(trained.path, cache)
    assert len(done.rows) == 15
    assert done.left_out == 57
    assert done.result.scores["accuracy"] == trained.result.scores["accuracy"]
    everything = evaluate_model(trained.path, cache, include_training=True)
    assert len(everything.rows) == 72
    assert any("57 of the 72 images were used in training" in note for note in everything.notes)


def test_a_model_for_other_features_is_refused(trained, cache, tmp_path):
    metadata = read_metadata(trained.path)
    metadata["fingerprint"] |= {"weights_sha256": "0" * 64}
    save_head(trained.head, tmp_path / "a.keras", metadata)
    with pytest.raises(FingerprintError, match="weights_sha256"):
        evaluate_model(tmp_path / "a.keras", cache)


def test_a_class_that_the_model_does_not_know_is_named(trained, tmp_path, make_images, small):
    folder = make_images(tmp_path / "images", ("ash", "oak"))
    other = embedonce.extract_features(folder, tmp_path / "a.h5", **small)
    with pytest.raises(HeadError, match="knows the classes ash, birch, cedar; the cache has also oak. Give the class"):
        evaluate_model(trained.path, other)


@pytest.mark.parametrize(
    ("head", "name", "message"),
    [
        ("sklearn.linear_model:LogisticRegression", "model.npz", r"must end in \.skops or \.joblib"),
        ("unsaveable:Classifier", "model.skops", r"does not know: unsaveable\.Classifier.*Use \.joblib"),
    ],
)
def test_what_cannot_be_saved_is_not_trained(cache, tmp_path, monkeypatch, head, name, message):
    (tmp_path / "unsaveable.py").write_text(
        "from sklearn.linear_model import LogisticRegression\nclass Classifier(LogisticRegression):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("embedonce.evaluate.models.training.fit_and_score", None)
    with pytest.raises(ModelFileError, match=message):
        train(cache, head, tmp_path / name)
