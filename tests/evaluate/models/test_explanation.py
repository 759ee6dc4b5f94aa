from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from embedonce.cli.app import main
from embedonce.errors import (
    FingerprintError,
    HeadError,
    ImageError,
    ImageFolderError,
    ModelFileError,
    OutputError,
    ParameterError,
)
from embedonce.evaluate.models import explanation as module
from embedonce.evaluate.models.activation_map import heatmap_of
from embedonce.evaluate.models.explanation import explain
from embedonce.evaluate.models.prediction import predict
from embedonce.evaluate.models.training import train
from embedonce.evaluate.shared import plots
from embedonce.extract.options import DTYPES
from embedonce.heads.evidence import EXPLAINABLE, LINEAR, Evidence, class_evidence
from embedonce.heads.io.files import load_head, read_metadata, save_head
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

pytestmark = pytest.mark.usefixtures("one_backbone")


@pytest.fixture(scope="module")
def models(cache, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    paths = {name: folder / f"{name}.npz" for name in EXPLAINABLE}
    for name, path in paths.items():
        train(cache, name, path, parameters={"epochs": 20, "learning_rate": 0.01} if name == "softmax" else None)
    return paths


@pytest.fixture
def image(images):
    return sorted((images / "birch").iterdir())[1]


def _contrast(probabilities):
    logs = np.log(probabilities)
    return logs - logs.mean()


@pytest.mark.parametrize("name", LINEAR)
def test_regions_and_bias_add_up_to_the_score(models, image, cache, name):
    for class_name in cache.class_names:
        done = explain(models[name], image, class_name=class_name)
        assert (done.method, done.class_name) == ("cam", class_name)
        assert done.heatmap.shape == (2, 2)  # of 64 pixels
        score = _contrast(done.probabilities)[done.classes.index(class_name)]
        assert done.score == pytest.approx(score, rel=1e-4, abs=1e-3)
        assert done.heatmap.sum() + done.bias == pytest.approx(done.score, rel=1e-4, abs=1e-3)
        assert done.remainder == done.heatmap.sum() + done.bias - done.score


@pytest.mark.parametrize("name", EXPLAINABLE)
def test_the_predicted_class_is_explained_by_default(models, image, name):
    done = explain(models[name], image)
    (prediction,) = predict(models[name], image)
    assert prediction.classes == ((done.class_name, pytest.approx(done.probability, abs=1e-5)),)
    assert done.predicted
    assert done.feature_difference < 1e-3
    assert done.pixels.shape == (70, 90, 3)


def test_grad_cam_is_the_rectified_map_of_the_gradient(models, image, monkeypatch):
    seen = []
    right = module.heatmap_of
    monkeypatch.setattr(module, "heatmap_of", lambda *given: seen.append(given) or right(*given))
    done = explain(models["svm"], image)
    ((maps, _, chosen),) = seen
    assert (done.method, done.bias, done.remainder) == ("grad-cam", None, None)
    head, features = load_head(models["svm"]), maps.mean(axis=(0, 1), dtype=np.float64)

    def score(moved):
        return class_evidence(head, moved.mean(axis=(0, 1))).scores[chosen]

    # Selvaraju et al.: the weight of a feature is the mean over regions of the score's derivative
    moved, step = np.repeat(maps[None].astype(np.float64), 2, axis=0), 1e-3
    for feature in np.argsort(-np.abs(features))[:5]:
        slopes = []
        for place in np.ndindex(maps.shape[:2]):
            moved[0][(*place, feature)] += step
            moved[1][(*place, feature)] -= step
            slopes.append((score(moved[0]) - score(moved[1])) / (2 * step))
            moved[:] = maps
        weight = class_evidence(head, features).weights[feature, chosen] / (maps.shape[0] * maps.shape[1])
        assert np.mean(slopes) == pytest.approx(weight, rel=1e-3, abs=1e-9)
    weights = class_evidence(head, features).weights[:, chosen] / 4
    np.testing.assert_allclose(done.heatmap, np.maximum(maps @ weights, 0), rtol=1e-3, atol=1e-6)


@settings(max_examples=50)
@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_any_map_and_its_bias_add_up_to_the_score(height, width, features, seed):
    generator = np.random.default_rng(seed)
    maps = generator.uniform(0, 6, (height, width, features)).astype(np.float32)
    kernel, bias = generator.normal(size=(features, 3)), generator.normal(size=3)
    found = Evidence(maps.mean(axis=(0, 1), dtype=np.float64) @ kernel + bias, kernel, bias)
    for chosen in range(3):
        assert heatmap_of(maps, found, chosen).sum() + bias[chosen] == pytest.approx(found.scores[chosen], abs=1e-9)
    with pytest.raises(ModelFileError, match="add up to .*, the head's score is"):
        heatmap_of(maps, found._replace(scores=found.scores + 0.01 * (1 + np.abs(found.scores))), 0)


def test_a_map_of_another_image_is_refused(models, image, monkeypatch):
    right = module.feature_map
    monkeypatch.setattr(module, "feature_map", lambda backbone, pixels: right(backbone, 255 - pixels))
    with pytest.raises(ModelFileError, match="the mean over the regions differs from the features"):
        explain(models["logreg"], image)


def test_what_cannot_be_explained_is_refused(models, cache, image, images, tmp_path):
    train(cache, "knn", tmp_path / "knn.npz")
    with pytest.raises(HeadError, match="must hold a head softmax, logreg, linear-svm or svm, .* got 'knn'. Train one"):
        explain(tmp_path / "knn.npz", image)
    with pytest.raises(ParameterError, match="class_name of explain must be one of ash, birch, cedar, got 'oak'"):
        explain(models["logreg"], image, class_name="oak")
    with pytest.raises(ImageFolderError, match="must be one image file, got the folder"):
        explain(models["logreg"], images)
    with pytest.raises(ImageFolderError, match="No such file"):
        explain(models["logreg"], tmp_path / "none.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match="broken.png cannot be explained: not an image"):
        explain(models["logreg"], tmp_path / "broken.png")
    metadata = read_metadata(models["logreg"])
    for name, value, error, message in (
        ("dtype", DTYPES["int8"], ModelFileError, "holds features of precision int8, but an explanation needs float32"),
        ("weights_sha256", "0" * 64, FingerprintError, "weights_sha256"),
    ):
        other = metadata | {"fingerprint": metadata["fingerprint"] | {name: value}}
        save_head(load_head(models["logreg"]), tmp_path / "a.npz", other)
        with pytest.raises(error, match=message):
            explain(tmp_path / "a.npz", image)


@pytest.mark.parametrize("name", ["logreg", "svm"])
def test_the_figure_shows_image_map_and_caption(models, image, name):
    done = explain(models[name], image)
    left, right, bar = done.figure().axes
    assert left.get_title(loc="left").startswith("birch: probability ")
    np.testing.assert_array_equal(left.images[0].get_array(), done.pixels)
    gray, heatmap = right.images
    assert gray.get_array().shape == (70, 90)
    np.testing.assert_array_equal(heatmap.get_array(), done.heatmap)
    assert tuple(heatmap.get_extent()) == (-0.5, 89.5, 69.5, -0.5)
    low, high = heatmap.get_clim()
    assert low == (-high if name == "logreg" else 0)
    assert bar.get_ylabel() == "evidence for birch"
    assert [label.get_text() for label in bar.get_yticklabels()] == ["less", "more"]
    assert bar.get_yticks().tolist() == [low, high]
    words = done.figure().get_supxlabel()
    assert "Evidence for birch" in words
    assert "2 x 2 regions, interpolated" in words
    assert not re.search(r"[+-]?\d+\.\d", words)


def test_an_empty_map_is_drawn_and_reported(models, image, tmp_path, monkeypatch):
    assert not explain(models["svm"], image).empty
    monkeypatch.setattr(module, "heatmap_of", lambda *given: np.zeros((2, 2)))
    assert "Grad-CAM finds no region" in _run(models["svm"], image, "-o", tmp_path / "a.png").stdout
    done = explain(models["svm"], image)
    assert done.empty
    assert "Grad-CAM finds no region that speaks for birch" in done.figure().get_supxlabel()


def test_the_same_explanation_gives_the_same_file(models, image, tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "_DPI", 20)  # coarse
    done = explain(models["logreg"], image)
    for first, second in (("a.png", "b.PNG"), ("a.svg", "b.svg"), ("a.pdf", "b.pdf")):
        done.save(tmp_path / first)
        done.save(tmp_path / second)
        assert (tmp_path / first).read_bytes() == (tmp_path / second).read_bytes()
    with pytest.raises(OutputError, match=r"must end in .png, .svg or .pdf, got .*a.gif"):
        done.save(tmp_path / "a.gif")


def _run(*arguments, status=0):
    result = CliRunner().invoke(main, ["explain", *map(str, arguments)])
    assert result.exit_code == status, result.output
    return result


def test_the_command_writes_the_figure(models, image, tmp_path):
    path = tmp_path / "new" / "a.png"
    shown = _run(models["logreg"], image, "-o", path).stdout
    assert f"{image}: birch " in shown
    assert "accounts for the whole score (checked)" in shown
    assert f"Wrote {path}" in shown
    with Image.open(path) as picture:
        assert picture.width > 1000
    shown = _run(models["svm"], image, "-o", path, "--class", "ash").stdout
    assert ": ash " in shown
    assert "(another class is more probable)" in shown
    assert "Grad-CAM over 2 x 2 regions, which does not account for" in shown


def test_the_command_prints_json(models, image, tmp_path):
    told = json.loads(_run(models["logreg"], image, "-o", tmp_path / "a.svg", "--json").stdout)
    assert (told["class"], told["method"]) == ("birch", "cam")
    assert sum(map(sum, told["heatmap"])) + told["bias"] == pytest.approx(told["score"], abs=1e-3)
    assert sum(told["probabilities"].values()) == pytest.approx(1)


def test_an_incorrect_suffix_is_refused_before_the_work(models, image, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "explain", None)
    line = _run(models["logreg"], image, "-o", tmp_path / "new" / "a.gif", status=1).stderr
    assert line.startswith("Error: parameter output of explain must end in .png")
    assert not Path(tmp_path / "new").exists()
