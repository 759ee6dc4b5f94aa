from __future__ import annotations

import pickle

import numpy as np
import pytest
from embedonce.errors import HeadError, HeadParameterError
from embedonce.evaluate.metrics.calibration import probability_scores
from embedonce.heads.calibrated import CalibratedHead
from embedonce.heads.registry import make_head
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.linear_model import Perceptron


class Boaster(ClassifierMixin, BaseEstimator):
    """Logistic regression that is four times as sure as it should be."""

    def fit(self, X, y):
        self.inner_ = make_head("logreg", C=0.01).fit(X, y)
        self.classes_ = self.inner_.classes_
        return self

    def predict_proba(self, X):
        sharp = self.inner_.predict_proba(X) ** 4
        return sharp / sharp.sum(axis=1, keepdims=True)

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def rows(count=900, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, count)
    features = generator.normal(size=(count, 10))
    features[np.arange(count), labels] += 1.2
    return features, np.array(["a", "b", "c"])[labels]


@pytest.mark.parametrize("method", ["temperature", "sigmoid"])
def test_boasting_probabilities_become_honest(method):
    X, y = rows()
    test, truth = rows(2000, 1)
    codes = np.searchsorted(["a", "b", "c"], truth)
    plain = Boaster().fit(X, y).predict_proba(test)
    calibrated = CalibratedHead(Boaster(), method).fit(X, y)
    honest = calibrated.predict_proba(test)
    np.testing.assert_allclose(honest.sum(axis=1), 1)
    assert probability_scores(codes, honest)["ece"] < 0.4 * probability_scores(codes, plain)["ece"]
    np.testing.assert_array_equal(calibrated.predict(test), calibrated.classes_[honest.argmax(axis=1)])


def test_a_temperature_changes_no_prediction():
    X, y = rows()
    calibrated = CalibratedHead(Boaster()).fit(X, y)
    assert 2 < calibrated.temperature_ < 8
    np.testing.assert_array_equal(calibrated.predict(X), Boaster().fit(X, y).predict(X))


def test_groups_are_never_on_both_sides_of_a_fold():
    X, y = rows(300)
    groups = np.arange(300) // 5

    seen = []

    class Spy(Boaster):
        def fit(self, X, y):
            seen.append(X)
            return super().fit(X, y)

    CalibratedHead(Spy()).fit(X, y, groups=groups)
    for part in seen[:-1]:
        inside = (X[:, None, :] == part[None, :, :]).all(axis=2).any(axis=1)
        assert all(len(set(inside[groups == group])) == 1 for group in np.unique(groups))
    assert len(seen[-1]) == 300


def test_it_is_cloned_pickled_and_keeps_the_curves_of_its_head():
    X, y = rows(120)
    calibrated = CalibratedHead(make_head("softmax", epochs=2)).fit(X, y)
    assert len(calibrated.history_["loss"]) == 2
    again = pickle.loads(pickle.dumps(calibrated))
    np.testing.assert_array_equal(again.predict_proba(X), calibrated.predict_proba(X))
    assert clone(calibrated).method == "temperature"
    assert CalibratedHead(Boaster()).fit(X, y).history_ is None


def test_what_cannot_be_calibrated_is_refused():
    X, y = rows(60)
    with pytest.raises(HeadError, match="must have probabilities, got Perceptron"):
        CalibratedHead(Perceptron()).fit(X, y)
    with pytest.raises(HeadParameterError, match="method of head 'calibrated' must be 'temperature' or 'sigmoid'"):
        CalibratedHead(Boaster(), "magic").fit(X, y)
    with pytest.raises(HeadError, match="two classes with at least two groups each"):
        CalibratedHead(Boaster()).fit(X, y, groups=y)


@pytest.mark.parametrize("method", ["temperature", "sigmoid"])
def test_a_class_of_one_row_leaves_the_others_calibrated(method):
    X, y = rows(300)
    X, y = np.concatenate([X, X[:1] + 9]), np.append(y, "d")
    head = CalibratedHead(Boaster(), method).fit(X, y)
    assert list(head.uncalibrated_classes_) == ["d"]
    np.testing.assert_allclose(head.predict_proba(X).sum(axis=1), 1)
    if method == "sigmoid":
        assert list(head.curves_[3]) == [1, 0]
