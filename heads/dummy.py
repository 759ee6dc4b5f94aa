"""Dummy head: what a comparison must beat."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import Tags

from .base import FeatureHead
from .predictors import DummyPredictor


class DummyHead(FeatureHead, DummyPredictor):
    """Predict the most frequent class and ignore the features.

    Attributes
    ----------
    class_prior_ : ndarray of shape (k,), float64
        Each class's fraction of the training rows.

    See Also
    --------
    embedonce.make_head : Make any head by name.

    Examples
    --------
    >>> from embedonce import make_head
    >>> head = make_head("dummy").fit([[0.0], [1.0], [2.0]], ["cat", "dog", "dog"])
    >>> head.predict([[0.0]])
    array(['dog'], dtype='<U3')
    """

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> DummyHead:
        """Count labels y of shape (n,), with weights (n,); X of shape (n, d) is only checked. Return the head."""
        X, codes = self._start_fit(X, y)
        counts = np.bincount(codes, self._row_weights(sample_weight, len(codes)))
        self.class_prior_ = counts / counts.sum()
        return self

    def __sklearn_tags__(self) -> Tags:
        tags: Tags = super().__sklearn_tags__()
        # scikit-learn's checks otherwise expect a classifier to learn something
        tags.classifier_tags.poor_score = True
        return tags
