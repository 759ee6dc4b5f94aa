"""Any head with its probabilities calibrated on training rows that it was not fitted on."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils.validation import check_is_fitted

from ..errors import HeadError
from .calibration import folds
from .numerics import Array, require_finite
from .parameters import check_choice

METHODS = ("temperature", "sigmoid")
_SMALLEST = 1e-12


class CalibratedHead(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Head whose probabilities are calibrated on folds of the training rows.

    The head is fitted on all training rows. The correction of its probabilities is fitted on those of held-out rows of
    folds. Rows of one group are never on both sides of a fold.

    Parameters
    ----------
    head : classifier
        With ``predict_proba``; it is cloned.
    method : {"temperature", "sigmoid"}, default="temperature"
        "temperature" is one factor on the log probabilities, which changes no prediction (Guo et al., 2017,
        https://proceedings.mlr.press/v70/guo17a.html). "sigmoid" is a logistic curve for each class against the
        others, normalised to a sum of 1 (Platt, 1999; Zadrozny and Elkan, 2002); it may change the most probable
        class, which is then predicted.

    Attributes
    ----------
    classes_ : ndarray of shape (k,)
    head_ : classifier
        Fitted on all training rows.
    temperature_ : float
        With "temperature": above 1 if the head was too confident.
    curves_ : ndarray of float64, shape (k, 2)
        With "sigmoid": slope and intercept on the log odds of each class.
    uncalibrated_classes_ : ndarray
        The classes of which no row was held out. Their slope is 1 and their intercept 0.
    """

    head_name = "calibrated"

    def __init__(self, head: Any, method: str = "temperature") -> None:
        self.head = head
        self.method = method

    def check_parameters(self) -> None:
        """See `FeatureHead`."""
        check_choice(self.head_name, "method", self.method, METHODS)
        if not hasattr(self.head, "predict_proba"):
            raise HeadError(
                f"parameter head of head {self.head_name!r} must have probabilities, got {type(self.head).__name__}. "
                "Use it without calibration"
            )

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        groups: Array | None = None,
        validation_data: tuple[ArrayLike, ArrayLike] | None = None,
    ) -> CalibratedHead:
        """Fit the head on rows X (n, d) with labels y (n,), and its correction on folds of them.

        `HeadError` if the head has no probabilities, or fewer than two classes have rows (or groups) to hold out.
        """
        self.check_parameters()
        rows, labels = np.asarray(X), np.asarray(y)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        logs, true = [], []
        for train, held_out in folds(codes, groups):
            inner = clone(self.head)
            if groups is not None and "groups" in inspect.signature(inner.fit).parameters:
                inner.fit(rows[train], labels[train], groups=groups[train])
            else:
                inner.fit(rows[train], labels[train])
            logs.append(_logarithms(inner, rows[held_out]))
            true.append(codes[held_out])
        if not logs:
            unit = "images" if groups is None else "groups"
            raise HeadError(
                f"calibrating a head needs two classes with at least two {unit} each, so that some can be held out. "
                "Use it without calibration, or add images"
            )
        self.uncalibrated_classes_ = np.delete(self.classes_, np.unique(np.concatenate(true)))
        self._fit_correction(np.concatenate(logs), np.concatenate(true))
        self.head_ = clone(self.head)
        takes = inspect.signature(self.head_.fit).parameters
        extra = {"groups": groups, "validation_data": validation_data}
        self.head_.fit(rows, labels, **{k: v for k, v in extra.items() if k in takes and v is not None})
        return self

    def _fit_correction(self, logs: Array, true: NDArray[np.intp]) -> None:
        from scipy.optimize import minimize_scalar
        from scipy.special import log_softmax
        from sklearn.linear_model import LogisticRegression

        if self.method == "temperature":

            def loss(log_temperature: float) -> float:
                scaled = log_softmax(logs / np.exp(log_temperature), axis=1)
                return -float(scaled[np.arange(len(true)), true].mean())

            self.temperature_ = float(np.exp(minimize_scalar(loss, bounds=(-3, 5), method="bounded").x))
            return
        self.curves_ = np.tile([1.0, 0.0], (len(self.classes_), 1))
        for code in np.unique(true):
            model = LogisticRegression(C=1e6).fit(_log_odds(logs[:, code])[:, None], true == code)
            self.curves_[code] = model.coef_[0, 0], model.intercept_[0]

    def predict_proba(self, X: ArrayLike) -> Array:
        """Return calibrated probabilities, float64, shape (m, k), in the order of ``classes_``."""
        from scipy.special import expit, softmax

        check_is_fitted(self, "head_")
        logs = _logarithms(self.head_, np.asarray(X))
        if self.method == "temperature":
            return require_finite(np.asarray(softmax(logs / self.temperature_, axis=1)))
        odds = expit(_log_odds(logs) * self.curves_[:, 0] + self.curves_[:, 1])
        total = odds.sum(axis=1, keepdims=True)
        fractions = np.where(total > 0, odds / np.where(total > 0, total, 1), 1 / len(self.classes_))
        return require_finite(np.asarray(fractions))

    def predict(self, X: ArrayLike) -> Array:
        """Return the class of each row: the head's own, or with ``sigmoid`` the most probable one."""
        check_is_fitted(self, "head_")
        if self.method == "temperature":
            return np.asarray(self.head_.predict(X))
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])

    @property
    def history_(self) -> dict[str, list[float]] | None:
        """History of the head, if it is trained in epochs."""
        return getattr(self.head_, "history_", None)


def _logarithms(head: Any, rows: Array) -> Array:
    return np.asarray(np.log(np.maximum(np.asarray(head.predict_proba(rows), np.float64), _SMALLEST)))


def _log_odds(logs: Array) -> Array:
    return np.asarray(logs - np.log(np.maximum(-np.expm1(np.minimum(logs, 0)), _SMALLEST)))
