"""Weights of rows in fit: a row of weight 2 counts as two rows."""

from __future__ import annotations

import numpy as np
import pytest
from embedonce.errors import ApproximationWarning, HeadError
from embedonce.heads.registry import make_head
from embedonce.heads.softmax import SoftmaxHead
from sklearn.datasets import make_blobs

HEADS = [
    ("logreg", {}),
    ("logreg", {"class_weight": "balanced"}),
    ("logreg", {"C": 0.01}),
    ("dummy", {}),
    ("svm", {"tol": 1e-6}),
    ("svm", {"tol": 1e-6, "class_weight": "balanced", "max_kernel_bytes": 0}),
    ("linear-svm", {"tol": 1e-8, "C": 0.01}),
    ("linear-svm", {"tol": 1e-8, "class_weight": "balanced"}),
]
MARGINS = ("svm", "linear-svm")
X, Y = make_blobs(90, 4, centers=3, cluster_std=4, random_state=0)
X /= 10
COUNTS = np.random.default_rng(0).integers(0, 4, 90)


@pytest.mark.parametrize(("name", "parameters"), HEADS)
@pytest.mark.parametrize("blocks", [7, 1024])
def test_a_weight_is_a_number_of_rows(name, parameters, blocks, monkeypatch):
    monkeypatch.setattr("embedonce.heads.numerics.row_blocks.BLOCK_ROWS", blocks)
    head = make_head(name, **parameters).fit(X, Y, sample_weight=COUNTS)
    repeated = X.repeat(COUNTS, axis=0), Y.repeat(COUNTS)
    if name in MARGINS:
        expected = make_head(name, **parameters).fit(*repeated, groups=np.arange(90).repeat(COUNTS))
        np.testing.assert_allclose(head.decision_function(X), expected.decision_function(X), atol=1e-4)
        # the folds of the calibration are others
        np.testing.assert_allclose(head.predict_proba(X), expected.predict_proba(X), atol=0.05)
    else:
        expected = make_head(name, **parameters).fit(*repeated)
        np.testing.assert_allclose(head.predict_proba(X), expected.predict_proba(X), atol=1e-4)


def test_an_approximated_svm_takes_weights():
    weights = np.where(Y == 0, 0.5, 2) * (np.arange(90) % 9 > 0)
    options = {"approximate_above": 50, "n_components": 90, "probability": False, "tol": 1e-5}
    with pytest.warns(ApproximationWarning, match="got 80 rows"):
        head = make_head("svm", **options).fit(X, Y, sample_weight=weights)
    with pytest.warns(ApproximationWarning):
        kept = make_head("svm", **options).fit(X[weights > 0], Y[weights > 0], sample_weight=weights[weights > 0])
    assert (weights[head.support_] > 0).all()
    np.testing.assert_allclose(head.decision_function(X), kept.decision_function(X), atol=1e-3)


def test_support_vectors_are_rows_of_the_data():
    head = make_head("svm").fit(X, Y, sample_weight=COUNTS)
    assert (COUNTS[head.support_] > 0).all()
    np.testing.assert_allclose(head.scaler_.transform(X[head.support_]), head.support_vectors_)


def test_weights_of_softmax_are_those_of_keras():
    weights = np.random.default_rng(1).uniform(0, 3, 90)
    head = SoftmaxHead(epochs=1, batch_size=90, dropout=0).fit(X, Y, sample_weight=weights)
    model = SoftmaxHead(epochs=1, batch_size=90, dropout=0, learning_rate=1e-30).fit(X, Y).model_
    model.optimizer.learning_rate = 1e-3
    history = model.fit(X, Y, batch_size=90, sample_weight=weights, verbose=0).history
    np.testing.assert_allclose(head.history_["loss"], history["loss"], rtol=1e-5)
    np.testing.assert_allclose(head.predict_proba(X), model.predict(X, verbose=0), atol=1e-5)


@pytest.mark.parametrize("name", ["svm", "linear-svm"])
def test_a_class_without_weight_is_refused(name):
    with pytest.raises(HeadError, match="got only zeros for 1. Leave the rows"):
        make_head(name).fit(X, Y, sample_weight=Y != 1)


@pytest.mark.parametrize(("name", "parameters"), HEADS)
@pytest.mark.parametrize("weight", [None, 1, np.ones(90, int)])
def test_equal_weights_change_nothing(name, parameters, weight):
    head = make_head(name, **parameters).fit(X, Y, sample_weight=weight)
    expected = make_head(name, **parameters).fit(X, Y)
    np.testing.assert_array_equal(head.predict_proba(X), expected.predict_proba(X))


@pytest.mark.parametrize(
    "weight", [-np.ones(90), np.zeros(90), np.ones(5), np.ones(1), np.full(90, np.nan), "one", np.ones((90, 2))]
)
@pytest.mark.parametrize("name", ["logreg", "dummy", "svm", "linear-svm", "softmax"])
def test_impossible_weights_are_refused(name, weight):
    with pytest.raises(HeadError, match="sample_weight of head"):
        make_head(name).fit(X, Y, sample_weight=weight)
