"""Predictions of fitted heads from their arrays, with NumPy alone; the estimators inherit them and add fitting."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from .numerics import (
    Affine,
    Array,
    PairMachine,
    RBFMachine,
    class_log_scores,
    margins_and_gradients,
    of_classes,
    ovr_scores,
    pair_coefficients,
    pair_log_score_slopes,
    pair_log_scores,
    pair_machine,
    predicted_indices,
    probabilities,
)


class Predictor:
    """Base of the fitted heads: class and probabilities follow from one score per class, which `_scores` returns."""

    head_name: ClassVar[str]
    classes_: Array
    n_features_in_: int

    def _start_predict(self, X: ArrayLike) -> Array:
        """Return features (m, d) as float32 or float64."""
        rows = np.asarray(X)
        if rows.ndim != 2 or rows.shape[1] != self.n_features_in_:
            raise ValueError(f"head {self.head_name!r} takes {self.n_features_in_} features, got shape {rows.shape}")
        return rows if rows.dtype == np.float32 else rows.astype(np.float64)

    def _scores(self, X: Array) -> Array:
        """Return scores, shape (n,) for two classes or (n, k), of checked features."""
        raise NotImplementedError

    def predict(self, X: ArrayLike) -> Array:
        """Predict the class label of each row of features (m, d)."""
        indices = predicted_indices(self._scores(self._start_predict(X)))
        return self.classes_[indices]


class MarginPredictor(Predictor):
    """Base of the heads with a decision function, whose probabilities are a softmax of scaled margins of `_margins`."""

    inverse_temperature_: float = 1.0

    def _margins(self, X: Array) -> Array:
        """Return the margins of checked features: (m,), (m, k) or, of pairs of classes, (m, k (k - 1) / 2)."""
        raise NotImplementedError

    def _scores_of(self, margins: Array) -> Array:
        return margins

    def _log_scores(self, margins: Array, inverse_temperature: float) -> Array:
        """Return log probabilities (m, k), each row up to a constant."""
        return class_log_scores(margins, inverse_temperature)

    def _scores(self, X: Array) -> Array:
        return self._scores_of(self._margins(X))

    def decision_function(self, X: ArrayLike) -> Array:
        """Return the signed margins (m,) of the second of two classes, or one score per class (m, k)."""
        return self._scores(self._start_predict(X))

    def predict_proba(self, X: ArrayLike) -> Array:
        """Return the probability of each class (m, k), float64; the most probable one is what `predict` returns."""
        margins = self._margins(self._start_predict(X))
        log_scores = self._log_scores(margins, self.inverse_temperature_)
        return probabilities(log_scores, predicted_indices(self._scores_of(margins)))


class SoftmaxPredictor(MarginPredictor):
    """Dense softmax layer."""

    head_name = "softmax"
    coef_: Array
    intercept_: Array

    def _margins(self, X: Array) -> Array:
        logits: Array = X @ self.coef_.T.astype(X.dtype, copy=False) + self.intercept_.astype(X.dtype, copy=False)
        # two classes: the margin of the second, as scikit-learn's classifiers have it
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def affine_log_scores(self) -> Affine:
        """Return the linear map of the features whose softmax is `predict_proba`."""
        return Affine.of_margins(self.coef_, self.intercept_)


class StandardizedPredictor(MarginPredictor):
    """Base of the heads on standardised features."""

    mean_: Array
    scale_: Array

    def _standardized(self, X: Array) -> Array:
        """Return standardised features in the dtype of X, as `sklearn.preprocessing.StandardScaler` does."""
        scaled: Array = X - self.mean_.astype(X.dtype)
        scaled /= self.scale_.astype(X.dtype)
        return scaled


class LinearPredictor(StandardizedPredictor):
    """Base of the linear heads on standardised features."""

    coef_: Array
    intercept_: Array

    def _margins(self, X: Array) -> Array:
        return of_classes(self._standardized(X) @ self.coef_.T + self.intercept_)

    def affine_log_scores(self) -> Affine:
        """Return the linear map of the features whose softmax is `predict_proba`."""
        return Affine.of_standardised(
            self.coef_, self.intercept_, self.mean_, self.scale_, float(self.inverse_temperature_)
        )


class LogisticRegressionPredictor(LinearPredictor):
    """Logistic regression."""

    head_name = "logreg"


class LinearSVMPredictor(LinearPredictor):
    """Linear support vector machine."""

    head_name = "linear-svm"


class SVMPredictor(StandardizedPredictor):
    """Support vector machine with RBF kernel, exact or approximate."""

    head_name = "svm"
    gamma_: float
    support_vectors_: Array
    intercept_: Array
    dual_coef_: Array
    n_support_: Array
    approximate_: bool
    pair_coef_: Array

    def machine(self) -> RBFMachine:
        """Return the fitted machine on standardised features."""
        coefficients = self.pair_coef_ if self.approximate_ else pair_coefficients(self.dual_coef_, self.n_support_)
        return RBFMachine(self.support_vectors_, coefficients, self.intercept_, self.gamma_)

    def _margin_blocks(self, X: Array) -> Iterator[Array]:
        """Yield the margins of checked features, of many classes those of a few rows at a time."""
        # the support vectors' dtype decides, so that a row's decision does not depend on its own dtype
        scaled = self._standardized(X.astype(self.support_vectors_.dtype, copy=False))
        if not self.approximate_:
            about = self.dual_coef_, self.n_support_, self.intercept_, self.gamma_
            machine = pair_machine(self.support_vectors_, *about)
            if isinstance(machine, PairMachine) and len(X):
                yield from machine.blocks(scaled)
                return
        yield of_classes(self.machine().margins(scaled))

    def _scores(self, X: Array) -> Array:
        return np.concatenate([self._scores_of(margins) for margins in self._margin_blocks(X)])

    def predict_proba(self, X: ArrayLike) -> Array:
        """Return the probability of each class (m, k), float64; the most probable one is what `predict` returns."""
        blocks = []
        for margins in self._margin_blocks(self._start_predict(X)):
            log_scores = self._log_scores(margins, self.inverse_temperature_)
            blocks.append(probabilities(log_scores, predicted_indices(self._scores_of(margins))))
        return np.concatenate(blocks)

    def _scores_of(self, margins: Array) -> Array:
        return ovr_scores(margins, len(self.classes_))

    def _log_scores(self, margins: Array, inverse_temperature: float) -> Array:
        return pair_log_scores(margins, len(self.classes_), inverse_temperature)

    def log_score_gradients(self, row: Array) -> tuple[Array, Array]:
        """Return log scores (k,) of one row of features (d,), and their gradients (d, k), float64.

        Their softmax is `predict_proba`, except where the votes of the pairs disagree, which is rare.
        """
        factor, k = self.inverse_temperature_, len(self.classes_)
        scaled = (np.asarray(row, np.float64) - self.mean_) / self.scale_
        margins, gradients = margins_and_gradients(scaled, *self.machine())
        log_scores = self._log_scores(of_classes(margins[None]), factor)[0]
        # the margin of two classes is that of the second, and the first has the score 0
        slopes = np.array([[0.0, factor]]) if k == 2 else pair_log_score_slopes(margins, k, factor)
        return log_scores, (gradients / self.scale_[:, None]) @ slopes


class DummyPredictor(Predictor):
    """Most frequent class of the training rows."""

    head_name = "dummy"
    class_prior_: Array

    def _scores(self, X: Array) -> Array:
        return np.tile(self.class_prior_, (len(X), 1))

    def predict_proba(self, X: ArrayLike) -> Array:
        """Return the classes' fractions of the training rows, (m, k), float64; `predict` is the largest."""
        return self._scores(self._start_predict(X))


PREDICTORS: dict[str, type[Any]] = {
    predictor.head_name: predictor
    for predictor in (SoftmaxPredictor, LogisticRegressionPredictor, LinearSVMPredictor, SVMPredictor, DummyPredictor)
}
