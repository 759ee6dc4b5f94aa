"""Fitting heads on caches whose features do not fit into memory."""

from __future__ import annotations

import re

import numpy as np
import pytest
from embedonce import FeatureCache, compare, make_head
from embedonce.errors import ApproximationWarning
from embedonce.evaluate.models.training import train
from embedonce.evaluate.scoring import fitting
from embedonce.evaluate.splits.plan import make_split
from embedonce.heads.io import load_head
from sklearn.exceptions import ConvergenceWarning


@pytest.fixture
def large(cache_path, monkeypatch):
    """A cache that counts as too large for memory."""
    monkeypatch.setattr(fitting, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(fitting, "_PREDICTED_ROWS", 3)
    with FeatureCache.open(cache_path) as cache:
        monkeypatch.setattr(FeatureCache, "features", property(lambda self: pytest.fail("all features were read")))
        yield cache


@pytest.mark.parametrize("name", ["logreg", "svm", "linear-svm", "knn", "dummy"])
def test_a_head_is_the_same_when_its_rows_stay_on_disk(name, large, cache):
    split = make_split(large, "random", 0)
    stored = fitting.fit_and_score(name, make_head(name), large, split)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "IN_MEMORY_BYTES", 2**30)
        patch.setattr(FeatureCache, "features", property(lambda self: self[:]))
        whole = fitting.fit_and_score(name, make_head(name), cache, split)
    np.testing.assert_array_equal(stored.predicted, whole.predicted)
    np.testing.assert_allclose(stored.probabilities, whole.probabilities, atol=1e-6)
    assert stored.scores["confusion"] == whole.scores["confusion"]


def test_softmax_reads_training_and_validation_rows_from_disk(large):
    result = fitting.fit_and_score("softmax", make_head("softmax", epochs=2), large, make_split(large, "random", 0))
    assert len(result.head.history_["val_loss"]) == 2
    assert result.probabilities.shape == (len(result.predicted), 3)


@pytest.mark.parametrize("calibrate", [None, "sigmoid"])
def test_an_approximation_is_a_note_and_not_a_warning(cache, recwarn, calibrate):
    heads = {"svm": {"approximate_above": 5, "n_components": 9}, "exact": make_head("svm")}
    notes = compare(cache, heads, split="random", calibrate=calibrate).notes
    assert [note for note in notes if "approximation" in note] == [
        "svm was trained on more than 5 images and is an approximation by 9 of them"
    ]
    assert not [warning for warning in recwarn if issubclass(warning.category, ApproximationWarning)]


def test_training_an_approximation_says_so(cache, tmp_path):
    trained = train(cache, "svm", tmp_path / "svm.npz", parameters={"approximate_above": 5, "n_components": 9})
    assert any("approximation by 9" in note for note in trained.notes)


def convergence_notes(cache, heads, **options):
    return [note for note in compare(cache, heads, split="random", **options).notes if "stopped" in note]


def test_a_head_that_is_cut_off_gets_a_note_with_the_trend(cache, recwarn):
    heads = {
        "few": {"head": "softmax", "epochs": 5},
        "auto": {"head": "softmax"},
        "cut": {"head": "logreg", "max_iter": 5},
        "logreg": {},
        "linear": {"head": "linear-svm", "max_iter": 1},
        "rbf": {"head": "svm", "max_iter": 1},
        "other": {"head": "sklearn.linear_model:LogisticRegression", "max_iter": 1},
    }
    notes = convergence_notes(cache, heads)
    trend = r"while its loss was still falling \([\d.]+ to [\d.]+ in the last"
    expected = [
        rf'few stopped after 5 epochs {trend} epoch\). Give epochs="auto" or more epochs',
        rf"cut stopped after 5 iterations {trend} iteration\). Raise max_iter or tol",
        "linear stopped after 1 iteration before it converged. Raise max_iter or tol",
        "rbf stopped after 1 iteration before it converged. Raise max_iter or tol",
        "other stopped after 1 iteration before it converged. Raise max_iter or tol",
    ]
    assert len(notes) == len(expected)
    assert all(map(re.fullmatch, expected, notes))
    assert not [warning for warning in recwarn if issubclass(warning.category, ConvergenceWarning)]


@pytest.mark.parametrize("options", [{"calibrate": "sigmoid"}, {"folds": 3}, {"jobs": 2}])
def test_a_head_that_is_cut_off_is_noted_once(cache, options):
    other = {"head": "sklearn.linear_model:LogisticRegression", "max_iter": 1}
    notes = convergence_notes(cache, {"softmax": {"epochs": 2}, "other": other}, **options)
    assert [note.split(" stopped")[0] for note in notes] == ["softmax", "other"]


def test_training_a_head_that_is_cut_off_says_so(cache, tmp_path):
    trained = train(cache, "softmax", tmp_path / "a.npz", parameters={"epochs": 1})
    assert 'softmax stopped after 1 epoch before it converged. Give epochs="auto" or more epochs' in trained.notes
    assert load_head(trained.path).converged_ is False


@pytest.mark.parametrize(("C", "noted"), [(10.0, True), (1e-4, False)])
def test_class_weights_without_effect_are_noted(cache, C, noted):
    heads = {"svm": {"C": C}}
    plain, weighed = (compare(cache, heads, split="random", class_weight=weight) for weight in (None, "balanced"))
    assert any("class weights change nothing in svm" in note for note in weighed.notes) is noted
    assert not any("class weights" in note for note in plain.notes)
    margins = [one.result("svm").head.decision_function(cache.features) for one in (plain, weighed)]
    assert np.allclose(*margins, atol=0.01) is noted
