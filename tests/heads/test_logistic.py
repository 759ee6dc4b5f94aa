"""Logistic regression: scikit-learn's minimum, warm starts, rows read in blocks."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from embedonce import make_head
from embedonce.errors import HeadError
from embedonce.heads.numerics import lbfgs
from embedonce.heads.numerics.lbfgs import cross_entropy, solve, squared_hinge
from embedonce.heads.numerics.row_blocks import BLOCK_ROWS, StandardizedBlocks, standard_scaler
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import check_grad
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from stored_rows import Stored


def blobs(classes=3, n=300, d=12, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % classes
    X = rng.normal(size=(n, d)) + 1.5 * rng.normal(size=(classes, d))[codes]
    return (X * rng.uniform(0.1, 50, d) + rng.uniform(-100, 100, d)).astype(dtype), codes


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("class_weight", [None, "balanced", {"class 1": 5.0}])
@pytest.mark.parametrize("C", [0.01, 1.0])
def test_coefficients_are_those_of_scikit_learn(classes, class_weight, C):
    X, codes = blobs(classes, n=301)
    y = np.array([f"class {code}" for code in codes])
    ours = make_head("logreg", C=C, class_weight=class_weight, tol=1e-8).fit(X, y)
    scaled = StandardScaler().fit_transform(X)
    theirs = LogisticRegression(C=C, class_weight=class_weight, tol=1e-8, max_iter=1000).fit(scaled, y)
    np.testing.assert_allclose(ours.model_[-1].coef_, theirs.coef_, atol=1e-5)
    # the intercepts of three or more classes are only known up to what they share
    of = (lambda intercept: intercept) if classes == 2 else (lambda intercept: intercept - intercept.mean())
    np.testing.assert_allclose(of(ours.model_[-1].intercept_), of(theirs.intercept_), atol=1e-5)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(scaled), atol=1e-5)


def test_the_fitted_pipeline_works_without_the_head():
    X, codes = blobs()
    head = make_head("logreg").fit(X, codes)
    assert type(head.model_[0]) is StandardScaler
    assert type(head.model_[-1]) is LogisticRegression
    np.testing.assert_array_equal(head.model_.predict(X), head.predict(X))
    np.testing.assert_allclose(head.model_.predict_proba(X), head.predict_proba(X), atol=1e-12)


@pytest.mark.parametrize(
    ("classes", "outputs", "losses"),
    [
        (2, 1, cross_entropy),
        (4, 4, cross_entropy),
        (2, 1, squared_hinge(np.array([[-1.0, 1.0]]))),
        (3, 3, squared_hinge(np.array([[1.0, -1.0, 0.0], [1.0, 0.0, -1.0], [0.0, 1.0, -1.0]]))),
    ],
)
def test_the_gradient_is_the_derivative_of_the_loss(classes, outputs, losses, monkeypatch):
    X, codes = blobs(classes, n=40, d=3)
    X = StandardScaler().fit_transform(X)
    weights = np.linspace(0.5, 2.0, len(X))
    errors = []

    def minimize(objective, start, **options):
        for seed in range(5):
            point = np.random.default_rng(seed).normal(size=outputs * 4)
            errors.append(check_grad(lambda w: objective(w)[0], lambda w: objective(w)[1], point))
        raise StopIteration

    monkeypatch.setattr("scipy.optimize.minimize", minimize)
    with pytest.raises(StopIteration):
        solve([X[:25], X[25:]], codes, losses, (outputs, 3), C=0.3, tol=1e-4, max_iter=5, row_weights=weights)
    assert len(errors) == 5
    assert max(errors) < 1e-6


def test_threads_give_the_bits_of_one(monkeypatch):
    X, codes = blobs(n=5 * BLOCK_ROWS + 7, dtype=np.float32)
    found = []
    for threads in (1, 3):
        monkeypatch.setattr(lbfgs, "threads_of_blas", lambda _, threads=threads: contextlib.nullcontext(threads))
        found.append(make_head("logreg").fit(X, codes).coef_)
    np.testing.assert_array_equal(*found)


def test_a_fit_that_is_cut_off_warns_with_what_to_do():
    X, codes = blobs()
    with pytest.warns(UserWarning, match="did not converge in 2 iterations. Raise max_iter or tol"):
        head = make_head("logreg", max_iter=2).fit(X, codes)
    assert head.n_iter_ == 2


def test_rows_from_disk_give_the_same_head():
    X, codes = blobs(n=2 * BLOCK_ROWS + 100, dtype=np.float32)
    stored = Stored(X)
    head = make_head("logreg").fit(stored, codes)
    assert stored.most == BLOCK_ROWS
    np.testing.assert_array_equal(head.model_[-1].coef_, make_head("logreg").fit(X, codes).model_[-1].coef_)


@pytest.mark.parametrize("name", ["linear-svm", "knn", "dummy"])
def test_heads_that_need_features_in_memory_say_so(name):
    X, codes = blobs(n=30)
    with pytest.raises(HeadError, match=f"head '{name}' needs its features in memory, got a Stored"):
        make_head(name).fit(Stored(X), codes)


def test_invalid_stored_rows_are_refused():
    X, codes = blobs(n=30)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        make_head("logreg").fit(Stored(X), codes[:-1])
    X[3, 4] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity"):
        make_head("logreg").fit(Stored(X), codes)


@given(
    n=st.integers(1, 3 * BLOCK_ROWS),
    seed=st.integers(0, 99),
    offset=st.sampled_from([0.0, 1e-3, 1e4]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
@settings(max_examples=40)
def test_the_scaler_is_scikit_learns(n, seed, offset, dtype):
    X = (np.random.default_rng(seed).normal(size=(n, 4)) * [1, 1e-3, 50, 0] + offset).astype(dtype)
    ours, theirs = standard_scaler(X), StandardScaler().fit(X)
    np.testing.assert_allclose(ours.mean_, theirs.mean_, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ours.scale_, theirs.scale_, rtol=1e-6)
    np.testing.assert_array_equal(np.concatenate(list(StandardizedBlocks(X, ours))), ours.transform(X))
    np.testing.assert_allclose(ours.transform(X)[:, 3], 0, atol=1e-10)
