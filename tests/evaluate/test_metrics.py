from __future__ import annotations

import numpy as np
import pytest
from embedonce.evaluate.metrics import align_probabilities, score
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

NAMES = ["a", "b", "c"]


def example(seed, n=60):
    generator = np.random.default_rng(seed)
    true = generator.integers(0, 3, n)
    true[:3] = [0, 1, 2]
    probabilities = generator.dirichlet([1, 1, 1], n)
    return true, probabilities.argmax(1), probabilities


@given(seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=30)
def test_scores_are_those_of_scikit_learn(seed):
    true, predicted, probabilities = example(seed)
    scores = score(true, predicted, probabilities, NAMES)
    assert scores["accuracy"] == metrics.accuracy_score(true, predicted)
    assert scores["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(true, predicted))
    assert scores["macro_f1"] == pytest.approx(metrics.f1_score(true, predicted, average="macro"))
    assert scores["log_loss"] == pytest.approx(metrics.log_loss(true, probabilities))
    assert scores["roc_auc"] == pytest.approx(metrics.roc_auc_score(true, probabilities, multi_class="ovr"))
    assert np.sum(scores["confusion"]) == len(true)


def test_a_perfect_and_a_wrong_prediction_by_hand():
    true = np.array([0, 0, 1, 2])
    scores = score(true, np.array([0, 1, 1, 2]), None, NAMES)
    assert scores["accuracy"] == 0.75
    assert scores["confusion"] == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert scores["per_class"][0] == {
        "class": "a",
        "precision": 1.0,
        "recall": 0.5,
        "f1": pytest.approx(2 / 3),
        "support": 2,
    }
    assert scores["per_class"][1]["precision"] == 0.5
    assert scores["log_loss"] is None
    assert scores["roc_auc"] is None


def test_a_class_without_test_images_does_not_spoil_the_means():
    true = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1, 0], [0.8, 0.2, 0], [0.1, 0.9, 0], [0.2, 0.8, 0]])
    scores = score(true, probabilities.argmax(1), probabilities, NAMES)
    assert scores["balanced_accuracy"] == scores["macro_f1"] == scores["roc_auc"] == 1.0
    assert scores["per_class"][2]["support"] == 0


def test_probabilities_are_put_into_the_order_of_the_class_names():
    aligned = align_probabilities(np.array([[0.3, 0.7]]), np.array(["c", "a"]), NAMES)
    np.testing.assert_array_equal(aligned, [[0.7, 0, 0.3]])
