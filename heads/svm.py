"""RBF support vector machine head: scikit-learn's SVC in results, BLAS in speed.

libsvm solves the same problem with the same solver. What differs is who evaluates the kernel: here it is
made by matrix products (`embedonce.heads.kernel`) and handed to ``SVC(kernel="precomputed")``, and
decisions are matrix products with the support vectors.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.svm import SVC

from .base import Array, class_log_scores
from .calibration import CalibratedHead, Codes, pair_log_scores
from .gradients import margins_and_gradients, pair_log_score_slopes
from .kernel import (
    BLOCK_BYTES,
    ovo_margins,
    ovr_scores,
    pair_coefficients,
    rbf_block,
    rbf_matrix,
    square_part,
    squared_norms,
)
from .parameters import check_class_weight, check_flag, check_number, wrong_value
from .rows import standard_scaler

# 2 GiB hold the kernel of 16,384 rows
MAX_KERNEL_BYTES = 2 * 2**30


class Machine(NamedTuple):
    """A solved SVM as arrays: rows of its support vectors among the training rows, and coefficients."""

    support: Codes
    dual_coef: NDArray[np.float64]
    intercept: NDArray[np.float64]
    n_support: NDArray[np.integer[Any]]
    n_iter: int


class SVMHead(CalibratedHead):
    """Support vector machine with the kernel exp(-gamma |a - b|^2) on standardised features.

    Predictions are those of ``make_pipeline(StandardScaler(), SVC(C, gamma=gamma, break_ties=True))`` up
    to the solver's tolerance. Features in float32 are kept and multiplied in float32.

    Parameters
    ----------
    C : float
        Inverse strength of the penalty, above 0.
    gamma : "scale" or float
        Width of the kernel, above 0; "scale" is 1 / (d * variance of the standardised features).
    class_weight : mapping or "balanced", optional
        Weight of each class's rows.
    tol : float
        Tolerance of the solver, above 0.
    max_iter : int
        Bound on the solver's iterations; -1 for none.
    probability : bool
        Whether to fit `sharpness_` on held-out rows, so that there is `predict_proba`. The folds reuse the
        kernel matrix, at about the solver's own time. They share the scaler and gamma of all rows.
    max_kernel_bytes : int
        The kernel matrix takes 8 n^2 bytes. Where that is more than this, libsvm evaluates the kernel
        itself: the same result, slowly.

    Attributes
    ----------
    scaler_ : sklearn.preprocessing.StandardScaler
        Fitted on all rows.
    gamma_ : float
        The kernel's width.
    support_ : ndarray of shape (s,), intp
        Rows of the support vectors in the training data, sorted by class.
    support_vectors_ : ndarray of shape (s, d), float32 or float64
        Standardised support vectors.
    dual_coef_, intercept_, n_support_ : ndarray
        As in `sklearn.svm.SVC`.
    n_iter_ : int
        The solver's iterations, of the slowest pair of classes.
    """

    head_name = "svm"

    def __init__(
        self,
        C: float = 10.0,
        *,
        gamma: str | float = "scale",
        class_weight: Any = None,
        tol: float = 1e-3,
        max_iter: int = -1,
        probability: bool = True,
        max_kernel_bytes: int = MAX_KERNEL_BYTES,
    ) -> None:
        self.C = C
        self.gamma = gamma
        self.class_weight = class_weight
        self.tol = tol
        self.max_iter = max_iter
        self.probability = probability
        self.max_kernel_bytes = max_kernel_bytes

    def fit(self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> SVMHead:
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
        self._check_parameters()
        features, codes = self._start_fit(X, y)
        check_class_weight(self.head_name, self.class_weight, self.classes_)
        labels = self.classes_[codes]
        self.scaler_ = standard_scaler(features)
        scaled: Array = self.scaler_.transform(features)
        self.gamma_ = self._gamma_for(scaled)
        fits_in_memory = 8 * len(scaled) ** 2 <= self.max_kernel_bytes
        matrix = rbf_matrix(scaled, self.gamma_) if fits_in_memory else None

        everything = np.arange(len(scaled))
        machine = self._solve(scaled, labels, matrix, everything)
        self.support_ = machine.support
        self.support_vectors_ = scaled[machine.support]
        self.dual_coef_ = machine.dual_coef
        self.intercept_ = machine.intercept
        self.n_support_ = machine.n_support
        self.n_iter_ = machine.n_iter

        if self.probability:

            def fold_margins(train: Codes, held: Codes, last: bool) -> Array:
                # nobody needs the whole matrix after the last fold
                fold = self._solve(scaled, labels, matrix, train, overwrite=last)
                return self._margins_between(scaled[held], scaled[fold.support], fold)

            self._calibrate(codes, groups, fold_margins)
        return self

    def _check_parameters(self) -> None:
        """Raise `HeadParameterError` for a parameter of the wrong kind or out of bounds."""
        check_number(self.head_name, "C", self.C, above=0)
        if isinstance(self.gamma, str):
            if self.gamma != "scale":
                raise wrong_value(self.head_name, "gamma", "'scale' or a number above 0", self.gamma)
        else:
            check_number(self.head_name, "gamma", self.gamma, above=0)
        check_number(self.head_name, "tol", self.tol, above=0)
        check_number(self.head_name, "max_iter", self.max_iter, at_least=-1, integer=True)
        check_flag(self.head_name, "probability", self.probability)
        check_number(self.head_name, "max_kernel_bytes", self.max_kernel_bytes, at_least=0, integer=True)

    def _gamma_for(self, X: Array) -> float:
        """Return the kernel's width for standardised features, as `sklearn.svm.SVC` does for "scale"."""
        if not isinstance(self.gamma, str):
            return float(self.gamma)
        variance = float(X.var(dtype=np.float64))
        return 1.0 / (X.shape[1] * variance) if variance > 0 else 1.0

    def _solve(self, X: Array, labels: Array, matrix: Array | None, rows: Codes, overwrite: bool = False) -> Machine:
        """Fit libsvm on some rows, on their part of the kernel matrix if there is one.

        With `overwrite` the matrix is lost.
        """
        settings = {
            "C": self.C,
            "class_weight": self.class_weight,
            "tol": self.tol,
            "max_iter": self.max_iter,
        }
        if matrix is None:
            solver = SVC(kernel="rbf", gamma=self.gamma_, **settings).fit(X[rows], labels[rows])
        else:
            part = matrix if len(rows) == len(matrix) else square_part(matrix, rows, overwrite)
            solver = SVC(kernel="precomputed", **settings).fit(part, labels[rows])
        return Machine(
            rows[solver.support_],
            np.asarray(solver.dual_coef_),
            np.asarray(solver.intercept_),
            np.asarray(solver.n_support_),
            int(np.max(solver.n_iter_)),
        )

    def _margins_between(self, X: Array, support_vectors: Array, machine: Machine) -> Array:
        """Return the margins of standardised rows, in blocks of bounded size."""
        norms = squared_norms(support_vectors)
        step = max(1, BLOCK_BYTES // max(1, len(support_vectors) * support_vectors.itemsize))
        blocks = []
        for start in range(0, len(X), step):
            rows = X[start : start + step]
            kernel = rbf_block(rows, support_vectors, squared_norms(rows), norms, self.gamma_)
            blocks.append(_margins_of(kernel, machine))
        return np.concatenate(blocks)

    def _margins(self, X: Array) -> Array:
        # the support vectors' dtype decides, so that a row's decision does not depend on its own dtype
        scaled = self.scaler_.transform(X.astype(self.support_vectors_.dtype, copy=False))
        machine = Machine(self.support_, self.dual_coef_, self.intercept_, self.n_support_, self.n_iter_)
        return self._margins_between(scaled, self.support_vectors_, machine)

    def _scores_of(self, margins: Array) -> Array:
        return margins if margins.ndim == 1 else ovr_scores(margins, len(self.classes_))

    def _log_scores(self, margins: Array, sharpness: float) -> Array:
        if margins.ndim == 1:
            return class_log_scores(margins, sharpness)
        return pair_log_scores(margins, len(self.classes_), sharpness)

    def log_score_gradients(self, row: Array) -> tuple[Array, Array]:
        """Return what `predict_proba` of a row is the softmax of, and its gradients with regard to the features.

        Parameters
        ----------
        row : ndarray of shape (d,)
            Features of one image.

        Returns
        -------
        log_scores : ndarray of shape (k,), float64
        gradients : ndarray of shape (d, k), float64
            Those of the smooth log scores: where the votes of the pairs disagree with them, which is rare, the
            probabilities are lifted by a step, which has no gradient.
        """
        scale = self.scaler_.scale_
        scaled = (np.asarray(row, np.float64) - self.scaler_.mean_) / scale
        binary = len(self.classes_) == 2
        of_pairs = self.dual_coef_.T if binary else pair_coefficients(self.dual_coef_, self.n_support_)
        margins, gradients = margins_and_gradients(
            scaled, self.support_vectors_, of_pairs, self.intercept_, self.gamma_
        )
        log_scores = self._log_scores(margins if binary else margins[None], self.sharpness_)[0]
        # the margin of two classes is that of the second, and the first has the score 0
        slopes = (
            np.array([[0.0, self.sharpness_]])
            if binary
            else pair_log_score_slopes(margins, len(self.classes_), self.sharpness_)
        )
        return log_scores, (gradients / scale[:, None]) @ slopes


def _margins_of(kernel: Array, machine: Machine) -> Array:
    """Return the margins, (m,) for two classes or (m, k (k - 1) / 2), of rows of kernel values."""
    # float64 sums: dual coefficients up to C cancel each other
    kernel = kernel.astype(np.float64, copy=False)
    if len(machine.n_support) == 2:
        binary: Array = kernel @ machine.dual_coef[0] + machine.intercept[0]
        return binary
    return ovo_margins(kernel, machine.dual_coef, machine.intercept, machine.n_support)
