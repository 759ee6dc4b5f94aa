"""The RBF machine past the rows that its exact solver can take."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from embedonce import load_head, make_head, save_head
from embedonce.errors import ApproximationWarning
from embedonce.heads.io.export_keras import keras_head
from embedonce.heads.numerics.nystroem import Nystroem
from embedonce.heads.numerics.rbf_kernel import rbf_matrix
from embedonce.heads.svm import SVMHead
from hypothesis import given
from hypothesis import strategies as st
from stored_rows import Stored


def rows(n_classes=3, n=3000, d=20, seed=0):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, n_classes, n)
    centres = 1.3 * np.random.default_rng(9).normal(size=(n_classes, d))
    return (centres[codes] + rng.normal(size=(n, d))).astype(np.float32), np.array(list("abcdef"))[codes]


def approximated(**parameters):
    return make_head("svm", **{"C": 1.0, "approximate_above": 100, "n_components": 300} | parameters)


@pytest.fixture(scope="module", params=[2, 3])
def fitted(request):
    X, y = rows(request.param)
    with pytest.warns(ApproximationWarning):
        return approximated().fit(X, y), X, y


@given(n=st.integers(1, 40), d=st.integers(1, 30), gamma=st.floats(0.01, 1), seed=st.integers(0, 99))
def test_all_rows_as_landmarks_give_the_exact_kernel(n, d, gamma, seed):
    X = np.random.default_rng(seed).normal(size=(n, d))
    mapped = Nystroem.of(X, gamma).transform(X)
    np.testing.assert_allclose(mapped @ mapped.T, rbf_matrix(X, gamma), atol=2e-3)


def test_it_is_about_as_accurate_as_the_exact_machine(fitted):
    head, X, y = fitted
    exact = make_head("svm", C=1.0).fit(X[:2000], y[:2000])
    X_new, y_new = rows(len(head.classes_), seed=1)
    assert head.score(X_new, y_new) > exact.score(X_new, y_new) - 0.02
    assert head.approximate_
    assert not exact.approximate_


def test_an_approximation_has_n_components_support_vectors(fitted):
    head, X, _ = fitted
    assert head.support_vectors_.shape == (300, 20)
    np.testing.assert_allclose(head.scaler_.transform(X[head.support_]), head.support_vectors_)


def test_an_approximation_is_calibrated_on_held_out_rows(fitted):
    head, X, _ = fitted
    shares = head.predict_proba(X)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    np.testing.assert_array_equal(head.classes_[shares.argmax(axis=1)], head.predict(X))
    X_new, y_new = rows(len(head.classes_), seed=2)
    sure = head.predict_proba(X_new).max(axis=1)
    assert np.mean(sure) == pytest.approx(head.score(X_new, y_new), abs=0.03)
    assert head.n_calibration_rows_ >= 300


def test_rows_from_disk_give_the_same_machine(fitted):
    head, X, y = fitted
    for source, max_kernel_bytes in ((Stored(X), 2**30), (X, 0)):
        with pytest.warns(ApproximationWarning):
            other = approximated(max_kernel_bytes=max_kernel_bytes).fit(source, y)
        np.testing.assert_allclose(other.decision_function(X), head.decision_function(X), atol=1e-9)
        assert not isinstance(source, Stored) or source.most <= 1024


def test_a_saved_approximation_equals_its_keras_layers(fitted, tmp_path):
    head, X, _ = fitted
    save_head(head, tmp_path / "svm.npz")
    np.testing.assert_array_equal(load_head(tmp_path / "svm.npz").predict_proba(X), head.predict_proba(X))
    np.testing.assert_allclose(keras_head(head).predict(X, verbose=0), head.predict_proba(X), atol=1e-3)


def test_class_weight_moves_predictions_towards_the_class():
    X, y = rows(2)
    X *= 0.1
    X += np.random.default_rng(1).normal(size=X.shape).astype(np.float32)  # classes that overlap
    with pytest.warns(ApproximationWarning):
        plain = approximated(probability=False).fit(X, y)
    with pytest.warns(ApproximationWarning):
        heavy = approximated(probability=False, class_weight={"b": 50.0}).fit(X, y)
    assert (heavy.predict(X) == "b").sum() > (plain.predict(X) == "b").sum()


def test_gradients_of_an_approximation_match_its_log_scores(fitted):
    head, X, _ = fitted
    row = X[7].astype(np.float64)
    _, gradients = head.log_score_gradients(row)
    for feature in range(3):
        step = np.zeros(20)
        step[feature] = 1e-3
        slope = (head.log_score_gradients(row + step)[0] - head.log_score_gradients(row - step)[0]) / 2e-3
        np.testing.assert_allclose(gradients[feature], slope, atol=1e-4)


def test_the_warning_begins_above_approximate_above():
    X, y = rows(n=101)
    with pytest.warns(
        ApproximationWarning, match="got 101 rows, more than approximate_above=100: it is approximated by 60"
    ):
        approximated(n_components=60).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not approximated().fit(X[:100], y[:100]).approximate_
    assert SVMHead().approximate_above == 20_000
