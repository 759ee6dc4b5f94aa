"""What all heads share: checked inputs, class labels, and predictions made from one score per class.

A head computes its scores once, in `FeatureHead._scores`; the predicted label and the probabilities
both follow from them, so that the most probable class is always the predicted one.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d, validate_data

from ..errors import HeadError
from .numerics import Array, is_source, predicted_indices

# float32 first would turn integers into float32; this order keeps float32 as it is, without a copy,
# and makes everything else float64, as scikit-learn does
FLOATS = [np.float64, np.float32]


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

    def check_parameters(self) -> None:
        """Check the values of the parameters, as far as they can be without training data; `fit` begins with it.

        Raises
        ------
        HeadParameterError
            If a parameter has a value that it does not take.
        """

    def _start_fit(self, X: Any, y: ArrayLike) -> tuple[Any, NDArray[np.intp]]:
        """Check the parameters and the training data, and set `classes_` and `n_features_in_`.

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
        HeadParameterError
            If a parameter has a value that it does not take.
        ValueError
            If X or y are of unequal length, empty, not finite or not labels of classes.
        HeadError
            If there are fewer than two classes, or the head cannot train on a RowSource.
        """
        self.check_parameters()
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
        return self.classes_[predicted_indices(self._scores(checked))]


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
