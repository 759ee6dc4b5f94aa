"""Contributions of the pooled features of one image to the scores of all classes.

Scores are log probabilities minus their mean over the classes, so a constant for each row does not change them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..errors import HeadError
from .numerics import Array

LINEAR = ("softmax", "logreg", "linear-svm")
EXPLAINABLE = (*LINEAR, "svm")


class Evidence(NamedTuple):
    """Scores (k,) of the classes for one row of features, and their gradients `weights` (d, k), float64.

    A linear head has a `bias` (k,): the scores are ``features @ weights + bias``. Others have None, and their weights
    hold near these features only.
    """

    scores: Array
    weights: Array
    bias: Array | None


def require_explainable(head: Any) -> None:
    """Raise `HeadError` unless a head is softmax, logreg, linear-svm or svm with probabilities."""
    name = getattr(type(head), "head_name", type(head).__name__)
    if name not in EXPLAINABLE:
        raise HeadError(
            f"parameter model of explain must hold a head {', '.join(EXPLAINABLE[:-1])} or {EXPLAINABLE[-1]}, whose "
            f"scores can be traced back to places of the image, got {name!r}. Train one of these on the same cache"
        )
    if not hasattr(head, "predict_proba"):
        raise HeadError(
            f"parameter model of explain must hold a head with probabilities, got head {name!r} that was trained with "
            "probability=False. Train it again with probability=True"
        )


def class_evidence(head: Any, features: Array) -> Evidence:
    """Return the `Evidence` of a fitted head, if `require_explainable` takes it, for one row of features (d,)."""
    require_explainable(head)
    row = np.asarray(features, np.float64)
    if head.head_name in LINEAR:
        kernel, bias = head.affine_log_scores()
        weights, offsets = _less_mean(kernel), _less_mean(bias)
        return Evidence(row @ weights + offsets, weights, offsets)
    scores, gradients = head.log_score_gradients(row)
    return Evidence(_less_mean(scores), _less_mean(gradients), None)


def _less_mean(values: Array) -> Array:
    contrasts: Array = values - values.mean(axis=-1, keepdims=True)
    return contrasts
