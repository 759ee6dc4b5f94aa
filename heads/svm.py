"""RBF support vector machine: scikit-learn's SVC with the kernel computed by BLAS.

The matrix goes to ``SVC(kernel="precomputed")``. Above 20,000 rows, where it needs 3 GiB and the solver's time grows
with the square of them, `embedonce.heads.numerics.nystroem` approximates the machine.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import config_context
from sklearn.svm import SVC

from ..cache import RowSource
from ..errors import ApproximationWarning
from .calibration import CalibratedMarginHead, Codes
from .numerics import (
    Array,
    Nystroem,
    NystroemBlocks,
    Solution,
    is_sharing,
    of_classes,
    pair_machine,
    pair_signs,
    rbf_matrix,
    shared,
    solve,
    square_part,
    squared_hinge,
    standard_scaler,
    take_rows,
    whole,
)
from .parameters import (
    ClassWeight,
    check_choice,
    check_class_weight,
    check_flag,
    check_number,
    check_random_state,
    weights_of_rows,
    wrong_value,
)
from .predictors import SVMPredictor

# 3 GiB hold the kernel of 20,000 rows
MAX_KERNEL_BYTES = 3 * 2**30
# of an approximation: its solver stops at gradients, the exact one at violations of optimality
GRADIENT_PER_TOL = 0.1
MANY_ITERATIONS = 10_000


class LibsvmSolution(NamedTuple):
    """Solution of libsvm: rows of its support vectors among the training rows, and coefficients."""

    support: Codes
    dual_coef: NDArray[np.float64]
    intercept: NDArray[np.float64]
    n_support: NDArray[np.integer[Any]]
    n_iter: int


class SVMHead(CalibratedMarginHead, SVMPredictor):
    """Support vector machine with the kernel exp(-gamma |a - b|^2) on scaled features.

    Predictions are those of ``SVC(C, gamma=gamma, break_ties=True)`` on the scaled features, up to the solver's
    tolerance. Features in float32 are kept and multiplied in float32.

    Parameters
    ----------
    C : float, default=10.0
        Inverse strength of the penalty, above 0.
    gamma : float or "scale", default="scale"
        Width of the kernel, above 0; "scale" is 1 / (d * variance of the scaled features).
    scaling : {"overall", "standard"}, default="overall"
        "overall" subtracts the mean of each feature and divides all features by one number, the root of their mean
        variance. "standard" divides each feature by its own standard deviation, as
        `sklearn.preprocessing.StandardScaler` does, so that features that vary little count as much as the others.
    class_weight : mapping or "balanced", default=None
        Weight of each class's rows.
    tol : float, default=1e-3
        Tolerance of the solver, above 0.
    max_iter : int, default=-1
        Bound on the solver's iterations; -1 for none.
    probability : bool, default=True
        Whether to fit `inverse_temperature_` on held-out rows, for `predict_proba`. The folds reuse the kernel matrix,
        scaler and gamma of all rows, and take about as long as the solver.
    max_kernel_bytes : int, default=3 GiB
        Bound on the kernel matrix of 8 n^2 bytes. Above it libsvm computes the kernel: the same result, slowly. An
        approximation keeps its features of 4 n n_components bytes up to this size, and otherwise computes them in each
        iteration.
    approximate_above : int, default=20000
        With more training rows than this the machine is approximated, with an `ApproximationWarning`.
    n_components : int, default=2000
        Training rows that an approximation expresses the others by.
    random_state : int, default=0
        Seed of the choice of these rows. Nothing else is random.

    Attributes
    ----------
    mean_, var_, scale_ : ndarray of shape (d,), float64
        Scaling, fitted on all rows; also as `scaler_`, a `sklearn.preprocessing.StandardScaler`. `scale_` repeats one
        number if `scaling` is "overall".
    gamma_ : float
        Width of the kernel.
    support_ : ndarray of shape (s,), intp
        Rows of the support vectors in the training data, sorted by class.
    support_vectors_ : ndarray of shape (s, d), float32 or float64
        Scaled support vectors.
    intercept_ : ndarray of shape (k (k - 1) / 2,), float64
        As in `sklearn.svm.SVC`.
    dual_coef_, n_support_ : ndarray
        As in `sklearn.svm.SVC`; an approximation has none.
    at_bound_ : bool
        Whether the coefficient of a row is C times the row's weight. Otherwise the classes are separated without
        errors, and another C or other class weights change nothing, unless they are much smaller. An approximation has
        none.
    approximate_ : bool
        Whether the machine is an approximation. Then `support_` are the rows that were drawn.
    pair_coef_ : ndarray of shape (s, k (k - 1) / 2), float64
        Coefficients of an approximation's support vectors in the margins of all pairs of classes.
    n_iter_ : int
        Iterations of the solver for the slowest pair of classes.
    converged_ : bool
        Whether the solver stopped before `max_iter`.

    See Also
    --------
    embedonce.make_head : Make any head by name.

    Examples
    --------
    >>> from embedonce import make_head
    >>> head = make_head("svm", C=1.0).fit([[0.0], [0.1], [0.9], [1.0]], ["cat", "cat", "dog", "dog"])
    >>> head.predict([[0.95]])
    array(['dog'], dtype='<U3')
    """

    reads_rows = True
    support_: Codes

    def __init__(
        self,
        C: float = 10.0,
        *,
        gamma: float | Literal["scale"] = "scale",
        scaling: Literal["overall", "standard"] = "overall",
        class_weight: ClassWeight = None,
        tol: float = 1e-3,
        max_iter: int = -1,
        probability: bool = True,
        max_kernel_bytes: int = MAX_KERNEL_BYTES,
        approximate_above: int = 20_000,
        n_components: int = 2000,
        random_state: int = 0,
    ) -> None:
        self.C, self.gamma, self.scaling, self.class_weight = C, gamma, scaling, class_weight
        self.tol, self.max_iter, self.probability = tol, max_iter, probability
        self.max_kernel_bytes, self.approximate_above = max_kernel_bytes, approximate_above
        self.n_components, self.random_state = n_components, random_state

    def fit(
        self,
        X: ArrayLike | RowSource,
        y: ArrayLike,
        groups: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> SVMHead:
        """Fit on features X (n, d) and labels y (n,), with weights (n,) of at least 0; return the head.

        X may be a `RowSource`, which an approximation reads in blocks and never whole. `groups`, shape (n,), keeps
        near-duplicates on the same side of the calibration's folds. A row of weight 2 counts as two rows of one group.
        """
        features, codes = self._start_fit(X, y)
        check_class_weight(self.head_name, self.class_weight, self.classes_)
        checked = self._checked_groups(groups, len(codes))
        weights = self._row_weights(sample_weight, len(codes))
        kept = np.arange(len(codes)) if weights is None else self._weighted_rows(weights, codes)
        scaler = standard_scaler(features, weights)
        if self.scaling == "overall":
            of_varying = np.where(scaler.scale_ == np.sqrt(scaler.var_), scaler.var_, 0.0)
            scaler.scale_ = np.full(self.n_features_in_, np.sqrt(of_varying.mean()) or 1.0)
        self.scaler_ = scaler
        self.approximate_ = len(kept) > self.approximate_above
        if self.approximate_:
            self._fit_approximation(features, codes, checked, weights, kept)
        elif weights is None:
            self._fit_exactly(scaler.transform(whole(features)), codes, checked, None)
        else:
            groups_of_kept = None if checked is None else checked[kept]
            self._fit_exactly(scaler.transform(whole(features)[kept]), codes[kept], groups_of_kept, weights[kept])
            self.support_ = kept[self.support_]
        return self

    def _fit_exactly(
        self, scaled: Array, codes: Codes, groups: Array | None, weights: NDArray[np.float64] | None
    ) -> None:
        """Fit on scaled rows, with weights above 0."""
        variance = scaled.var(dtype=np.float64) if weights is None else self._variance()
        self.gamma_ = self._gamma_for(float(variance))
        fits_in_memory = 8 * len(scaled) ** 2 <= self.max_kernel_bytes
        matrix = None
        if fits_in_memory:
            matrix = shared(("rbf_matrix", self.gamma_), lambda: rbf_matrix(scaled, self.gamma_), scaled)

        everything = np.arange(len(scaled))
        solved = self._solve(scaled, codes, weights, matrix, everything)
        self.support_, self.support_vectors_ = solved.support, scaled[solved.support]
        self.dual_coef_, self.intercept_, self.n_support_, self.n_iter_ = solved[1:]
        self.converged_ = self.max_iter < 0 or self.n_iter_ < self.max_iter
        of_rows = weights_of_rows(self.class_weight, self.classes_, codes, weights)
        bounds = float(self.C) * (np.ones(len(codes)) if of_rows is None else of_rows)[self.support_]
        self.at_bound_ = bool((np.abs(self.dual_coef_).max(axis=0) >= (1 - 1e-6) * bounds).any())

        if self.probability:

            def fold_margins(train: Codes, held_out: Codes, last: bool) -> Array:
                # the last fold may overwrite the matrix, if no other fit uses it
                fold = self._solve(scaled, codes, weights, matrix, train, overwrite=last and not is_sharing())
                about = fold.dual_coef, fold.n_support, fold.intercept, self.gamma_
                return of_classes(pair_machine(scaled[fold.support], *about).margins(scaled[held_out]))

            self._calibrate(codes, groups, fold_margins, weights)

    def _fit_approximation(
        self,
        features: Array | RowSource,
        codes: Codes,
        groups: Array | None,
        weights: NDArray[np.float64] | None,
        kept: Codes,
    ) -> None:
        """Fit a linear machine, with the squared hinge loss, on the features of a Nystroem map of kept rows."""
        warnings.warn(
            f"head {self.head_name!r} got {len(kept):,} rows, more than approximate_above={self.approximate_above:,}: "
            f"it is approximated by {self.n_components:,} of them",
            ApproximationWarning,
            stacklevel=3,
        )
        scaler = self.scaler_
        self.gamma_ = self._gamma_for(self._variance())
        drawn = np.random.default_rng(self.random_state).permutation(kept)[: self.n_components]
        self.support_ = np.sort(drawn)
        self.support_vectors_ = scaler.transform(take_rows(features, self.support_))
        nystroem = Nystroem.of(self.support_vectors_, self.gamma_)
        rows = NystroemBlocks(features, scaler, nystroem, self.max_kernel_bytes)
        signs = pair_signs(len(self.classes_))
        given = weights_of_rows(self.class_weight, self.classes_, codes, weights)
        all_weights = np.ones(len(codes)) if given is None else given

        def linear(row_weights: NDArray[np.float64]) -> Solution:
            return solve(
                rows,
                codes,
                squared_hinge(signs),
                (len(signs), nystroem.width),
                C=float(self.C),
                tol=GRADIENT_PER_TOL * float(self.tol),
                max_iter=int(self.max_iter) if self.max_iter >= 0 else MANY_ITERATIONS,
                row_weights=row_weights,
            )

        solution = linear(all_weights)
        self.pair_coef_ = nystroem.projection @ solution.coef.T
        self.intercept_ = solution.intercept
        self.n_iter_, self.converged_ = solution.n_iter, solution.converged

        if self.probability:

            def fold_margins(train: Codes, held_out: Codes, last: bool) -> Array:
                of_fold = np.zeros(len(codes))
                of_fold[train] = all_weights[train]
                fold = linear(of_fold)
                margins = np.concatenate([block @ fold.coef.T + fold.intercept for block in rows])
                return of_classes(margins[held_out])

            self._calibrate(codes, groups, fold_margins, weights)

    def cost_notice(self, n: int, d: int, k: int) -> str:
        """See `FeatureHead`."""
        pairs = k * (k - 1) // 2
        if pairs < 100_000:
            return ""
        return f"minutes, because it compares every two of {k:,} classes, {pairs:,} pairs, for each image"

    @property
    def _margins_of_row(self) -> int:
        return len(self.classes_) * (len(self.classes_) - 1) // 2

    @property
    def is_random(self) -> bool:
        """See `FeatureHead`."""
        return self.approximate_

    def check_parameters(self) -> None:
        """See `FeatureHead`."""
        check_number(self.head_name, "C", self.C, above=0)
        if isinstance(self.gamma, str):
            if self.gamma != "scale":
                raise wrong_value(self.head_name, "gamma", "'scale' or a number above 0", self.gamma)
        else:
            check_number(self.head_name, "gamma", self.gamma, above=0)
        check_choice(self.head_name, "scaling", self.scaling, ("overall", "standard"))
        check_number(self.head_name, "tol", self.tol, above=0)
        check_number(self.head_name, "max_iter", self.max_iter, at_least=-1, integer=True)
        check_flag(self.head_name, "probability", self.probability)
        check_number(self.head_name, "max_kernel_bytes", self.max_kernel_bytes, at_least=0, integer=True)
        check_number(self.head_name, "approximate_above", self.approximate_above, at_least=0, integer=True)
        check_number(self.head_name, "n_components", self.n_components, at_least=1, integer=True)
        check_random_state(self.head_name, self.random_state)

    def _gamma_for(self, variance: float) -> float:
        """Return the kernel's width for scaled features of a variance, as `sklearn.svm.SVC` does for "scale"."""
        if not isinstance(self.gamma, str):
            return float(self.gamma)
        return 1.0 / (self.n_features_in_ * variance) if variance > 0 else 1.0

    def _variance(self) -> float:
        """Return the variance of the scaled features: 1, or less if some are constant."""
        return float(np.mean(self.var_ / np.square(self.scale_)))

    def _solve(
        self,
        X: Array,
        codes: Codes,
        weights: NDArray[np.float64] | None,
        matrix: Array | None,
        rows: Codes,
        overwrite: bool = False,
    ) -> LibsvmSolution:
        """Fit libsvm on some rows, with their part of the kernel matrix if there is one, which `overwrite` loses."""
        given = None if weights is None else weights[rows]
        of_rows = weights_of_rows(self.class_weight, self.classes_, codes[rows], given)
        settings = {"C": self.C, "tol": self.tol, "max_iter": self.max_iter}
        if matrix is None:
            solver = SVC(kernel="rbf", gamma=self.gamma_, **settings).fit(X[rows], codes[rows], of_rows)
        else:
            part = matrix if len(rows) == len(matrix) else square_part(matrix, rows, overwrite)
            with config_context(assume_finite=True):  # which it would look for in a gigabyte of exponentials
                solver = SVC(kernel="precomputed", **settings).fit(part, codes[rows], of_rows)
        return LibsvmSolution(
            rows[solver.support_],
            np.asarray(solver.dual_coef_),
            np.asarray(solver.intercept_),
            np.asarray(solver.n_support_),
            int(np.max(solver.n_iter_)),
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        # the first files of the first format hold no approximations, and the first pickles no scaling
        state = {"scaling": "standard"} | state
        super().__setstate__({"approximate_": False} | state if "dual_coef_" in state else state)
