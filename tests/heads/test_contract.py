"""The contract of every head."""

from __future__ import annotations

import numpy as np
import pytest
from embedonce.heads.dummy import DummyHead
from embedonce.heads.linear import LinearSVMHead, LogisticRegressionHead
from embedonce.heads.neighbors import KNNHead
from embedonce.heads.registry import HEADS, make_head
from embedonce.heads.softmax import SoftmaxHead
from embedonce.heads.svm import SVMHead
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import make_blobs
from sklearn.utils.estimator_checks import parametrize_with_checks

FAST_HEADS = [name for name in HEADS if name != "softmax"]


UNEQUAL = "check_sample_weight_equivalence_on_dense_data"


def failing(head):
    if isinstance(head, SoftmaxHead):
        return {UNEQUAL: "a row that occurs twice is in two batches"}
    if not isinstance(head, LinearSVMHead | SVMHead):
        return {}
    if head.probability:
        return {UNEQUAL: "copies of a row are in two folds of the calibration, which are too confident then"}
    if isinstance(head, LinearSVMHead):
        return {}
    return {UNEQUAL: "the solver stops within its tolerance, which is larger than that of the check"}


@parametrize_with_checks(
    [
        LogisticRegressionHead(),
        LinearSVMHead(),
        LinearSVMHead(probability=False),
        SVMHead(),
        SVMHead(probability=False),
        SVMHead(max_kernel_bytes=0),
        KNNHead(),
        KNNHead(metric="cosine", weights="distance"),
        DummyHead(),
    ],
    expected_failed_checks=failing,
)
def test_scikit_learn_head_keeps_the_estimator_contract(estimator, check):
    check(estimator)


@pytest.mark.slow
# the checks expect a classifier to learn 300 rows; 5 epochs of batches of 100 would be 15 steps, and small steps take many epochs
@parametrize_with_checks(
    [
        SoftmaxHead(epochs=20, learning_rate=0.3, batch_size=32),
        SoftmaxHead(learning_rate=0.3, batch_size=32),
    ],
    expected_failed_checks=failing,
)
def test_softmax_head_keeps_the_estimator_contract(estimator, check):
    check(estimator)


def labelled_blobs(seed, n_classes, spread, kind, dtype):
    X, codes = make_blobs(
        n_samples=14 * n_classes, n_features=5, centers=n_classes, cluster_std=spread, random_state=seed
    )
    labels = np.array([f"class {i}" for i in range(n_classes)]) if kind == "str" else np.arange(n_classes) * 7 - 3
    return X.astype(dtype), labels[codes]


@pytest.mark.parametrize("name", FAST_HEADS)
@settings(max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    n_classes=st.integers(2, 5),
    spread=st.floats(0.01, 30),
    kind=st.sampled_from(["str", "int"]),
    dtype=st.sampled_from([np.float32, np.float64]),
    far=st.sampled_from([1.0, 100.0]),
)
def test_most_probable_class_is_the_predicted_one(name, seed, n_classes, spread, kind, dtype, far):
    X, y = labelled_blobs(seed, n_classes, spread, kind, dtype)
    head = make_head(name).fit(X, y)
    unseen = (np.random.default_rng(seed).normal(size=(40, 5)) * far).astype(dtype)
    rows = np.concatenate([X, unseen])
    predicted = head.predict(rows)
    assert set(predicted.tolist()) <= set(head.classes_.tolist())
    if not hasattr(head, "predict_proba"):  # as a head may be
        return
    p = head.predict_proba(rows)
    assert p.dtype == np.float64
    assert np.all(p >= 0)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_array_equal(head.classes_[p.argmax(axis=1)], predicted)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_softmax_most_probable_class_is_the_predicted_one(n_classes):
    X, y = labelled_blobs(3, n_classes, 4.0, "str", np.float32)
    head = SoftmaxHead(epochs=2, batch_size=16).fit(X, y)
    p = head.predict_proba(X * 50)
    np.testing.assert_array_equal(head.classes_[p.argmax(axis=1)], head.predict(X * 50))
    np.testing.assert_allclose(head.predict_proba(X), head.model_.predict(X, verbose=0), atol=1e-5)


@pytest.mark.parametrize("name", list(HEADS))
def test_one_class_is_refused_by_name_of_the_head(name):
    with pytest.raises(ValueError, match=f"head '{name}' needs rows of at least two classes, got one class"):
        make_head(name).fit(np.eye(4), ["a"] * 4)


@pytest.mark.parametrize("name", list(HEADS))
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(name, bad):
    X = np.eye(4, dtype=np.float32)
    X[1, 2] = bad
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        make_head(name).fit(X, ["a", "b", "a", "b"])


@pytest.mark.parametrize("name", ["logreg", "linear-svm", "svm"])
def test_float32_features_stay_float32(name):
    X, y = labelled_blobs(0, 3, 3.0, "str", np.float32)
    head = make_head(name).fit(X, y)
    scaler = head.scaler_ if name == "svm" else head.model_[0]
    assert scaler.transform(X).dtype == np.float32
    if name == "svm":
        assert head.support_vectors_.dtype == np.float32


@pytest.mark.parametrize("name", ["logreg", "linear-svm", "svm"])
def test_class_weight_moves_predictions_to_the_class(name):
    X, y = labelled_blobs(1, 2, 9.0, "str", np.float64)
    plain = make_head(name).fit(X, y)
    heavy = make_head(name, class_weight={"class 1": 1000.0}).fit(X, y)
    assert (heavy.predict(X) == "class 1").sum() > (plain.predict(X) == "class 1").sum()
