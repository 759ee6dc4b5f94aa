"""Fitting one head on one split of a cache, and scoring it."""

from __future__ import annotations

import inspect
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from ..cache.reader import FeatureCache
from .comparison import HeadResult
from .groups_file import Groups
from .metrics import align_probabilities, score
from .split import Split


def fit_and_score(name: str, head: Any, cache: FeatureCache, split: Split, groups: Groups | None = None) -> HeadResult:
    """Fit a head on the training rows and score it on the test rows.

    Labels are class names, so that what the head predicts can be read.
    """
    return score_head(name, head, cache, split.test, fit_head(head, cache, split, groups))


def score_head(
    name: str, head: Any, cache: FeatureCache, rows: npt.NDArray[np.intp], fit_seconds: float = 0.0
) -> HeadResult:
    """Score a fitted head on some rows of a cache."""
    # a saved head may know classes that this cache does not have, and may predict them
    class_names = cache.class_names + sorted({str(name) for name in head.classes_} - set(cache.class_names))
    test = cache.features[rows]
    begin = time.perf_counter()
    predicted_names = head.predict(test)
    predict_seconds = time.perf_counter() - begin
    probabilities = None
    if hasattr(head, "predict_proba"):
        probabilities = align_probabilities(head.predict_proba(test), head.classes_, class_names)

    index = {class_name: number for number, class_name in enumerate(class_names)}
    predicted = np.array([index[str(class_name)] for class_name in predicted_names], np.intp)
    scores = score(cache.labels[rows].astype(np.intp), predicted, probabilities, class_names)
    return HeadResult(name, head, predicted, probabilities, scores, fit_seconds, predict_seconds)


def fit_head(head: Any, cache: FeatureCache, split: Split, groups: Groups | None = None) -> float:
    """Fit a head on the training rows and return the seconds of the fit alone.

    A head that takes validation data gets the test rows for them; one that takes groups gets those of the training
    rows, so that its own cross-validation parts none.
    """
    features, names = cache.features, cache.label_names
    extra: dict[str, Any] = {}
    takes = inspect.signature(head.fit).parameters
    if groups is not None and "groups" in takes:
        extra["groups"] = groups.ids[split.train]
    if "validation_data" in takes:
        # a class without training images cannot be validated on
        held = split.test[np.isin(names[split.test], names[split.train])]
        if len(held):
            extra["validation_data"] = (features[held], names[held])
    rows, labels = features[split.train], names[split.train]
    begin = time.perf_counter()
    head.fit(rows, labels, **extra)
    return time.perf_counter() - begin
