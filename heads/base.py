"""What all heads share: checked inputs, class labels, and predictions made from one score per class.

A head computes its scores once, in `FeatureHead._scores`; the predicted label and the probabilities
both follow from them, so that the most probable class is always the predicted one.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d, validate_data

from ..cache.errors import HeadError
from .rows import is_source

Array = NDArray[Any]

# float32 first would turn integers into float32; this order keeps float32 as it is, without a copy,
# and makes everything else float64, as scikit-learn does
FLOATS = [np.float64, np.float32]


def winners(scores: Array) -> NDArray[np.intp]:
    """Return the index of the predicted class for each row of scores.

    Parameters
    ----------
    scores : ndarray of shape (n,) or (n, k)
        For two classes the signed margin of the second class, otherwise one score per class.

    Returns
    -------
    ndarray of shape (n,), intp
        Class indices; ties go to the lowest index, as in scikit-learn.
    """
    if scores.ndim == 1:
        return (scores > 0).astype(np.intp)
    best: NDArray[np.intp] = np.argmax(scores, axis=1)
    return best


def put_on_top(probabilities: Array, winner: NDArray[np.intp]) -> Array:
    """Make the predicted class the most probable one in every row.

    Scores that differ by less than the rounding of the exponential function give equal probabilities;
    then the highest probability is moved just above the others. Rows that already agree are untouched.

    Parameters
    ----------
    probabilities : ndarray of shape (n, k), float64
        Rows that sum to 1; changed in place.
    winner : ndarray of shape (n,), intp
        The predicted class of each row.

    Returns
    -------
    ndarray of shape (n, k), float64
        `probabilities`, whose rows sum to 1 within rounding.
    """
    wrong = np.flatnonzero(np.argmax(probabilities, axis=1) != winner)
    if wrong.size:
        top = probabilities[wrong].max(axis=1)
        probabilities[wrong, winner[wrong]] = np.nextafter(top, 2.0)
        probabilities[wrong] /= probabilities[wrong].sum(axis=1, keepdims=True)
        # the division may round the two highest to the same number again
        top = probabilities[wrong].max(axis=1)
        probabilities[wrong, winner[wrong]] = np.nextafter(top, 2.0)
    return probabilities


def probabilities(log_scores: Array, winner: NDArray[np.intp]) -> Array:
    """Normalise log scores to probabilities whose largest entry is the predicted class.

    Parameters
    ----------
    log_scores : ndarray of shape (n, k)
        Logarithms of class probabilities, each row up to a constant.
    winner : ndarray of shape (n,), intp
        The predicted class of each row.

    Returns
    -------
    ndarray of shape (n, k), float64
        exp(s_j) / sum_i exp(s_i): rows that sum to 1.
    """
    from scipy.special import softmax

    # float64 even for float32 scores: float32 would round unlikely classes to exactly 0
    return put_on_top(np.asarray(softmax(log_scores.astype(np.float64), axis=1)), winner)


def class_log_scores(margins: Array, sharpness: float = 1.0) -> Array:
    """Return ``sharpness * margins`` with one column per class.

    Parameters
    ----------
    margins : ndarray of shape (n,) or (n, k)
        The margin of the second of two classes, or one margin per class.
    sharpness : float
        A factor above 0.

    Returns
    -------
    ndarray of shape (n, k), float64
        For `probabilities`: with two classes that gives 1 / (1 + exp(-sharpness * margin)).
    """
    scaled = np.asarray(margins, dtype=np.float64) * sharpness
    return np.column_stack([np.zeros(len(scaled)), scaled]) if scaled.ndim == 1 else scaled


class Affine(NamedTuple):
    """Log scores ``X @ kernel + bias``, each row up to a constant: their softmax is ``predict_proba(X)``.

    Attributes
    ----------
    kernel : ndarray of shape (d, k), float64
    bias : ndarray of shape (k,), float64
    """

    kernel: Array
    bias: Array

    @classmethod
    def of_margins(cls, coef: Array, intercept: Array) -> Affine:
        """Make it of one row of coefficients for each class, (k, d) and (k,), or of one alone for two classes.

        Then the first class has score 0: see `class_log_scores`.
        """
        if len(coef) == 1:
            coef, intercept = np.vstack([np.zeros_like(coef), coef]), np.append(0.0, intercept)
        return cls(np.ascontiguousarray(coef.T, np.float64), np.asarray(intercept, np.float64))


class FeatureHead(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Base of the heads: a scikit-learn classifier on feature rows.

    A subclass sets `head_name`, implements `fit` (beginning with `_start_fit`) and `_scores`.

    Attributes
    ----------
    classes_ : ndarray of shape (k,)
        The class labels, sorted, in the dtype of the labels that `fit` was given.
    n_features_in_ : int
        Width of the feature rows.
    """

    head_name: ClassVar[str]
    reads_rows: ClassVar[bool] = False
    """Whether `fit` takes features that are read from disk, a `RowSource`."""
    classes_: Array
    n_features_in_: int

    def _start_fit(self, X: Any, y: ArrayLike) -> tuple[Any, NDArray[np.intp]]:
        """Check the training data and set `classes_` and `n_features_in_`.

        Parameters
        ----------
        X : array-like or RowSource of shape (n, d)
            Finite feature rows. float32 is used as it is, anything else becomes float64.
        y : array-like of shape (n,)
            Class labels: strings or integers.

        Returns
        -------
        X : ndarray or RowSource of shape (n, d), float32 or float64
            The checked features; a source, whose rows are not read here, as it is.
        codes : ndarray of shape (n,), intp
            Each row's index into `classes_`.

        Raises
        ------
        ValueError
            If X or y are of unequal length, empty, not finite or not labels of classes.
        HeadError
            If there are fewer than two classes, or the head cannot train on a RowSource.
        """
        if is_source(X):
            if not self.reads_rows:
                raise HeadError(f"head {self.head_name!r} needs its features in memory, got a {type(X).__name__}")
            features, labels = X, column_or_1d(y)
            check_consistent_length(np.empty(X.shape[0]), labels)
            self.n_features_in_ = int(X.shape[1])
        else:
            features, labels = validate_data(self, X, y, dtype=FLOATS)
        check_classification_targets(labels)
        classes, codes = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise HeadError(
                f"head {self.head_name!r} needs rows of at least two classes, got one class: {classes[0]!r}"
            )
        self.classes_ = classes
        return features, codes

    def _start_predict(self, X: ArrayLike) -> Array:
        """Check that the head is fitted and that X has its width; return X as float32 or float64.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the head is not fitted.
        ValueError
            If X is not a finite array of shape (m, `n_features_in_`).
        """
        check_is_fitted(self)
        checked: Array = validate_data(self, X, reset=False, dtype=FLOATS)
        return checked

    def _scores(self, X: Array) -> Array:
        """Return scores, shape (n,) for two classes or (n, k), of checked features."""
        raise NotImplementedError

    def predict(self, X: ArrayLike) -> Array:
        """Predict the class label of each row.

        Parameters
        ----------
        X : array-like of shape (m, d)
            Feature rows.

        Returns
        -------
        ndarray of shape (m,)
            Members of `classes_`.
        """
        checked = self._start_predict(X)
        return self.classes_[winners(self._scores(checked))]


class MarginHead(FeatureHead):
    """Base of the heads that have a decision function."""

    def decision_function(self, X: ArrayLike) -> Array:
        """Return the signed margins of the second of two classes, or one score per class.

        Parameters
        ----------
        X : array-like of shape (m, d)
            Feature rows.

        Returns
        -------
        ndarray of shape (m,) for two classes, otherwise (m, k)
            `predict` is the class of the highest score, or the second class where the margin is above 0.
        """
        return self._scores(self._start_predict(X))
