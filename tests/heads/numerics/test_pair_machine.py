"""Margins and scores of all pairs of many classes equal those of few, which are computed pair by pair."""

from __future__ import annotations

import numpy as np
import pytest
from embedonce.heads import make_head
from embedonce.heads.numerics import rbf_kernel, scores
from embedonce.heads.numerics.rbf_kernel import PairMachine, RBFMachine, pair_coefficients, pair_machine


@pytest.fixture(scope="module")
def fitted():
    generator = np.random.default_rng(0)
    y = np.repeat(np.arange(7), 12)
    X = generator.normal(size=(84, 5)) + np.eye(7, 5)[y] * 2
    head = make_head("svm").fit(X, y)
    return head, X + generator.normal(size=X.shape)


def test_margins_are_those_of_all_coefficients(fitted, monkeypatch):
    head, X = fitted
    about = head.dual_coef_, head.n_support_, head.intercept_, head.gamma_
    vectors = head.support_vectors_
    expected = RBFMachine(vectors, pair_coefficients(*about[:2]), *about[2:]).margins(X)
    monkeypatch.setattr(rbf_kernel, "BLOCK_BYTES", 3 * 8 * 49)
    np.testing.assert_allclose(PairMachine(vectors, *about).margins(X), expected, atol=1e-9)
    assert PairMachine(vectors, *about).margins(X[:0]).shape == (0, 21)
    assert isinstance(pair_machine(vectors, *about), RBFMachine)


def test_scores_are_those_of_each_pair(monkeypatch):
    margins = np.random.default_rng(1).normal(size=(9, 21)) * 5
    margins[0] = 0
    expected = scores.ovr_scores(margins, 7), scores.pair_log_scores(margins, 7, 1.7)
    monkeypatch.setattr(scores, "MANY_PAIRS", 1)
    np.testing.assert_allclose(scores.ovr_scores(margins, 7), expected[0], atol=1e-12)
    np.testing.assert_allclose(scores.pair_log_scores(margins, 7, 1.7), expected[1], atol=1e-12)


def test_a_head_of_many_classes_predicts_in_blocks(fitted, monkeypatch):
    head, X = fitted
    expected = head.predict(X), head.predict_proba(X), head.decision_function(X)
    monkeypatch.setattr(rbf_kernel, "MANY_PAIRS", 1)
    monkeypatch.setattr(scores, "MANY_PAIRS", 1)
    monkeypatch.setattr(rbf_kernel, "BLOCK_BYTES", 3 * 8 * 49)
    np.testing.assert_array_equal(head.predict(X), expected[0])
    np.testing.assert_allclose(head.predict_proba(X), expected[1], atol=1e-12)
    np.testing.assert_allclose(head.decision_function(X), expected[2], atol=1e-9)


def test_few_rows_calibrate_many_pairs(monkeypatch):
    from embedonce.heads import calibration

    y = np.repeat(np.arange(5), 20)
    X = np.random.default_rng(2).normal(size=(100, 5)) + 3 * np.eye(5)[y]
    every = make_head("svm").fit(X, y)
    monkeypatch.setattr(calibration, "MOST_MARGINS", 10 * 20)
    few = make_head("svm").fit(X, y)
    assert every.n_calibration_rows_ == 100
    assert few.n_calibration_rows_ == 20
    assert len(few.uncalibrated_classes_) == 0
    np.testing.assert_array_equal(few.predict(X), every.predict(X))
