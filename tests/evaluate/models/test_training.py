from __future__ import annotations

import json
import zipfile

import embedonce
import numpy as np
import pytest
from embedonce._keras import import_keras
from embedonce.cache.reader import FeatureCache
from embedonce.errors import (
    FingerprintError,
    HeadError,
    ModelFileError,
    OutputError,
    SplitError,
    WeightsError,
)
from embedonce.evaluate.models import image_model
from embedonce.evaluate.models.evaluation import evaluate_model
from embedonce.evaluate.models.training import train
from embedonce.heads.io.files import load_head, read_metadata


@pytest.fixture(scope="module")
def trained(cache_path, tmp_path_factory):
    """A softmax head, trained long enough to be sure of itself, as a whole image model."""
    folder = tmp_path_factory.mktemp("models")
    opened = FeatureCache.open(cache_path)
    return train(opened, "softmax", folder / "trees.keras", parameters={"epochs": 40, "learning_rate": 0.01})


def test_plain_keras_loads_the_model_and_gives_the_class_that_the_head_gives(trained, cache, images):
    keras = import_keras()
    import tensorflow as tf

    model = keras.models.load_model(trained.path, safe_mode=True)
    names = json.loads(zipfile.ZipFile(trained.path).read("embedonce.json"))["metadata"]["class_names"]
    expected = trained.head.predict_proba(cache.features)
    for row in range(0, len(cache), 5):
        pixels = tf.io.decode_image((images / cache.paths[row]).read_bytes(), channels=3).numpy()
        got = model.predict(pixels[None], verbose=0)[0]
        assert names[got.argmax()] == trained.head.predict(cache.features[[row]])[0]
        np.testing.assert_allclose(got, expected[row], atol=1e-3)


def test_the_model_was_checked_on_images_before_it_was_written(trained):
    assert trained.checked == image_model.CHECKED_IMAGES


def test_the_backbone_in_the_model_is_frozen(trained):
    model = import_keras().models.load_model(trained.path)
    assert len(model.trainable_weights) == 2


def test_the_curves_are_drawn_beside_the_model(trained):
    assert trained.curves == trained.path.with_name("trees.curves.png")
    assert trained.curves.read_bytes().startswith(b"\x89PNG")


def test_the_head_comes_back_from_the_image_model(trained, cache):
    head = load_head(trained.path)
    assert head.classes_.tolist() == ["ash", "birch", "cedar"]
    np.testing.assert_allclose(
        head.predict_proba(cache.features), trained.head.predict_proba(cache.features), atol=1e-6
    )


def test_a_saved_image_model_serves_as_weights_of_the_same_fingerprint(trained, images, tmp_path, small, cache):
    again = embedonce.extract_features(images, tmp_path / "a.h5", **(small | {"weights": trained.path}))
    assert again.fingerprint == cache.fingerprint


def test_the_model_says_where_it_comes_from(trained, cache):
    metadata = read_metadata(trained.path)
    assert metadata["fingerprint"] == cache.fingerprint
    about = {"method": "random", "seed": 0, "train": 57, "test": 15}
    assert {name: metadata["split"][name] for name in about} == about
    assert metadata["scores"]["accuracy"] == trained.result.scores["accuracy"]


def test_a_model_that_disagrees_with_the_cache_is_not_written(cache, tmp_path, monkeypatch):
    right = image_model.pooled_features
    monkeypatch.setattr(image_model, "pooled_features", lambda backbone, image: right(backbone, 0.5 * image))
    (tmp_path / "a.keras").write_text("older")
    with pytest.raises(ModelFileError, match="disagrees with the head on .* nothing was written"):
        train(cache, "softmax", tmp_path / "a.keras", parameters={"epochs": 40, "learning_rate": 0.01})
    assert (tmp_path / "a.keras").read_text() == "older"


def test_without_the_image_folder_the_model_is_written_and_the_note_says_so(cache, tmp_path, monkeypatch):
    monkeypatch.setitem(cache.provenance, "image_root", str(tmp_path / "gone"))
    done = train(cache, "softmax", tmp_path / "a.keras", parameters={"epochs": 1})
    assert done.checked == 0
    assert any("not checked on images" in note for note in done.notes)


def test_other_weights_than_those_of_the_cache_are_refused(cache, tmp_path):
    with pytest.raises(FingerprintError, match="weights_sha256"):
        train(cache, "softmax", tmp_path / "a.keras", parameters={"epochs": 1}, weights="random:1")


def test_weights_that_are_gone_are_asked_for(cache, tmp_path, monkeypatch):
    monkeypatch.setitem(cache.provenance, "weights_path", str(tmp_path / "gone.h5"))
    with pytest.raises(WeightsError, match=r"gone\.h5, is gone; give it with --weights FILE"):
        train(cache, "softmax", tmp_path / "a.keras", parameters={"epochs": 1})


@pytest.mark.parametrize(("head", "name"), [("softmax", "a.skops"), ("logreg", "a.keras"), ("logreg", "a")])
def test_a_wrong_ending_is_refused_before_training(cache, tmp_path, head, name):
    with pytest.raises(ModelFileError, match=f"model file of head '{head}' must end in"):
        train(cache, head, tmp_path / name)


def test_an_output_that_cannot_be_written_is_refused(cache, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="folder of the model"):
        train(cache, "logreg", tmp_path / "file" / "a.skops")


def test_by_default_a_model_is_scored_on_what_it_has_not_seen(trained, cache):
    done = evaluate_model(trained.path, cache)
    assert len(done.rows) == 15
    assert done.left_out == 57
    assert done.result.scores["accuracy"] == trained.result.scores["accuracy"]
    everything = evaluate_model(trained.path, cache, include_training=True)
    assert len(everything.rows) == 72
    assert any("57 of the 72 images were used in training" in note for note in everything.notes)


def test_a_model_of_all_images_has_nothing_left_to_be_scored_on(cache, tmp_path):
    done = train(cache, "logreg", tmp_path / "a.skops", split="none")
    assert done.result is None
    with pytest.raises(SplitError, match="trained on every one of these images"):
        evaluate_model(tmp_path / "a.skops", cache)


def test_images_seen_in_training_are_known_by_content_not_by_name(
    cache, cache_path, images, tmp_path, make_images, small
):
    train(cache, "logreg", tmp_path / "a.skops")
    copies = make_images(tmp_path / "copies", per_class=30)  # the 24 known of each class, and 6 more
    for image in sorted(copies.rglob("*.*")):
        image.rename(image.with_stem(f"renamed-{image.stem}"))
    other = embedonce.extract_features(copies, tmp_path / "b.h5", **small)
    done = evaluate_model(tmp_path / "a.skops", other)
    assert done.left_out == 57
    assert len(done.rows) == 90 - 57


def test_a_model_for_other_features_is_refused(trained, images, tmp_path, small):
    other = embedonce.extract_features(images, tmp_path / "a.h5", **(small | {"weights": "random:1"}))
    with pytest.raises(FingerprintError, match="weights_sha256"):
        evaluate_model(trained.path, other)


def test_a_class_that_the_model_does_not_know_is_named(trained, tmp_path, make_images, small):
    folder = make_images(tmp_path / "images", ("ash", "oak"))
    other = embedonce.extract_features(folder, tmp_path / "a.h5", **small)
    with pytest.raises(HeadError, match="knows the classes ash, birch, cedar; the cache has also oak; give the class"):
        evaluate_model(trained.path, other)


def test_fewer_classes_than_the_model_knows_are_scored(trained, tmp_path, make_images, small):
    folder = make_images(tmp_path / "images", ("ash", "birch"), per_class=30)
    other = embedonce.extract_features(folder, tmp_path / "a.h5", **small)
    assert evaluate_model(trained.path, other).result.scores["accuracy"] > 0.5


def test_the_test_part_of_a_split_file_can_be_scored(cache, tmp_path):
    train(cache, "logreg", tmp_path / "a.skops")
    lines = ["path,part", f"{cache.paths[0]},train"] + [f"{path},test" for path in cache.paths[1:]]
    (tmp_path / "s.csv").write_text("\n".join(lines))
    done = evaluate_model(tmp_path / "a.skops", cache, split=tmp_path / "s.csv", include_training=True)
    assert len(done.rows) == 71


def test_a_head_without_a_fingerprint_is_scored_with_a_note(cache, tmp_path):
    head = embedonce.make_head("logreg").fit(cache.features, cache.label_names)
    embedonce.save_head(head, tmp_path / "a.skops")
    done = evaluate_model(tmp_path / "a.skops", cache)
    assert any("does not say which features" in note for note in done.notes)
    narrow = embedonce.make_head("logreg").fit(cache.features[:, :9], cache.label_names)
    embedonce.save_head(narrow, tmp_path / "b.skops")
    with pytest.raises(ModelFileError, match="takes 9 features, the cache has 1280"):
        evaluate_model(tmp_path / "b.skops", cache)
