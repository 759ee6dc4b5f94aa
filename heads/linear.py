"""Linear heads: standardised features, then logistic regression or a linear support vector machine."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from ..cache import RowSource
from .base import StandardizedHead
from .calibration import CalibratedMarginHead, Codes
from .numerics import (
    Array,
    Solution,
    StandardizedBlocks,
    cross_entropy,
    of_classes,
    solve,
    squared_hinge,
    standard_scaler,
)
from .parameters import (
    ClassWeight,
    check_class_weight,
    check_flag,
    check_number,
    check_random_state,
    weights_of_classes,
    weights_of_rows,
)
from .predictors import LinearSVMPredictor, LogisticRegressionPredictor

# of linear-svm: with them its predictions are those of LinearSVC, and a block stays in the processor's cache between
# the two products of an evaluation
GRADIENT_PER_TOL = 0.1
# of linear-svm in float32: smaller reductions of the mean loss are rounding, and the search along a line for one takes
# up to 50 evaluations
FLOAT32_FTOL = 1e-9
BLOCK_ROWS = 128


class _LinearHead(StandardizedHead):
    """Base of the heads with the arrays of one of scikit-learn's linear estimators."""

    C: float
    max_iter: int
    tol: float
    coef_: Array
    intercept_: Array
    n_iter_: int

    def check_parameters(self) -> None:
        """See `FeatureHead`."""
        check_number(self.head_name, "C", self.C, above=0)
        check_number(self.head_name, "max_iter", self.max_iter, at_least=1, integer=True)
        check_number(self.head_name, "tol", self.tol, above=0)

    def _new_linear(self) -> Any:
        """Return the estimator, unfitted."""
        raise NotImplementedError

    @property
    def model_(self) -> Pipeline:
        """Fitted pipeline of StandardScaler and scikit-learn's estimator, usable without embedonce."""
        linear = self._new_linear()
        linear.classes_, linear.n_features_in_ = self.classes_, self.n_features_in_
        linear.coef_, linear.intercept_ = self.coef_, self.intercept_
        linear.n_iter_ = self.n_iter_ if isinstance(linear, LinearSVC) else np.array([self.n_iter_], np.int32)
        return make_pipeline(self.scaler_, linear)

    @model_.setter
    def model_(self, model: Pipeline) -> None:
        self.scaler_, linear = model
        self.coef_, self.intercept_ = np.ascontiguousarray(linear.coef_), linear.intercept_


class LogisticRegressionHead(_LinearHead, LogisticRegressionPredictor):
    """Logistic regression (multinomial for three or more classes) on standardised features.

    The minimum is that of ``make_pipeline(StandardScaler(), LogisticRegression(C=C))`` up to the solver's tolerance.
    The solver is `embedonce.heads.numerics.lbfgs`. Features in float32 are multiplied in float32.

    Parameters
    ----------
    C : float, default=1.0
        Inverse strength of the L2 penalty, above 0.
    max_iter : int, default=1000
        Bound on L-BFGS iterations, at least 1.
    tol : float, default=5e-5
        The solver stops when no component of the gradient exceeds it; above 0. It is half of scikit-learn's 1e-4, with
        which rounding decides whether the solver stops a few iterations before scikit-learn's.
    class_weight : mapping or "balanced", default=None
        Weight of each class's rows; "balanced" is inverse to the class's size.

    Attributes
    ----------
    coef_, intercept_ : ndarray of float64, shapes (k, d) and (k,)
        Weights of the standardised features; of two classes those of the second alone.
    model_ : sklearn.pipeline.Pipeline
        The same as fitted StandardScaler and LogisticRegression.
    n_iter_ : int
        Iterations of the solver.
    converged_ : bool
        Whether the solver stopped before `max_iter`.
    history_ : dict of str to list of float
        "loss" of each iteration, with the penalty.

    See Also
    --------
    embedonce.make_head : Make any head by name.

    Examples
    --------
    >>> from embedonce import make_head
    >>> head = make_head("logreg", C=0.1).fit([[0.0], [1.0]], ["cat", "dog"])
    >>> head.predict([[0.9]])
    array(['dog'], dtype='<U3')
    """

    reads_rows = True

    def __init__(
        self, C: float = 1.0, *, max_iter: int = 1000, tol: float = 5e-5, class_weight: ClassWeight = None
    ) -> None:
        self.C, self.max_iter, self.tol, self.class_weight = C, max_iter, tol, class_weight

    def fit(
        self, X: ArrayLike | RowSource, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> LogisticRegressionHead:
        """Fit on features X (n, d) and labels y (n,), with weights (n,) of at least 0; return the head.

        A row of weight 2 counts as two rows, also in the standardisation. X may be a `RowSource`: it is read once for
        each evaluation of the loss, and never whole.
        """
        features, codes = self._start_fit(X, y)
        check_class_weight(self.head_name, self.class_weight, self.classes_)
        weights = self._row_weights(sample_weight, len(codes))
        scaler = standard_scaler(features, weights)
        outputs = len(self.classes_) if len(self.classes_) > 2 else 1
        solution = solve(
            StandardizedBlocks(features, scaler),
            codes,
            cross_entropy,
            (outputs, features.shape[1]),
            C=float(self.C),
            tol=float(self.tol),
            max_iter=int(self.max_iter),
            row_weights=weights_of_rows(self.class_weight, self.classes_, codes, weights),
        )
        if not solution.converged:
            warnings.warn(
                f"head {self.head_name!r} did not converge in {self.max_iter} iterations. Raise max_iter or tol",
                ConvergenceWarning,
                stacklevel=2,
            )
        self.scaler_ = scaler
        self.coef_, self.intercept_, self.n_iter_ = solution.coef, solution.intercept, solution.n_iter
        self.converged_, self.history_ = solution.converged, {"loss": solution.losses}
        return self

    def _new_linear(self) -> LogisticRegression:
        return LogisticRegression(C=self.C, max_iter=self.max_iter, tol=self.tol, class_weight=self.class_weight)


class LinearSVMHead(_LinearHead, CalibratedMarginHead, LinearSVMPredictor):
    """Linear support vector machine, one class against the rest, on standardised features.

    The minimum is that of ``make_pipeline(StandardScaler(), LinearSVC(C=C))`` up to the solver's tolerance. Solver and
    precision are those of `LogisticRegressionHead`.

    Parameters
    ----------
    C : float, default=0.001
        Inverse strength of the L2 penalty, above 0. scikit-learn's 1.0 is meant for a few features. On MobileNetV2
        features (alpha 0.35) of one data set, split without leakage, the test error was 6.0 % with 1.0, 4.8 % with 0.01
        and 4.3 % with 0.001. Tune it on other data.
    max_iter : int, default=10000
        Bound on L-BFGS iterations, at least 1.
    tol : float, default=1e-4
        The solver stops when no component of the gradient of the mean loss exceeds a tenth of it; above 0. In float32
        it also stops when an iteration reduces the loss by less than a billionth, which is its rounding.
    class_weight : mapping or "balanced", default=None
        Weight of each class's rows. Of three or more classes, those of the others weigh 1 in a class's margin, as in
        LinearSVC.
    probability : bool, default=True
        Whether to fit `inverse_temperature_` on held-out rows, for `predict_proba`. It costs at least one more fit.
    random_state : int, default=0
        Not used, since nothing is random. It stays for scripts and model files that give it.

    Attributes
    ----------
    coef_, intercept_ : ndarray of float64, shapes (k, d) and (k,)
        Weights of the standardised features; of two classes those of the second alone.
    model_ : sklearn.pipeline.Pipeline
        The same as fitted StandardScaler and LinearSVC.
    n_iter_ : int
        Iterations of the solver.
    converged_ : bool
        Whether the solver stopped before `max_iter`.

    See Also
    --------
    embedonce.make_head : Make any head by name.

    Examples
    --------
    >>> from embedonce import make_head
    >>> head = make_head("linear-svm").fit([[0.0], [0.1], [0.9], [1.0]], ["cat", "cat", "dog", "dog"])
    >>> head.predict([[0.95]])
    array(['dog'], dtype='<U3')
    """

    def __init__(
        self,
        C: float = 0.001,
        *,
        max_iter: int = 10_000,
        tol: float = 1e-4,
        class_weight: ClassWeight = None,
        probability: bool = True,
        random_state: int = 0,
    ) -> None:
        self.C, self.max_iter, self.tol, self.class_weight = C, max_iter, tol, class_weight
        self.probability, self.random_state = probability, random_state

    @property
    def is_random(self) -> bool:
        """See `FeatureHead`."""
        return False

    def check_parameters(self) -> None:
        """See `FeatureHead`."""
        super().check_parameters()
        check_flag(self.head_name, "probability", self.probability)
        check_random_state(self.head_name, self.random_state)

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        groups: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> LinearSVMHead:
        """Fit on features X (n, d) and labels y (n,), with weights (n,) of at least 0; return the head.

        `groups`, shape (n,), keeps near-duplicates on the same side of the calibration's folds. A row of weight 2
        counts as two rows of one group.
        """
        features, codes = self._start_fit(X, y)
        check_class_weight(self.head_name, self.class_weight, self.classes_)
        groups = self._checked_groups(groups, len(codes))
        weights = self._row_weights(sample_weight, len(codes))
        if weights is not None:
            kept = self._weighted_rows(weights, codes)
            features, codes, weights = features[kept], codes[kept], weights[kept]
            groups = None if groups is None else groups[kept]
        signs = 2.0 * np.eye(len(self.classes_)) - 1.0
        signs = signs if len(signs) > 2 else signs[1:]

        def fitted(rows: Codes | slice) -> tuple[StandardScaler, Solution]:
            part, of_rows = features[rows], None if weights is None else weights[rows]
            scaler = standard_scaler(part, of_rows)
            solution = solve(
                StandardizedBlocks(part, scaler, BLOCK_ROWS),
                codes[rows],
                squared_hinge(signs, self._margin_weights(signs, codes[rows], of_rows)),
                (len(signs), self.n_features_in_),
                C=float(self.C),
                tol=GRADIENT_PER_TOL * float(self.tol),
                max_iter=int(self.max_iter),
                row_weights=of_rows,
                penalize_intercept=True,
                **({"ftol": FLOAT32_FTOL} if features.dtype == np.float32 else {}),
            )
            return scaler, solution

        self.scaler_, solution = fitted(slice(None))
        self.coef_, self.intercept_ = solution.coef, solution.intercept
        self.n_iter_, self.converged_ = solution.n_iter, solution.converged
        if self.probability:

            def fold_margins(train: Codes, held_out: Codes, last: bool) -> Array:
                scaler, fold = fitted(train)
                return of_classes(scaler.transform(features[held_out]) @ fold.coef.T + fold.intercept)

            self._calibrate(codes, groups, fold_margins, weights)
        return self

    def _margin_weights(self, signs: Array, codes: Codes, weights: Array | None) -> Array | None:
        """Return the weights (p, k) of the classes in each margin: as in liblinear, those of the others are 1."""
        if self.class_weight is None:
            return None
        by_class = weights_of_classes(self.class_weight, self.classes_, codes, weights)
        return np.where((signs > 0) | (len(signs) == 1), by_class, 1.0)

    def _new_linear(self) -> LinearSVC:
        settings = {"max_iter": self.max_iter, "tol": self.tol, "class_weight": self.class_weight}
        return LinearSVC(C=self.C, random_state=self.random_state, **settings)
