"""Images that are unlike those a model was trained on."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from click.testing import CliRunner
from embedonce import FeatureCache, load_head, save_head
from embedonce.cli.app import main
from embedonce.errors import ModelFileError
from embedonce.evaluate.models.novelty import ENOUGH_ROWS, NoveltyDetector
from embedonce.evaluate.models.prediction import predict
from embedonce.evaluate.models.training import train
from embedonce.heads.io.files import read_metadata
from PIL import Image


def rows(n=3000, d=30, seed=0):
    generator = np.random.default_rng(seed)
    codes = np.arange(n) % 3
    centres = 5 * np.random.default_rng(99).normal(size=(3, d))
    return (centres[codes] + generator.normal(size=(n, d)) * np.linspace(0.1, 3, d)).astype(np.float32), codes


def detector(X, codes, groups=None):
    return NoveltyDetector.fit(lambda some: X[some], codes, groups)


def test_distances_are_standard_deviations_from_a_class():
    X, codes = rows()
    fitted = detector(X, codes)
    scale = np.sqrt(np.mean([X[codes == code].var(axis=0) for code in range(3)], axis=0))
    point = X[codes == 1].mean(axis=0) + 2.5 * scale
    assert fitted.distances(point[None])[0] == pytest.approx(2.5, rel=1e-3)


def test_other_images_are_flagged_and_similar_ones_seldom():
    X, codes = rows()
    fitted = detector(X, codes)
    assert np.mean(fitted.distances(rows(seed=1)[0]) > fitted.threshold) < 0.005
    assert (
        fitted.distances(np.random.default_rng(2).normal(size=(50, 30)).astype(np.float32) * 20) > fitted.threshold
    ).all()


def test_few_images_are_held_out_to_find_the_threshold():
    X, codes = rows(n=24, d=300)
    fitted = detector(X, codes)
    assert fitted.threshold > fitted.distances(X).max()  # those that the means were made of are nearer
    assert np.mean(fitted.distances(rows(n=300, d=300, seed=1)[0]) > fitted.threshold) < 0.2


def test_near_duplicates_are_held_out_together():
    X, codes = rows(n=60, d=300)
    copied, copied_codes = np.repeat(X, 10, axis=0), np.repeat(codes, 10)
    groups = np.repeat(np.arange(60), 10)
    assert detector(copied, copied_codes, groups).threshold > 1.05 * detector(copied, copied_codes).threshold


def test_a_class_that_the_sample_misses_is_added():
    X, codes = rows(n=ENOUGH_ROWS + 5000, d=4)
    rare = np.random.default_rng(0).permutation(len(codes))[ENOUGH_ROWS : ENOUGH_ROWS + 2]
    X[rare] = 1000
    codes[rare] = 3
    fitted = detector(X, codes)
    assert len(fitted.means) == 4
    assert (fitted.distances(X[rare]) <= fitted.threshold).all()


@pytest.mark.parametrize("n", [1, 2, 3])
def test_constant_features_give_finite_distances(n):
    X, codes = np.ones((n, 4), np.float32), np.arange(n)
    fitted = detector(X, codes)
    assert fitted.distances(X).tolist() == [0.0] * n
    assert (fitted.distances(X + 1) > fitted.threshold).all()


def test_a_stored_detector_is_read_back_exactly():
    fitted = detector(*rows())
    again = NoveltyDetector.of_metadata(json.loads(json.dumps({"novelty": fitted.to_dict()})), "it")
    np.testing.assert_array_equal(again.means, fitted.means)
    np.testing.assert_array_equal(again.scale, fitted.scale)
    assert again.threshold == fitted.threshold
    assert NoveltyDetector.of_metadata({}, "an old model") is None


@pytest.mark.parametrize("change", [{"values": "AAAA"}, {"rows": 7}, {"threshold": None}, {"values": 3}])
def test_damaged_descriptions_are_refused(change):
    kept = detector(*rows()).to_dict() | change
    with pytest.raises(ModelFileError, match="the model x describes its training images in a damaged way"):
        NoveltyDetector.of_metadata({"novelty": kept}, "the model x")


@pytest.fixture(scope="module")
def model(cache_path, tmp_path_factory):
    """A model whose threshold is as far as its farthest training image: random weights tell few kinds apart."""
    folder = tmp_path_factory.mktemp("models")
    cache = FeatureCache.open(cache_path)
    train(cache, "logreg", folder / "first.npz", split="none")
    metadata = read_metadata(folder / "first.npz")
    fitted = NoveltyDetector.of_metadata(metadata, "it")
    metadata["novelty"]["threshold"] = 1.001 * float(fitted.distances(cache.features).max())
    save_head(load_head(folder / "first.npz"), folder / "trees.npz", metadata)
    return folder / "trees.npz"


@pytest.fixture
def strange(tmp_path):
    path = tmp_path / "stripes.png"
    stripes = np.indices((90, 90)).sum(axis=0) % 2 * 255
    Image.fromarray(np.stack([stripes, 255 - stripes, stripes], axis=2).astype(np.uint8)).save(path)
    return path


def test_predict_marks_images_unlike_the_training_images(model, images, strange):
    known = predict(model, images)
    assert not any(one.unlike_training for one in known)
    assert all(0 < one.novelty <= 1 for one in known)
    assert predict(model, strange)[0].unlike_training


def test_the_command_marks_them_in_text_csv_and_json(model, images, strange):
    def run(*options):
        done = CliRunner().invoke(main, ["predict", str(model), str(strange), str(images / "ash"), *options])
        assert done.exit_code == 0, done.output
        return done.stdout

    words = run().splitlines()
    assert words[0].endswith(" % (unlike the training images)")
    assert not any("unlike" in line for line in words[1:])
    table = list(csv.DictReader(io.StringIO(run("--csv"))))
    assert [float(row["novelty"]) > 1 for row in table] == [True] + [False] * (len(table) - 1)
    answers = json.loads(run("--json"))
    assert [one["unlike_training"] for one in answers] == [True] + [False] * (len(answers) - 1)


def test_a_model_without_novelty_predicts(model, images, tmp_path):
    old = {name: value for name, value in read_metadata(model).items() if name != "novelty"}
    save_head(load_head(model), tmp_path / "old.npz", old)
    predictions = predict(tmp_path / "old.npz", images)
    assert {one.novelty for one in predictions} == {None}
    assert not any(one.unlike_training for one in predictions)
