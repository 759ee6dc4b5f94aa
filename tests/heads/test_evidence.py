from __future__ import annotations

import numpy as np
import pytest
from embedonce.errors import HeadError
from embedonce.heads.calibrated import CalibratedHead
from embedonce.heads.evidence import EXPLAINABLE, LINEAR, class_evidence
from embedonce.heads.numerics.scores import Affine
from embedonce.heads.registry import make_head
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled_rows import labelled_rows
from sklearn.linear_model import LogisticRegression


def _rows(classes):
    return labelled_rows(classes, n=240, d=20, seed=classes)


@pytest.fixture(scope="module")
def fitted():
    return {(name, classes): make_head(name).fit(*_rows(classes)) for name in EXPLAINABLE for classes in (2, 3, 5)}


def _contrast(probabilities):
    logs = np.log(probabilities)
    return logs - logs.mean(axis=-1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("name", EXPLAINABLE)
def test_scores_are_log_probabilities_less_their_mean(fitted, name, classes):
    head, (X, _) = fitted[name, classes], _rows(classes)
    got = np.stack([class_evidence(head, row).scores for row in X[:40]])
    np.testing.assert_allclose(got, _contrast(head.predict_proba(X[:40])), atol=1e-4)


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("name", EXPLAINABLE)
def test_weights_are_the_gradients_of_the_scores(fitted, name, classes):
    head, (X, _) = fitted[name, classes], _rows(classes)
    row, step = X[7].astype(np.float64), 1e-4
    weights = class_evidence(head, row).weights
    for feature, unit in enumerate(np.eye(len(row)) * step):
        slope = (class_evidence(head, row + unit).scores - class_evidence(head, row - unit).scores) / (2 * step)
        np.testing.assert_allclose(weights[feature], slope, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("classes", [2, 3])
def test_gradients_of_an_svm_match_its_probabilities(classes):
    X, y = _rows(classes)
    head = make_head("svm").fit(X.astype(np.float64), y)
    row, step = X[11].astype(np.float64), 1e-4
    weights = class_evidence(head, row).weights
    moved = row + np.concatenate([np.eye(len(row)), -np.eye(len(row))]) * step
    scores = _contrast(head.predict_proba(moved))
    slopes = (scores[: len(row)] - scores[len(row) :]) / (2 * step)
    np.testing.assert_allclose(weights, slopes, rtol=1e-4, atol=1e-6)


@settings(max_examples=50)
@given(st.integers(2, 6), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_weights_and_bias_give_the_scores_of_linear_heads(classes, width, seed):
    generator = np.random.default_rng(seed)
    kernel, bias = generator.normal(size=(width, classes)), generator.normal(size=classes)

    class Linear:
        head_name = "logreg"

        def predict_proba(self, X):
            raise AssertionError("not needed")

        def affine_log_scores(self):
            return Affine(kernel, bias)

    row = generator.normal(size=width)
    found = class_evidence(Linear(), row)
    logits = row @ kernel + bias
    np.testing.assert_allclose(found.scores, logits - logits.mean(), atol=1e-9)
    np.testing.assert_allclose(row @ found.weights + found.bias, found.scores, atol=1e-9)
    np.testing.assert_allclose(found.weights.sum(axis=1), 0, atol=1e-9)


def test_only_linear_heads_have_a_bias(fitted):
    (X, _) = _rows(3)
    assert [name for name in EXPLAINABLE if class_evidence(fitted[name, 3], X[0]).bias is not None] == list(LINEAR)


def test_other_heads_are_refused_with_what_to_do():
    X, y = _rows(3)
    others = [make_head("knn"), make_head("dummy"), LogisticRegression(max_iter=500), CalibratedHead(make_head("knn"))]
    for head in others:
        name = getattr(head, "head_name", type(head).__name__)
        with pytest.raises(
            HeadError, match=f"parameter model of explain must hold a head softmax, .* got '{name}'. Train"
        ):
            class_evidence(head.fit(X, y), X[0])
    with pytest.raises(HeadError, match="Train it again with probability=True"):
        class_evidence(make_head("svm", probability=False).fit(X, y), X[0])
