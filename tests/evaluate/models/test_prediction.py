from __future__ import annotations

import csv
import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from embedonce.cli.app import main
from embedonce.errors import FingerprintError, ImageFolderError, ModelFileError, ParameterError
from embedonce.evaluate.models.prediction import predict
from embedonce.evaluate.models.training import train
from embedonce.extract.scan import find_images
from embedonce.heads.io.files import load_head, read_metadata, save_head
from embedonce.heads.registry import make_head


@pytest.fixture(scope="module")
def model(cache, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "trees.npz"
    train(cache, "logreg", path)
    return path


@pytest.fixture
def run():
    def call(*arguments, status=0):
        result = CliRunner().invoke(main, ["predict", *map(str, arguments)])
        assert result.exit_code == status, result.output
        return result.stdout

    return call


def test_predictions_are_those_of_the_cached_features(model, images, cache):
    found = predict(model, images, top=3)
    head = load_head(model)
    assert [Path(one.path).relative_to(images.resolve()).as_posix() for one in found] == cache.paths
    assert [one.classes[0][0] for one in found] == head.predict(cache.features).tolist()
    expected = np.sort(head.predict_proba(cache.features), axis=1)[:, ::-1]
    np.testing.assert_allclose([[share for _, share in one.classes] for one in found], expected, atol=1e-3)


def test_files_and_folders_keep_their_order(model, images):
    some = sorted((images / "cedar").iterdir())
    found = predict(model, [some[3], images / "cedar", some[1]])
    assert [one.path for one in found] == [str(path) for path in (some[3], *some[:3], *some[4:])]


def test_an_unreadable_image_has_a_reason(model, images, tmp_path, run):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    good = next((images / "ash").iterdir())
    found = predict(model, [broken, good])
    assert found[0].reason
    assert found[0].classes == ()
    assert found[1].classes
    assert "not read" in run(model, broken, good, status=1)
    assert json.loads(run(model, broken, good, "--json", status=1))[0]["error"] == found[0].reason


def test_features_are_taken_from_a_cache(model, images, cache, monkeypatch):
    plain = predict(model, images / "ash")

    def refuse(self, data):
        raise AssertionError("nothing needs decoding")

    monkeypatch.setattr("embedonce.extract.recipe.Recipe.decode", refuse)
    assert predict(model, images / "ash", cache=cache) == plain


def test_a_cache_of_other_features_is_refused(model, images, tmp_path, small):
    import embedonce

    other = embedonce.extract_features(images, tmp_path / "other.h5", **small | {"image_size": 96})
    with pytest.raises(FingerprintError, match="image_size is 64 there, 96 here"):
        predict(model, images / "ash", cache=other)


def test_the_command_prints_a_line_csv_or_json(model, images, run):
    image = sorted((images / "birch").iterdir())[0]
    assert run(model, image).startswith(f"{image}: birch ")
    rows = list(csv.DictReader(io.StringIO(run(model, image, "--csv", "--top", 2))))
    assert [row["path"] for row in rows] == [str(image)] * 2
    (answer,) = json.loads(run(model, image, "--json"))
    assert answer["class"] == "birch" == rows[0]["class"]
    assert 0 < answer["probability"] <= 1


def test_csv_has_a_row_for_an_image_that_is_not_read(model, images, tmp_path):
    for name in ("a.jpg", "b.psd"):
        (tmp_path / name).write_bytes(b"no image")
    shutil.copy(next((images / "ash").iterdir()), tmp_path)
    done = CliRunner().invoke(main, ["predict", str(model), str(tmp_path), str(tmp_path / "b.psd"), "--csv"])
    assert done.exit_code == 1
    rows = {Path(row["path"]).name: row for row in csv.DictReader(io.StringIO(done.stdout))}
    assert len(rows) == 3
    assert rows["a.jpg"] | {"path": ""} == {
        "path": "",
        "class": "",
        "probability": "",
        "novelty": "",
        "error": "not an image of a known format",
    }
    assert "not an image of" in rows["b.psd"]["error"]


def test_a_head_without_probabilities_gives_classes(cache, images, tmp_path, run):
    path = tmp_path / "plain.joblib"
    train(cache, "sklearn.linear_model:Perceptron", path)
    (one,) = predict(path, next((images / "ash").iterdir()), trust=True, top=3)
    assert [share for _, share in one.classes] == [None]


def test_a_keras_model_predicts_too(model, cache, images, tmp_path):
    head = make_head("softmax", epochs=1).fit(cache.features, cache.label_names)
    save_head(head, tmp_path / "trees.keras", read_metadata(model))
    found = predict(tmp_path / "trees.keras", images / "ash")
    here = [row for row, path in enumerate(cache.paths) if path.startswith("ash/")]
    assert [one.classes[0][0] for one in found] == head.predict(cache.features[here]).tolist()


def test_no_tensorflow_is_needed(model, images, python):
    code = (
        "import sys, embedonce; found = embedonce.predict(sys.argv[1], sys.argv[2])\n"
        "print(len(found), 'tensorflow' in sys.modules)"
    )
    assert python(code, model, images / "ash").split() == ["24", "False"]


def test_invalid_input_is_refused_with_a_reason(model, images, cache, tmp_path):
    with pytest.raises(ParameterError, match="top of predict must be an integer of at least 1, got 0"):
        predict(model, images, top=0)
    with pytest.raises(ImageFolderError, match=r"cannot read .*none.jpg: No such file"):
        predict(model, tmp_path / "none.jpg")
    with pytest.raises(ImageFolderError, match="has no images"):
        predict(model, tmp_path)
    plain = tmp_path / "plain.npz"
    save_head(make_head("dummy").fit(cache.features, cache.label_names), plain)
    with pytest.raises(ModelFileError, match="does not say how its features were made"):
        predict(plain, images)


def test_images_are_found_at_every_depth_but_not_hidden_ones(images, tmp_path):
    source = next((images / "ash").glob("*.png"))
    for name in ("top.png", "a/b/deep.png", ".hidden.png", ".folder/x.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, tmp_path / name)
    assert [Path(image.path.decode()).name for image in find_images([tmp_path]).images] == ["deep.png", "top.png"]


def test_training_images_are_marked(cache, images, tmp_path):
    model = tmp_path / "head.npz"
    split = train(cache, "knn", model).split
    found = predict(model, images)
    trained_on = {str(images.resolve() / cache.paths[row]) for row in split.train}
    assert {one.path for one in found if one.in_training} == trained_on
    assert f"{len(trained_on)} images were used in training, where a model is too certain" in found.notes
    shown = CliRunner().invoke(main, ["predict", str(model), str(images)]).stdout
    assert shown.count("(a training image)") == len(trained_on)


def test_images_of_a_folder_are_in_the_order_of_their_numbers(tmp_path):
    for name in ("new 10.png", "new 2.png", "new 1.png", "new 1b/3.png", "new.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = [os.path.relpath(image.path, os.fsencode(tmp_path)).decode() for image in find_images([tmp_path]).images]
    assert found == ["new 1.png", "new 1b/3.png", "new 2.png", "new 10.png", "new.png"]


def test_images_of_other_formats_are_reported(model, images, tmp_path):
    shutil.copy(next((images / "ash").glob("*.png")), tmp_path / "z.png")
    for name in ("a.PSD", "deep/b.jxl", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"other")
    found = predict(model, [tmp_path, tmp_path / "z.png"])
    assert [Path(one.path).name for one in found] == ["z.png", "a.PSD", "b.jxl"]
    assert found[0].classes
    assert not found[0].reason
    assert [one.reason for one in found[1:]] == [
        f"its format {ending} is not read. Convert it to JPEG or PNG" for ending in (".psd", ".jxl")
    ]
