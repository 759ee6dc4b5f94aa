"""The fast SVM head against scikit-learn's SVC."""

from __future__ import annotations

import numpy as np
import pytest
from embedonce.errors import ApproximationWarning
from embedonce.heads.numerics import rbf_kernel as kernel_module
from embedonce.heads.numerics.rbf_kernel import RBFMachine, pair_coefficients
from embedonce.heads.numerics.scores import pair_signs
from embedonce.heads.svm import SVMHead
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.datasets import make_classification
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC


def features(n_classes, n=400, width=30, seed=0, dtype=np.float32):
    X, y = make_classification(
        n, width, n_informative=12, n_classes=n_classes, class_sep=0.8, flip_y=0.05, random_state=seed
    )
    return X.astype(dtype), np.array([f"c{i}" for i in range(n_classes)])[y]


class OverallScaler(TransformerMixin, BaseEstimator):
    """Centred features, divided by the root of their mean variance."""

    def fit(self, X, y=None):
        self.mean_, self.scale_ = X.mean(axis=0), np.sqrt(X.var(axis=0).mean())
        return self

    def transform(self, X):
        return (X - self.mean_) / self.scale_


SCALERS = {"standard": StandardScaler, "overall": OverallScaler}


@pytest.mark.parametrize("scaling", SCALERS)
@pytest.mark.parametrize("n_classes", [2, 3, 6])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("settings", [{}, {"C": 0.5, "gamma": 0.01}, {"class_weight": "balanced"}])
@pytest.mark.parametrize("max_kernel_bytes", [2**31, 0])
def test_predicts_and_scores_as_scikit_learn(scaling, n_classes, dtype, settings, max_kernel_bytes):
    X, y = features(n_classes, n=700, dtype=dtype)
    head = SVMHead(tol=1e-6, scaling=scaling, max_kernel_bytes=max_kernel_bytes, **settings).fit(X[:500], y[:500])
    svc = SVC(**{"C": 10.0, **settings}, tol=1e-6, break_ties=True)
    plain = make_pipeline(SCALERS[scaling](), svc).fit(X[:500], y[:500])
    expected = plain.decision_function(X)
    # float32 kernels are right to 1e-6, and dual coefficients of up to C multiply them
    np.testing.assert_allclose(head.decision_function(X), expected, atol=2e-4 if dtype == np.float32 else 1e-5)
    # only rows on the border of two classes could differ
    top = np.sort(expected, axis=1)[:, -2:] if expected.ndim == 2 else np.column_stack([-expected, expected])
    clear = np.abs(top[:, 1] - top[:, 0]) > 1e-3
    assert clear.mean() > 0.98
    np.testing.assert_array_equal(head.predict(X)[clear], plain.predict(X)[clear])


@pytest.mark.parametrize("scaling", SCALERS)
def test_same_support_vectors_as_scikit_learn(scaling):
    X, y = features(3, dtype=np.float64)
    head = SVMHead(tol=1e-8, scaling=scaling).fit(X, y)
    svc = SVC(C=10.0, tol=1e-8).fit(SCALERS[scaling]().fit_transform(X), y)
    np.testing.assert_array_equal(head.support_, svc.support_)
    np.testing.assert_array_equal(head.n_support_, svc.n_support_)
    np.testing.assert_allclose(head.dual_coef_, svc.dual_coef_, atol=1e-4)


def test_blocks_do_not_change_the_kernel(monkeypatch):
    X = np.random.default_rng(0).normal(size=(150, 8))
    whole = kernel_module.rbf_matrix(X, 0.1)
    monkeypatch.setattr(kernel_module, "BLOCK_ROWS", 37)
    blocks = kernel_module.rbf_matrix(X, 0.1)
    direct = np.exp(-0.1 * ((X[:, None] - X[None]) ** 2).sum(axis=2))
    np.testing.assert_allclose(whole, direct, atol=1e-12)
    np.testing.assert_allclose(blocks, direct, atol=1e-12)
    np.testing.assert_array_equal(blocks, blocks.T)
    np.testing.assert_array_equal(np.diag(blocks), 1)


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("rows", [[0, 1, 2], [7, 8, 9], [0, 3, 4, 9], list(range(10)), [5], list(range(1, 10))])
def test_square_part_is_the_part_of_the_matrix(in_place, rows):
    matrix = np.arange(100.0).reshape(10, 10)
    original = matrix.copy()
    part = kernel_module.square_part(matrix, np.array(rows), in_place)
    np.testing.assert_array_equal(part, original[np.ix_(rows, rows)])
    assert part.flags.c_contiguous
    assert np.shares_memory(part, matrix) == in_place
    assert in_place or np.array_equal(matrix, original)


def test_blocks_do_not_change_decisions(monkeypatch):
    X, y = features(4, dtype=np.float64)
    head = SVMHead().fit(X, y)
    expected = head.decision_function(X)
    monkeypatch.setattr(kernel_module, "BLOCK_BYTES", 20_000)
    np.testing.assert_allclose(head.decision_function(X), expected, atol=1e-9)


def test_precision_of_the_query_does_not_matter():
    X, y = features(3)
    head = SVMHead().fit(X, y)
    np.testing.assert_array_equal(head.decision_function(X), head.decision_function(X.astype(np.float64)))


def test_the_kernel_limit_changes_no_probability():
    X, y = features(3, dtype=np.float64)
    fast = SVMHead(tol=1e-7).fit(X, y)
    lean = SVMHead(tol=1e-7, max_kernel_bytes=0).fit(X, y)
    assert lean.inverse_temperature_ == pytest.approx(fast.inverse_temperature_, rel=1e-2)
    np.testing.assert_allclose(lean.predict_proba(X), fast.predict_proba(X), atol=1e-2)


def test_without_probability_no_folds_are_fitted(monkeypatch):
    X, y = features(3)
    head = SVMHead(probability=False)
    monkeypatch.setattr(SVMHead, "_calibrate", lambda *_: pytest.fail("calibrated"))
    head.fit(X, y)
    assert not hasattr(head, "predict_proba")
    assert not hasattr(head, "n_calibration_rows_")


def test_constant_features_are_no_obstacle():
    X = np.ones((20, 4), dtype=np.float32)
    head = SVMHead().fit(X, ["a", "b"] * 10)
    assert set(head.predict(X)) <= {"a", "b"}
    assert np.isfinite(head.predict_proba(X)).all()


@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_pair_coefficients_give_the_margins_of_libsvm(n_classes):
    X, y = features(n_classes, dtype=np.float64)
    X = StandardScaler().fit_transform(X)
    svc = SVC(C=10.0, gamma=0.02, decision_function_shape="ovo").fit(X, y)
    coefficients = pair_coefficients(svc.dual_coef_, svc.n_support_)
    margins = RBFMachine(svc.support_vectors_, coefficients, svc.intercept_, 0.02).margins(X)
    np.testing.assert_allclose(margins.squeeze(), svc.decision_function(X), atol=1e-9)
    right = pair_signs(n_classes)[:, np.searchsorted(svc.classes_, y)].T
    assert np.mean((margins * right)[right != 0] > 0) > 0.9


def rare_class(seed=0):
    """A class of 1 in 30, told by three features among many that vary little."""
    rng = np.random.default_rng(seed)
    y = np.arange(900) % 30 == 0
    X = rng.normal(0, 0.02, (900, 400)).astype(np.float32)
    X[:, :3] += rng.normal(0, 0.3, (900, 3)) + 1.5 * y[:, None]
    return X, y


def test_the_default_scaling_finds_a_rare_class():
    (X, y), (test, truth) = rare_class(), rare_class(1)
    found = {scaling: SVMHead(scaling=scaling).fit(X, y).predict(test)[truth].mean() for scaling in SCALERS}
    assert found["overall"] > 0.9
    assert found["standard"] < 0.5
    assert SVMHead().scaling == "overall"


def test_the_unit_of_the_features_changes_nothing():
    X, y = features(3, dtype=np.float64)
    expected = SVMHead().fit(X, y).decision_function(X)
    np.testing.assert_allclose(SVMHead().fit(1000 * X + 5, y).decision_function(1000 * X + 5), expected, atol=1e-6)


def test_constant_features_change_nothing():
    X, y = features(3, dtype=np.float64)
    wide = np.hstack([X, np.full((len(X), 30), 12345.678)])
    # the mean variance halves with twice the features, and so does gamma="scale"
    np.testing.assert_allclose(
        SVMHead().fit(wide, y).decision_function(wide), SVMHead().fit(X, y).decision_function(X), atol=1e-6
    )
    flat = SVMHead().fit(np.full((4, 2), 0.1), [0, 0, 1, 1])
    assert flat.scale_.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("scaling", SCALERS)
def test_an_approximation_by_all_rows_is_near_the_exact_machine(scaling):
    X, y = features(2, n=300)
    exact = SVMHead(scaling=scaling).fit(X, y)
    with pytest.warns(ApproximationWarning):
        approximate = SVMHead(scaling=scaling, approximate_above=10).fit(X, y)
    np.testing.assert_array_equal(approximate.scale_, exact.scale_)
    assert (approximate.predict(X) == exact.predict(X)).mean() > 0.97


def test_a_head_pickled_without_scaling_is_standardised():
    X, y = features(2)
    head = SVMHead(scaling="standard").fit(X, y)
    state = head.__getstate__()
    del state["scaling"]
    old = SVMHead.__new__(SVMHead)
    old.__setstate__(state)
    assert old.scaling == "standard"
    np.testing.assert_array_equal(old.predict_proba(X), head.predict_proba(X))
