"""Views in training and testing, never on another side than their image."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from embedonce import FeatureCache, compare, extract_features, load_head, make_head
from embedonce.errors import CacheError, FingerprintError, HeadError, ParameterError
from embedonce.evaluate.models.prediction import predict
from embedonce.evaluate.models.training import train
from embedonce.evaluate.scoring import fitting
from embedonce.evaluate.scoring.fitting import fit_and_score
from embedonce.evaluate.scoring.views import StackedRows, open_views
from embedonce.evaluate.splits.plan import make_split
from embedonce.extract.views import VIEWS, view_path
from embedonce.heads.io.files import read_metadata
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.base import BaseEstimator, ClassifierMixin
from stored_rows import Stored


class Recording(ClassifierMixin, BaseEstimator):
    """Remembers what it is given."""

    def fit(self, X, y, groups=None):
        self.X_, self.y_, self.groups_ = X, y, groups
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])

    def predict_proba(self, X):
        shares = np.abs(X[:, : len(self.classes_)].astype(np.float64)) + 1e-3
        return shares / shares.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def viewed(images, small, tmp_path_factory):
    path = tmp_path_factory.mktemp("views") / "trees.h5"
    extract_features(images, path, views="flips", **small)
    return path


@pytest.fixture
def cache(viewed):
    with FeatureCache.open(viewed) as opened:
        yield opened


@pytest.mark.parametrize("large", [False, True])
def test_training_rows_are_training_images_and_their_views(cache, viewed, large, monkeypatch):
    if large:
        monkeypatch.setattr(fitting, "IN_MEMORY_BYTES", 0)
    split = make_split(cache, "random", 0)
    views = open_views(cache, "train")
    head = fit_and_score("r", Recording(), cache, split, None, views).head
    sources = [FeatureCache.open(viewed), *(FeatureCache.open(view_path(viewed, name)) for name in VIEWS["flips"])]
    expected = np.concatenate([source.features[split.train] for source in sources])
    np.testing.assert_array_equal(head.X_, expected)
    np.testing.assert_array_equal(head.y_, np.tile(cache.label_names[split.train], 4))
    # views of one image are one group for a head's own folds
    np.testing.assert_array_equal(head.groups_, np.tile(np.arange(len(split.train)), 4))


def test_probabilities_are_averaged_over_image_and_views(cache, viewed):
    split = make_split(cache, "random", 0)
    result = fit_and_score("r", Recording(), cache, split, None, open_views(cache, "average"))
    sources = [FeatureCache.open(viewed), *(FeatureCache.open(view_path(viewed, name)) for name in VIEWS["flips"])]
    expected = np.mean([result.head.predict_proba(source.features[split.test]) for source in sources], axis=0)
    np.testing.assert_allclose(result.probabilities, expected)
    np.testing.assert_array_equal(result.predicted, expected.argmax(axis=1))
    assert len(result.head.X_) == len(split.train)


@pytest.mark.parametrize(("name", "parameters"), [("logreg", {}), ("softmax", {"epochs": 5})])
def test_heads_that_read_rows_are_the_same_from_disk(name, parameters, cache, monkeypatch):
    split, views = make_split(cache, "random", 0), open_views(cache, "both")
    in_memory = fit_and_score(name, make_head(name, **parameters), cache, split, None, views)
    monkeypatch.setattr(fitting, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(fitting, "_PREDICTED_ROWS", 2)
    stored = fit_and_score(name, make_head(name, **parameters), cache, split, None, views)
    assert stored.probabilities.shape == in_memory.probabilities.shape
    if name == "logreg":
        np.testing.assert_allclose(stored.probabilities, in_memory.probabilities, atol=1e-6)


def test_views_give_the_same_results_in_other_processes(cache):
    heads = ["logreg", "svm"]
    here = compare(cache, heads, split="random", views="both")
    assert any("trained on every training image and its views and probabilities are the mean" in n for n in here.notes)
    there = compare(cache, heads, split="random", views="both", jobs=2)
    for ours, theirs in zip(here.results, there.results, strict=True):
        np.testing.assert_allclose(ours.probabilities, theirs.probabilities, atol=1e-6)
    plain = compare(cache, heads, split="random")
    assert not np.allclose(plain.results[0].probabilities, here.results[0].probabilities)


def test_a_head_without_probabilities_cannot_average(cache):
    with pytest.raises(HeadError, match="'linear-svm' has no probabilities to average over views. Leave it out"):
        compare(cache, {"linear-svm": {"probability": False}}, split="random", views="average")


def test_unknown_uses_and_missing_views_are_refused(cache, cache_path):
    with pytest.raises(ParameterError, match="parameter views must be one of train, average, both, or None, got 'all'"):
        open_views(cache, "all")
    with pytest.raises(CacheError, match="has no augmented views. Embed them with embedonce extract and --views"):
        open_views(FeatureCache.open(cache_path), "train")
    assert open_views(cache, None) is None


def test_views_that_are_older_than_the_images_are_refused(images, small, tmp_path):
    folder, path = tmp_path / "images", tmp_path / "a.h5"
    shutil.copytree(images, folder)
    extract_features(folder, path, views="flips", **small)
    Image.fromarray(np.full((70, 90, 3), 9, np.uint8)).save(folder / "ash" / "new.png")
    changed = sorted((folder / "birch").iterdir())[0]
    changed.write_bytes((folder / "ash" / "new.png").read_bytes())
    updated = extract_features(folder, path, **small)
    with pytest.raises(CacheError, match="lacks 2 of its images, or has earlier ones, such as ash/new.png. Update it"):
        open_views(updated, "train")
    extract_features(folder, path, views="flips", **small)
    assert open_views(FeatureCache.open(path), "train").names == VIEWS["flips"]


def test_views_by_another_backbone_are_refused(viewed, images, small, tmp_path):
    path = shutil.copytree(viewed.parent, tmp_path / "copy") / viewed.name
    path.unlink()
    other = extract_features(images, path, **small | {"weights": "random:1"})
    with pytest.raises(FingerprintError, match="the view flip-left-right of"):
        open_views(other, "train")


@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=5), ends=st.tuples(st.integers(0, 45), st.integers(0, 45))
)
def test_stacked_rows_are_the_sources_one_after_the_other(sizes, ends):
    parts = [np.random.default_rng(n).normal(size=(n, 3)).astype(np.float32) for n in sizes]
    stacked = StackedRows([Stored(part) if number % 2 else part for number, part in enumerate(parts)])
    start, end = sorted(min(at, sum(sizes)) for at in ends)
    assert stacked.shape == (sum(sizes), 3)
    np.testing.assert_array_equal(stacked.read_rows(start, end), np.concatenate(parts)[start:end])


def test_train_uses_views_and_the_model_says_which(cache, tmp_path):
    trained = train(cache, "logreg", tmp_path / "head.npz", views="both")
    assert any("its views" in note for note in trained.notes)
    assert read_metadata(tmp_path / "head.npz")["views"] == list(VIEWS["flips"])
    train(cache, "logreg", tmp_path / "plain.npz")
    assert read_metadata(tmp_path / "plain.npz")["views"] == []
    shares = [load_head(tmp_path / name).predict_proba(cache.features) for name in ("head.npz", "plain.npz")]
    assert not np.allclose(*shares)


def test_predict_averages_over_the_views_of_images(cache, viewed, images, tmp_path):
    train(cache, "logreg", tmp_path / "head.npz", split="none")
    found = predict(tmp_path / "head.npz", images, views="flips", top=3)
    sources = [cache, *(FeatureCache.open(view_path(viewed, name)) for name in VIEWS["flips"])]
    head = load_head(tmp_path / "head.npz")
    expected = np.mean([head.predict_proba(source.features) for source in sources], axis=0)
    order = np.argsort(-expected, axis=1)
    for one, row, places in zip(found, expected, order, strict=True):
        assert list(one.classes) == [
            (str(head.classes_[place]), pytest.approx(row[place], abs=1e-4)) for place in places
        ]


def test_predict_cannot_average_without_probabilities(cache, images, tmp_path):
    train(cache, "linear-svm", tmp_path / "head.npz", parameters={"probability": False})
    with pytest.raises(HeadError, match="views of predict must be 'none' for a head without probabilities"):
        predict(tmp_path / "head.npz", images, views="flips")
