from __future__ import annotations

import json
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from embedonce._keras import import_keras
from embedonce.cli.app import main
from embedonce.errors import FingerprintError, HeadError, ModelFileError, ParameterError
from embedonce.evaluate.models import image_model
from embedonce.evaluate.models.exporting import export
from embedonce.evaluate.models.training import train
from embedonce.extract.decoding import decode
from embedonce.extract.options import DTYPES
from embedonce.heads.io.files import load_head, read_metadata, save_head

HEADS = ("softmax", "logreg", "linear-svm", "svm")

PLAIN = """
import json, sys, zipfile
import numpy as np
images = np.load(sys.argv[1])

def classified(path):
    if path.endswith(".keras"):
        import keras
        return keras.models.load_model(path, safe_mode=True).predict(images, verbose=0)
    from ai_edge_litert.interpreter import Interpreter
    interpreter = Interpreter(path)
    given, answer = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    assert given["dtype"] == np.uint8
    got = []
    interpreter.resize_tensor_input(given["index"], (1, *images.shape[1:]))
    interpreter.allocate_tensors()
    for image in images:
        interpreter.set_tensor(given["index"], image[None])
        interpreter.invoke()
        got.append(interpreter.get_tensor(answer["index"])[0])
    return np.asarray(got)

answers = []
for path in sys.argv[2:]:
    names = json.loads(zipfile.ZipFile(path).read("embedonce.json"))["metadata"]["class_names"]
    answers.append([names, classified(path).tolist()])
assert not any(name.startswith("embedonce") for name in sys.modules)
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def models(cache, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    parameters = {"softmax": {"epochs": 40, "learning_rate": 0.01}}
    paths = {name: folder / f"{name}{'.keras' if name == 'softmax' else '.skops'}" for name in HEADS}
    for name, path in paths.items():
        train(cache, name, path, parameters=parameters.get(name))
    return paths


@pytest.fixture(scope="module")
def exported(models, tmp_path_factory):
    """Every head as ``.keras``, and as ``.tflite`` the two kinds that they become: one dense layer, and a kernel."""
    folder = tmp_path_factory.mktemp("exported")
    kinds = [(name, ".keras") for name in HEADS] + [("logreg", ".tflite"), ("svm", ".tflite")]
    return {(name, suffix): export(models[name], folder / f"{name}{suffix}") for name, suffix in kinds}


@pytest.mark.slow
def test_an_export_is_checked_on_every_image_that_the_head_was_not_trained_on(exported):
    for (name, suffix), done in exported.items():
        assert (done.path.name, done.checked) == (f"{name}{suffix}", 15)
        assert done.largest_difference <= 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".keras", ".tflite"])
def test_an_export_gives_the_heads_classes_without_embedonce(models, exported, cache, images, tmp_path, suffix):
    heads = [name for name, other in exported if other == suffix]
    rows = list(range(0, len(cache), 9))
    pixels = [decode((images / cache.paths[row]).read_bytes()) for row in rows]
    rows, pixels = zip(
        *((row, one) for row, one in zip(rows, pixels, strict=True) if one.shape == pixels[0].shape), strict=True
    )
    np.save(tmp_path / "images.npy", np.stack(pixels))
    paths = [str(exported[name, suffix].path) for name in heads]
    command = [sys.executable, "-c", PLAIN, str(tmp_path / "images.npy"), *paths]
    answers = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    features = cache.features[list(rows)]
    for name, (names, got) in zip(heads, answers, strict=True):
        head = load_head(models[name])
        assert [names[place] for place in np.argmax(got, axis=1)] == head.predict(features).tolist(), name
        np.testing.assert_allclose(got, head.predict_proba(features), atol=1e-3, err_msg=name)


@pytest.mark.slow
def test_loading_an_export_warns_of_nothing(exported):
    path = exported["softmax", ".keras"].path
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        import_keras().models.load_model(path)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".keras", ".tflite"])
def test_class_names_and_fingerprint_are_inside(exported, cache, suffix):
    path = exported["logreg", suffix].path
    with zipfile.ZipFile(path) as archive:
        metadata = json.loads(archive.read("embedonce.json"))["metadata"]
        if suffix == ".tflite":
            assert archive.read("labels.txt").decode().splitlines() == cache.class_names
    assert metadata["class_names"] == cache.class_names
    assert metadata["fingerprint"] == cache.fingerprint


@pytest.mark.slow
def test_an_exported_linear_head_is_a_model_of_embedonce_again(models, exported, cache):
    path = exported["linear-svm", ".keras"].path
    expected = load_head(models["linear-svm"]).predict_proba(cache.features)
    np.testing.assert_allclose(load_head(path).predict_proba(cache.features), expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".keras", ".tflite"])
def test_an_export_that_disagrees_is_not_written(models, tmp_path, monkeypatch, suffix):
    right = image_model.pooled_features
    monkeypatch.setattr(image_model, "pooled_features", lambda backbone, image: right(backbone, 0.5 * image))
    path = tmp_path / f"a{suffix}"
    path.write_text("older")
    with pytest.raises(ModelFileError, match="disagrees with the head on .* nothing was written"):
        export(models["svm"], path)
    assert path.read_text() == "older"


def test_it_can_be_checked_on_other_images_than_the_caches(models, images, tmp_path):
    assert export(models["logreg"], tmp_path / "a.keras", images=images / "ash", check=5).checked == 5


def _without_cache(model: Path, target: Path) -> Path:
    kept = {name: value for name, value in read_metadata(model).items() if name != "cache_path"}
    save_head(load_head(model), target, kept)
    return target


def test_without_cache_and_images_it_is_refused_and_says_what_to_give(models, cache_path, tmp_path):
    model = _without_cache(models["logreg"], tmp_path / "a.skops")
    with pytest.raises(ModelFileError, match=r"give it with --cache CACHE, or images with --images PATH"):
        export(model, tmp_path / "a.keras")
    assert export(model, tmp_path / "a.keras", cache=cache_path, check=3).checked == 3


def test_images_that_cannot_be_read_prove_nothing(models, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(ModelFileError, match=r"cannot be checked: .* Nothing was written"):
        export(models["logreg"], tmp_path / "a.keras", images=tmp_path / "broken.jpg")
    assert not (tmp_path / "a.keras").exists()


def test_heads_that_are_no_layers_are_refused(cache, tmp_path):
    train(cache, "knn", tmp_path / "knn.skops")
    with pytest.raises(HeadError, match=r"'knn' cannot be exported; the heads that can be are softmax, logreg"):
        export(tmp_path / "knn.skops", tmp_path / "a.keras")
    train(cache, "svm", tmp_path / "svm.skops", parameters={"probability": False})
    with pytest.raises(HeadError, match="trained with probability=False"):
        export(tmp_path / "svm.skops", tmp_path / "a.keras")


def test_features_of_another_precision_or_backbone_are_refused(models, tmp_path):
    metadata = read_metadata(models["logreg"])
    other = metadata | {"fingerprint": metadata["fingerprint"] | {"dtype": DTYPES["int8"]}}
    save_head(load_head(models["logreg"]), tmp_path / "a.skops", other)
    with pytest.raises(ModelFileError, match="holds features of precision int8"):
        export(tmp_path / "a.skops", tmp_path / "a.keras")
    other = metadata | {"fingerprint": metadata["fingerprint"] | {"weights_sha256": "0" * 64}}
    save_head(load_head(models["logreg"]), tmp_path / "a.skops", other)
    with pytest.raises(FingerprintError, match="weights_sha256"):
        export(tmp_path / "a.skops", tmp_path / "a.keras")


@pytest.mark.parametrize("name", ["a.onnx", "a"])
def test_another_ending_is_refused(models, tmp_path, name):
    with pytest.raises(ModelFileError, match=r"must end in \.keras or \.tflite"):
        export(models["logreg"], tmp_path / name)


@pytest.mark.parametrize("check", [0, -1, 1.5, True])
def test_a_check_of_no_images_is_refused(models, tmp_path, check):
    with pytest.raises(ParameterError, match="check of export must be an integer of at least 1"):
        export(models["logreg"], tmp_path / "a.keras", check=check)


@pytest.mark.slow
def test_the_command_says_what_it_checked(models, tmp_path):
    result = CliRunner().invoke(
        main, ["export", str(models["logreg"]), "-o", str(tmp_path / "a.keras"), "--check", "4"]
    )
    assert result.exit_code == 0, result.output
    assert "agrees with the head on 4 of 4 images" in result.stdout
    arguments = ["export", str(models["logreg"]), "-o", str(tmp_path / "b.keras"), "--check", "4", "--json"]
    told = json.loads(CliRunner().invoke(main, arguments).stdout)
    assert told["checked_images"] == 4
    assert 0 <= told["largest_difference"] <= 1e-3
    assert import_keras().models.load_model(tmp_path / "a.keras").output_shape == (None, 3)
