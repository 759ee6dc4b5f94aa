"""Dummy head: what a comparison must beat."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import Tags

from .base import FeatureHead
from .predictors import DummyPredictor


class DummyHead(FeatureHead, DummyPredictor):
    """Predict the most frequent class, by fractions `class_prior_` (k,) of the training rows; ignore the features."""

    def fit(self, X: ArrayLike, y: ArrayLike) -> DummyHead:
        """Count labels y of shape (n,); X of shape (n, d) is only checked. Return the head."""
        X, codes = self._start_fit(X, y)
        self.class_prior_ = np.bincount(codes) / len(codes)
        return self

    def __sklearn_tags__(self) -> Tags:
        tags: Tags = super().__sklearn_tags__()
        # scikit-learn's checks otherwise expect a classifier to learn something
        tags.classifier_tags.poor_score = True
        return tags
