"""Linear heads: standardised features, then logistic regression or a linear support vector machine."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from ..cache import RowSource
from .base import MarginHead
from .calibration import CalibratedMarginHead, Codes
from .numerics import (
    Affine,
    Array,
    Solution,
    StandardizedBlocks,
    class_log_scores,
    cross_entropy,
    predicted_indices,
    probabilities,
    solve,
    standard_scaler,
)
from .parameters import check_class_weight, check_flag, check_number, check_random_state, weights_of_classes


def _affine(model: Pipeline, sharpness: float = 1.0) -> Affine:
    """Return margins of features times a factor; the standardisation becomes a part of the weights."""
    scaler, linear = model
    return Affine.of_standardised(linear.coef_, linear.intercept_, scaler.mean_, scaler.scale_, sharpness)


class LogisticRegressionHead(MarginHead):
    """Logistic regression (multinomial for three or more classes) on standardised features.

    The minimum is that of ``make_pipeline(StandardScaler(), LogisticRegression(C=C))`` up to the solver's
    tolerance; it is found by `embedonce.heads.numerics.lbfgs`. Features in float32 are multiplied in float32.

    Parameters
    ----------
    C : float
        Inverse strength of the L2 penalty, above 0.
    max_iter : int
        Bound on L-BFGS iterations, at least 1.
    tol : float
        The solver stops when no component of the gradient exceeds it; above 0. With scikit-learn's 1e-4 rounding
        decides whether it stops a few iterations before scikit-learn or after; half of that is always as close.
    class_weight : mapping or "balanced", optional
        Weight of each class's rows; "balanced" is inverse to the class's size.

    Attributes
    ----------
    model_ : sklearn.pipeline.Pipeline
        StandardScaler and LogisticRegression, fitted: usable without embedonce.
    n_iter_ : int
        Iterations of the solver.
    """

    head_name = "logreg"
    reads_rows = True

    def __init__(self, C: float = 1.0, *, max_iter: int = 1000, tol: float = 5e-5, class_weight: Any = None) -> None:
        self.C = C
        self.max_iter = max_iter
        self.tol = tol
        self.class_weight = class_weight

    def fit(self, X: ArrayLike | RowSource, y: ArrayLike) -> LogisticRegressionHead:
        """Fit on features X of shape (n, d) and labels y of shape (n,); return the head.

        X may be a `RowSource`: it is read once for each evaluation of the loss, and never whole.

        Raises
        ------
        HeadParameterError
            If a parameter has a value that it does not take.
        HeadError
            If there are fewer than two classes.
        ValueError
            If X or y do not hold finite features and as many labels.
        """
        return self._fit_all(X, y, [self])[0]

    def fit_path(self, X: ArrayLike | RowSource, y: ArrayLike, Cs: Sequence[float]) -> list[LogisticRegressionHead]:
        """Fit one head for each C, every one begun where that of the next smaller C ended.

        Parameters
        ----------
        X, y
            As for `fit`.
        Cs : sequence of float
            Values of C, in any order.

        Returns
        -------
        list of LogisticRegressionHead
            New heads with the other parameters of this one, fitted, in the order of `Cs`. They share the scaler.
            Each is at the minimum that `fit` finds, within `tol`.

        Raises
        ------
        HeadParameterError, HeadError, ValueError
            As `fit` does.
        """
        return self._fit_all(X, y, [clone(self).set_params(C=C) for C in Cs])

    def check_parameters(self) -> None:
        """See `FeatureHead`."""
        check_number(self.head_name, "C", self.C, above=0)
        check_number(self.head_name, "max_iter", self.max_iter, at_least=1, integer=True)
        check_number(self.head_name, "tol", self.tol, above=0)

    @classmethod
    def _fit_all(
        cls, X: ArrayLike | RowSource, y: ArrayLike, heads: list[LogisticRegressionHead]
    ) -> list[LogisticRegressionHead]:
        """Fit heads that differ in C alone, from the smallest C to the largest."""
        for head in heads:
            features, codes = head._start_fit(X, y)
            check_class_weight(cls.head_name, head.class_weight, head.classes_)
        if not heads:
            return heads
        scaler = standard_scaler(features)
        rows = StandardizedBlocks(features, scaler)
        fitted = None
        for head in sorted(heads, key=lambda head: head.C):
            weights = None
            if head.class_weight is not None:
                weights = weights_of_classes(head.class_weight, head.classes_, codes)[codes]
            fitted = solve(
                rows,
                codes,
                cross_entropy,
                (len(head.classes_) if len(head.classes_) > 2 else 1, features.shape[1]),
                C=float(head.C),
                tol=float(head.tol),
                max_iter=int(head.max_iter),
                row_weights=weights,
                start=fitted,
            )
            head._keep(scaler, fitted)
        return heads

    def _keep(self, scaler: StandardScaler, fitted: Solution) -> None:
        """Keep what was fitted as a plain scikit-learn pipeline."""
        if not fitted.converged:
            warnings.warn(
                f"head {self.head_name!r} did not converge in {self.max_iter} iterations; raise max_iter or tol",
                ConvergenceWarning,
                stacklevel=4,
            )
        linear = LogisticRegression(C=self.C, max_iter=self.max_iter, tol=self.tol, class_weight=self.class_weight)
        linear.classes_, linear.n_features_in_ = self.classes_, self.n_features_in_
        linear.coef_, linear.intercept_ = fitted.coef, fitted.intercept
        linear.n_iter_ = np.array([fitted.n_iter], np.int32)
        self.model_: Pipeline = make_pipeline(scaler, linear)
        self.n_iter_: int = fitted.n_iter

    def _scores(self, X: Array) -> Array:
        scores: Array = self.model_.decision_function(X)
        return scores

    def predict_proba(self, X: ArrayLike) -> Array:
        """Return class probabilities of shape (m, k), float64; the highest is the predicted class.

        They are those of scikit-learn's LogisticRegression: a softmax of the decision function, for two
        classes its logistic function.
        """
        scores = self.decision_function(X)
        return probabilities(class_log_scores(scores), predicted_indices(scores))

    def affine_log_scores(self) -> Affine:
        """Return what `predict_proba` is the softmax of, as a linear map of the features."""
        return _affine(self.model_)


class LinearSVMHead(CalibratedMarginHead):
    """Linear support vector machine, one class against the rest, on standardised features.

    Parameters
    ----------
    C : float
        Inverse strength of the L2 penalty, above 0. scikit-learn's 1.0 is meant for a few features: with
        1,280 standardised ones margins of 1 need only small weights. On MobileNetV2 features (alpha 0.35)
        of one data set, copies of one original kept together, the test error was 6.0 % with 1.0, 4.8 %
        with 0.01 and 4.3 % with 0.001. That is one data set: tune it on yours.
    max_iter : int
        Bound on liblinear's iterations, at least 1.
    tol : float
        Tolerance of the solver, above 0.
    class_weight : mapping or "balanced", optional
        Weight of each class's rows.
    probability : bool
        Whether to fit `sharpness_` on held-out rows, so that there is `predict_proba`. Costs at least
        one more fit on four fifths of the rows.
    random_state : int
        Seed of liblinear's coordinate descent, which it uses where there are fewer rows than features.

    Attributes
    ----------
    model_ : sklearn.pipeline.Pipeline
        StandardScaler and LinearSVC, fitted.
    n_iter_ : int
        liblinear's iterations, of the slowest class.
    """

    head_name = "linear-svm"

    def __init__(
        self,
        C: float = 0.001,
        *,
        max_iter: int = 10_000,
        tol: float = 1e-4,
        class_weight: Any = None,
        probability: bool = True,
        random_state: int = 0,
    ) -> None:
        self.C = C
        self.max_iter = max_iter
        self.tol = tol
        self.class_weight = class_weight
        self.probability = probability
        self.random_state = random_state

    def check_parameters(self) -> None:
        """See `FeatureHead`."""
        check_number(self.head_name, "C", self.C, above=0)
        check_number(self.head_name, "max_iter", self.max_iter, at_least=1, integer=True)
        check_number(self.head_name, "tol", self.tol, above=0)
        check_flag(self.head_name, "probability", self.probability)
        check_random_state(self.head_name, self.random_state)

    def fit(self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> LinearSVMHead:
        """Fit on features X of shape (n, d) and labels y of shape (n,); return the head.

        `groups`, shape (n,), keeps copies of one original on the same side of the calibration's folds.

        Raises
        ------
        HeadParameterError
            If a parameter has a value that it does not take.
        HeadError
            If there are fewer than two classes, or `groups` is of another length.
        ValueError
            If X or y do not hold finite features and as many labels.
        """
        features, codes = self._start_fit(X, y)
        check_class_weight(self.head_name, self.class_weight, self.classes_)
        labels = self.classes_[codes]
        self.model_: Pipeline = self._new_model().fit(features, labels)
        self.n_iter_: int = int(np.max(self.model_[-1].n_iter_))
        if self.probability:

            def fold_margins(train: Codes, held: Codes, last: bool) -> Array:
                margins: Array = self._new_model().fit(features[train], labels[train]).decision_function(features[held])
                return margins

            self._calibrate(codes, groups, fold_margins)
        return self

    def _new_model(self) -> Pipeline:
        return make_pipeline(
            StandardScaler(),
            LinearSVC(
                C=self.C,
                max_iter=self.max_iter,
                tol=self.tol,
                class_weight=self.class_weight,
                random_state=self.random_state,
            ),
        )

    def _margins(self, X: Array) -> Array:
        margins: Array = self.model_.decision_function(X)
        return margins

    def _scores_of(self, margins: Array) -> Array:
        return margins

    def _log_scores(self, margins: Array, sharpness: float) -> Array:
        return class_log_scores(margins, sharpness)

    def affine_log_scores(self) -> Affine:
        """Return what `predict_proba` is the softmax of, as a linear map of the features."""
        return _affine(self.model_, self.sharpness_)
