"""Dummy head: what a comparison must beat."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import Tags

from .base import FeatureHead
from .numerics import Array


class DummyHead(FeatureHead):
    """Predict the most frequent class, whatever the features.

    Attributes
    ----------
    class_prior_ : ndarray of shape (k,), float64
        Each class's share of the training rows.
    """

    head_name = "dummy"

    def fit(self, X: ArrayLike, y: ArrayLike) -> DummyHead:
        """Count labels y of shape (n,); X of shape (n, d) is only checked. Return the head.

        Raises
        ------
        HeadError
            If there are fewer than two classes.
        ValueError
            If X or y do not hold finite features and as many labels.
        """
        X, codes = self._start_fit(X, y)
        self.class_prior_ = np.bincount(codes) / len(codes)
        return self

    def __sklearn_tags__(self) -> Tags:
        tags: Tags = super().__sklearn_tags__()
        # scikit-learn's checks otherwise expect a classifier to learn something
        tags.classifier_tags.poor_score = True
        return tags

    def _scores(self, X: Array) -> Array:
        return np.tile(self.class_prior_, (len(X), 1))

    def predict_proba(self, X: ArrayLike) -> Array:
        """Return the classes' shares of the training rows, (m, k), float64; `predict` is the largest."""
        return self._scores(self._start_predict(X))
