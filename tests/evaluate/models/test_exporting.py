from __future__ import annotations

import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from click.testing import CliRunner
from embedonce.cli.app import main
from embedonce.errors import FingerprintError, HeadError, ModelFileError, ParameterError
from embedonce.evaluate.comparison import evaluate_model
from embedonce.evaluate.models.exporting import export
from embedonce.evaluate.models.prediction import predict
from embedonce.evaluate.models.training import train
from embedonce.extract.decoding import decode
from embedonce.extract.options import DTYPES
from embedonce.heads.io.files import load_head, read_metadata, save_head

pytestmark = pytest.mark.usefixtures("one_backbone")

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
def models(cache, one_backbone, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    paths = {name: folder / f"{name}.npz" for name in ("logreg", "linear-svm", "svm")}
    for name, path in paths.items():
        train(cache, name, path)
    return paths


@pytest.fixture(scope="module")
def exported(models, images, cache_path, tmp_path_factory):
    """Paths of exports by name: heads of one layer and of kernels, both formats, and every way to check them."""
    folder = tmp_path_factory.mktemp("exported")
    metadata = {name: value for name, value in read_metadata(models["linear-svm"]).items() if name != "cache_path"}
    without_cache = folder / "without-cache.npz"
    save_head(load_head(models["linear-svm"]), without_cache, metadata)
    with pytest.raises(ModelFileError, match=r"Give it with --cache CACHE, or images with --images PATH"):
        export(without_cache, folder / "linear-svm.keras")
    result = export(models["svm"], folder / "svm.keras")
    assert result.checked == 15
    assert 0 <= result.largest_difference <= 1e-3
    paths = [result.path]
    commands = {
        "linear-svm.keras": [without_cache, "--cache", cache_path, "--check", "3"],
        "svm.tflite": [models["svm"], "--images", images / "ash", "--check", "5", "--json"],
    }
    printed = []
    for name, options in commands.items():
        paths.append(folder / name)
        done = CliRunner().invoke(main, ["export", "-o", str(paths[-1]), *map(str, options)])
        assert done.exit_code == 0, done.output
        printed.append(done.stdout)
    assert "agrees with the head on 3 of 3 images" in printed[0]
    told = json.loads(printed[1])
    assert told["checked_images"] == 5
    assert 0 <= told["largest_difference"] <= 1e-3
    return {path.name: path for path in paths}


@pytest.mark.slow
def test_exports_classify_as_heads_do_without_embedonce(models, exported, cache, images, tmp_path):
    rows = list(range(0, len(cache), 9))
    pixels = [decode((images / cache.paths[row]).read_bytes()) for row in rows]
    np.save(tmp_path / "images.npy", np.stack(pixels))
    command = [sys.executable, "-c", PLAIN, str(tmp_path / "images.npy"), *map(str, exported.values())]
    answers = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    for path, (names, probabilities) in zip(exported.values(), answers, strict=True):
        head = load_head(models[path.stem])
        predicted = [names[index] for index in np.argmax(probabilities, axis=1)]
        assert predicted == head.predict(cache.features[rows]).tolist(), path
        np.testing.assert_allclose(
            probabilities, head.predict_proba(cache.features[rows]), atol=1e-3, err_msg=str(path)
        )


@pytest.mark.slow
def test_exports_hold_class_names_and_fingerprint(exported, cache):
    for path in exported.values():
        with zipfile.ZipFile(path) as archive:
            metadata = json.loads(archive.read("embedonce.json"))["metadata"]
            if path.suffix == ".tflite":
                assert archive.read("labels.txt").decode().splitlines() == cache.class_names
        assert metadata["class_names"] == cache.class_names
        assert metadata["fingerprint"] == cache.fingerprint


@pytest.mark.slow
def test_an_exported_linear_head_can_be_loaded_again(models, exported, cache):
    expected = load_head(models["linear-svm"]).predict_proba(cache.features)
    np.testing.assert_allclose(
        load_head(exported["linear-svm.keras"]).predict_proba(cache.features), expected, atol=1e-5
    )


@pytest.mark.slow
def test_exports_predict_as_their_model_does(models, exported, images, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    for path in exported.values():
        expected = predict(models[path.stem], [images / "ash", broken], top=3)
        found = predict(path, [images / "ash", broken], top=3)
        for one, two in zip(expected, found, strict=True):
            assert (one.path, one.reason) == (two.path, two.reason)
            assert dict(one.classes) == pytest.approx(dict(two.classes), abs=1e-3)
        assert found[-1].reason


@pytest.mark.slow
def test_what_needs_features_refuses_a_lite_model(exported, cache, images, tmp_path):
    path = exported["svm.tflite"]
    with pytest.raises(ParameterError, match="parameter cache of predict is for models that take features"):
        predict(path, images / "ash", cache=cache)
    for work in (lambda: export(path, tmp_path / "a.keras"), lambda: evaluate_model(path, cache)):
        with pytest.raises(ModelFileError, match="whose head cannot be taken out. Give the model that it was exported"):
            work()
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(b"TFL3" * 99 + path.read_bytes()[-2000:])
    with pytest.raises(ModelFileError, match="damaged"):
        predict(damaged, images / "ash")


@pytest.mark.usefixtures("other_image_model")
def test_an_export_that_disagrees_is_not_written(models, tmp_path):
    path = tmp_path / "a.tflite"
    path.write_text("older")
    with pytest.raises(ModelFileError, match="disagrees with the head on .* Nothing was written"):
        export(models["svm"], path)
    assert path.read_text() == "older"


def test_unreadable_images_check_nothing(models, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(ModelFileError, match=r"cannot be checked, .* Nothing was written"):
        export(models["logreg"], tmp_path / "a.keras", images=tmp_path / "broken.jpg")
    assert not (tmp_path / "a.keras").exists()


def test_heads_that_are_not_layers_are_refused(cache, tmp_path):
    train(cache, "knn", tmp_path / "knn.npz")
    with pytest.raises(HeadError, match=r"'knn' cannot be exported"):
        export(tmp_path / "knn.npz", tmp_path / "a.keras")
    train(cache, "svm", tmp_path / "svm.npz", parameters={"probability": False})
    with pytest.raises(HeadError, match="trained with probability=False"):
        export(tmp_path / "svm.npz", tmp_path / "a.keras")


def test_another_precision_or_backbone_is_refused(models, tmp_path):
    metadata = read_metadata(models["logreg"])
    other = metadata | {"fingerprint": metadata["fingerprint"] | {"dtype": DTYPES["int8"]}}
    save_head(load_head(models["logreg"]), tmp_path / "a.npz", other)
    with pytest.raises(ModelFileError, match="holds features of precision int8, but an image model needs float32"):
        export(tmp_path / "a.npz", tmp_path / "a.keras")
    with pytest.raises(FingerprintError, match="weights_sha256"):
        export(models["logreg"], tmp_path / "a.keras", weights="random:1")


@pytest.mark.parametrize("name", ["a.onnx", "a"])
def test_another_suffix_is_refused(models, tmp_path, name):
    with pytest.raises(ModelFileError, match=r"must end in \.keras or \.tflite"):
        export(models["logreg"], tmp_path / name)


def test_a_check_of_no_images_is_refused(models, tmp_path):
    with pytest.raises(ParameterError, match="check of export must be an integer of at least 1"):
        export(models["logreg"], tmp_path / "a.keras", check=0)
