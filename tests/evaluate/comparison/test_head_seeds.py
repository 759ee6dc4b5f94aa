from __future__ import annotations

import embedonce as eo
import numpy as np
import pytest
from embedonce.errors import ParameterError
from embedonce.evaluate.report.html import page_content
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

HEADS = {
    "softmax": {"epochs": 2},
    "svm": {},
    "linear-svm": {},
    "knn": {},
    "trees": ExtraTreesClassifier(5),
    "piped": make_pipeline(StandardScaler(), ExtraTreesClassifier(5, random_state=1)),
}


@pytest.fixture(scope="module")
def made():
    generator = np.random.default_rng(0)
    labels = np.tile(["ash", "birch"], 75)
    X = generator.normal(size=(150, 8))
    X[:, 0] += labels == "ash"
    return eo.FeatureCache.from_arrays(X, labels)


@pytest.fixture(scope="module")
def comparison(made):
    return eo.compare(made, HEADS, split="random", head_seeds=3)


def test_random_heads_have_a_score_by_seed(comparison, made):
    assert [row.head for row in comparison.head_seeds] == ["softmax", "trees", "piped"]
    row = comparison.head_seeds[2]
    again = make_pipeline(StandardScaler(), ExtraTreesClassifier(5, random_state=2))
    again.fit(made.features[comparison.split.train], made.labels[comparison.split.train])
    score = again.score(made.features[comparison.split.test], made.labels[comparison.split.test])
    assert row.scores[2] == pytest.approx(score)
    assert row.scores[1] == comparison.result("piped").scores["accuracy"]
    assert (row.low, row.high) == comparison.result("piped").intervals["accuracy"]


def test_the_first_seed_of_softmax_is_that_of_the_comparison(comparison):
    assert comparison.head_seeds[0].scores[0] == comparison.result("softmax").scores["accuracy"]


def test_heads_without_randomness_are_named(comparison):
    assert "svm, linear-svm, knn have no randomness, so they were not trained with other seeds" in comparison.notes


def test_report_and_results_have_the_seeds(comparison):
    row = comparison.head_seeds[1]
    saved = comparison.to_dict()["head_seeds"][1]
    assert saved["minimum"] == min(row.scores)
    assert saved["maximum"] == max(row.scores)
    assert saved["standard_deviation"] == pytest.approx(np.std(row.scores, ddof=1))
    content = page_content(comparison, thumbnails=False, drawn={})
    assert [cells[0] for cells in content["seed_table"].rows] == ["softmax", "trees", "piped"]
    assert "with its seed alone" in content["seed_texts"][1] or "the same with 3 seeds" in content["seed_texts"][1]


def test_folds_give_a_score_by_seed(made):
    heads = {"trees": ExtraTreesClassifier(5, random_state=0)}
    comparison = eo.compare(made, heads, split="random", folds=2, repeats=2, head_seeds=2)
    (row,) = comparison.head_seeds
    assert row.scores[0] == comparison.results[0].scores["accuracy"]
    assert len(row.scores) == 2


def test_calibrated_and_tuned_heads_are_trained_again(made):
    heads = {"softmax": {"epochs": 1}}
    calibrated = eo.compare(made, heads, split="random", calibrate="temperature", head_seeds=2)
    assert len(calibrated.head_seeds[0].scores) == 2
    tuned = eo.compare(made, heads, split="random", tune=0.01, head_seeds=2)
    assert tuned.head_seeds[0].scores[0] == tuned.results[0].scores["accuracy"]


class Fragile(ClassifierMixin, BaseEstimator):
    """A head that fails with some seeds."""

    def __init__(self, random_state=0):
        self.random_state = random_state

    def fit(self, X, y):
        if self.random_state == 1:
            raise RuntimeError("unlucky")
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])


def test_a_seed_that_fails_is_left_out(made):
    comparison = eo.compare(made, {"fragile": Fragile()}, split="random", head_seeds=3)
    (row,) = comparison.head_seeds
    assert len(row.scores) == 2
    assert row.text.startswith("The accuracy of fragile is the same with 2 seeds")
    assert any(note.startswith("fragile with random_state=1 is left out: ") for note in comparison.notes)


@pytest.mark.parametrize("count", [1, 0, 2.5, "3", True])
def test_at_least_two_seeds_are_compared(made, count):
    with pytest.raises(ParameterError, match="head_seeds of compare must be an integer of at least 2"):
        eo.compare(made, ["knn"], split="random", head_seeds=count)
