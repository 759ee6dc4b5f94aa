"""Fitting one head on one split of a cache, and scoring it."""

from __future__ import annotations

import inspect
import time
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..cache.errors import ApproximationWarning
from ..cache.format import FEATURES
from ..cache.names import display
from ..cache.reader import FeatureCache, StoredRows
from ..cache.table import Features, row_blocks
from .comparison import HeadResult
from .groups_file import Groups
from .metrics import align_probabilities, score
from .split import Split


def fit_and_score(name: str, head: Any, cache: FeatureCache, split: Split, groups: Groups | None = None) -> HeadResult:
    """Fit a head on the training rows and score it on the test rows.

    Labels are class names, so that what the head predicts can be read.
    """
    return score_head(name, head, cache, split.test, fit_head(head, cache, split, groups))


IN_MEMORY_BYTES = 2**29
"""Of a cache whose features are read whole; those of a larger one stay on disk, for heads that can use them there."""
_PREDICTED_ROWS = 8192


def features_of(cache: FeatureCache, rows: npt.NDArray[np.intp]) -> Features | StoredRows:
    """Return the features of some rows: an array, or from a large cache a source that reads them when wanted."""
    n, d = cache.shape
    return cache.features[rows] if 4 * n * d <= IN_MEMORY_BYTES else StoredRows(cache, FEATURES, rows)


def score_head(
    name: str, head: Any, cache: FeatureCache, rows: npt.NDArray[np.intp], fit_seconds: float = 0.0
) -> HeadResult:
    """Score a fitted head on some rows of a cache."""
    # a saved head may know classes that this cache does not have, and may predict them
    class_names = cache.class_names + sorted({str(name) for name in head.classes_} - set(cache.class_names))
    source = features_of(cache, rows)
    parts, shares, predict_seconds = [np.zeros(0, np.str_)], [], 0.0
    for test in row_blocks(source, _PREDICTED_ROWS if isinstance(source, StoredRows) else max(1, len(rows))):
        begin = time.perf_counter()
        parts.append(head.predict(test))
        predict_seconds += time.perf_counter() - begin
        if hasattr(head, "predict_proba"):
            shares.append(align_probabilities(head.predict_proba(test), head.classes_, class_names))
    predicted_names, probabilities = np.concatenate(parts), np.concatenate(shares) if shares else None

    index = {class_name: number for number, class_name in enumerate(class_names)}
    predicted = np.array([index[str(class_name)] for class_name in predicted_names], np.intp)
    scores = score(cache.labels[rows].astype(np.intp), predicted, probabilities, class_names)
    return HeadResult(name, head, predicted, probabilities, scores, fit_seconds, predict_seconds)


def fit_head(head: Any, cache: FeatureCache, split: Split, groups: Groups | None = None) -> float:
    """Fit a head on the training rows and return the seconds of the fit alone.

    A head that takes validation data gets the test rows for them; one that takes groups gets those of the training
    rows, so that its own cross-validation parts none. Of a large cache, heads that can read rows from disk do.
    """
    names = cache.label_names
    stored = getattr(head, "reads_rows", False)
    extra: dict[str, Any] = {}
    takes = inspect.signature(head.fit).parameters
    if groups is not None and "groups" in takes:
        extra["groups"] = groups.ids[split.train]
    if "validation_data" in takes:
        # a class without training images cannot be validated on
        held = split.test[np.isin(names[split.test], names[split.train])]
        if len(held):
            extra["validation_data"] = (features_of(cache, held), names[held])
    rows, labels = features_of(cache, split.train), names[split.train]
    if isinstance(rows, StoredRows) and not stored:
        rows = cache.take(split.train)
    begin = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ApproximationWarning)  # approximations are among the notes of the result
        head.fit(rows, labels, **extra)
    return time.perf_counter() - begin


def approximations(heads: Mapping[str, Any]) -> list[str]:
    """Return notes on the heads that were fitted to an approximation."""
    fitted = {name: getattr(head, "head_", head) for name, head in heads.items()}  # a calibrated head wraps another
    return [
        f"{display(name)} was trained on more than {head.approximate_above:,} images and is an approximation by "
        f"{len(head.support_):,} of them"
        for name, head in fitted.items()
        if getattr(head, "approximate_", False)
    ]
