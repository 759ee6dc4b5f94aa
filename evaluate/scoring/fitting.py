"""Fitting one head on one split of a cache, and scoring it."""

from __future__ import annotations

import inspect
import time
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache, Features, StoredRows, display, row_blocks
from ...errors import ApproximationWarning, HeadError
from ...heads import loss_trend
from ...heads.numerics import one_thread_if_small
from ..metrics import align_probabilities, score, score_intervals
from ..splits import Groups, Split
from .results import HeadResult
from .views import StackedRows, Views


def fit_and_score(
    name: str, head: Any, cache: FeatureCache, split: Split, groups: Groups | None = None, views: Views | None = None
) -> HeadResult:
    """Fit a head on the training rows and score it on the test rows; its labels are class names."""
    seconds = fit_head(head, cache, split, groups, views)
    return score_head(name, head, cache, split.test, seconds, views)


IN_MEMORY_BYTES = 2**29
"""Size up to which the features of a cache are read whole; heads that can read larger ones from disk do so."""
_PREDICTED_ROWS = 8192


def features_of(cache: FeatureCache, rows: npt.NDArray[np.intp]) -> Features | StoredRows:
    """Return the features of rows: an array, or for a large cache a source that reads them from disk."""
    n, d = cache.shape
    return cache.features[rows] if 4 * n * d <= IN_MEMORY_BYTES else StoredRows(cache, rows)


def _sources(cache: FeatureCache, rows: npt.NDArray[np.intp], views: Views | None) -> list[Features | StoredRows]:
    of_views = () if views is None else zip(views.caches, views.rows, strict=True)
    return [features_of(cache, rows), *(features_of(view, view_rows[rows]) for view, view_rows in of_views)]


def score_head(
    name: str,
    head: Any,
    cache: FeatureCache,
    rows: npt.NDArray[np.intp],
    fit_seconds: float = 0.0,
    views: Views | None = None,
) -> HeadResult:
    """Score a fitted head on rows of a cache; with ``views.average``, on the mean probabilities over their views."""
    # a saved head may predict classes that this cache does not have
    class_names = cache.class_names + sorted({str(name) for name in head.classes_} - set(cache.class_names))
    index = {class_name: number for number, class_name in enumerate(class_names)}
    if views is not None and views.average and not hasattr(head, "predict_proba"):
        raise HeadError(f"head {name!r} has no probabilities to average over views. Leave it out, or use views='train'")
    sources = _sources(cache, rows, views if views is not None and views.average else None)
    predictions, means, seconds = [np.zeros(0, np.intp)], [], 0.0
    large = isinstance(sources[0], StoredRows)
    with one_thread_if_small(len(rows) * cache.shape[1]):
        for blocks in zip(
            *(row_blocks(one, _PREDICTED_ROWS if large else max(1, len(rows))) for one in sources), strict=True
        ):
            begin = time.perf_counter()
            names = head.predict(blocks[0])
            seconds += time.perf_counter() - begin
            predictions.append(np.array([index[str(class_name)] for class_name in names], np.intp))
            if hasattr(head, "predict_proba"):
                parts = [align_probabilities(head.predict_proba(block), head.classes_, class_names) for block in blocks]
                means.append(np.mean(parts, axis=0) if len(parts) > 1 else parts[0])
    probabilities = np.concatenate(means) if means else None
    predicted = np.concatenate(predictions)
    if len(sources) > 1 and probabilities is not None:
        predicted = probabilities.argmax(axis=1)
    scores = score(cache.labels[rows].astype(np.intp), predicted, probabilities, class_names)
    return HeadResult(name, head, predicted, probabilities, scores, fit_seconds, seconds)


def with_intervals(
    result: HeadResult, cache: FeatureCache, rows: npt.NDArray[np.intp], groups: Groups | None, seed: int = 0
) -> HeadResult:
    """Return a result on rows of a cache with the confidence intervals of its scores, by groups of the rows."""
    true, ids = cache.labels[rows].astype(np.intp), None if groups is None else groups.ids[rows]
    names = [row["class"] for row in result.scores["per_class"]]
    intervals = score_intervals(true, result.predicted, result.probabilities, names, ids, seed=seed)
    return replace(result, intervals=intervals)


def part_of(
    result: HeadResult, cache: FeatureCache, rows: npt.NDArray[np.intp], mask: npt.NDArray[np.bool_]
) -> HeadResult:
    """Return the result on some of its rows, without intervals."""
    predicted = result.predicted[mask]
    probabilities = None if result.probabilities is None else result.probabilities[mask]
    names = [row["class"] for row in result.scores["per_class"]]
    scores = score(cache.labels[rows[mask]].astype(np.intp), predicted, probabilities, names)
    return replace(result, predicted=predicted, probabilities=probabilities, scores=scores, intervals={})


def fit_head(
    head: Any, cache: FeatureCache, split: Split, groups: Groups | None = None, views: Views | None = None
) -> float:
    """Fit a head on the training rows and their views, and return the seconds of the fit."""
    # a head that takes groups gets them, so that its cross-validation keeps groups, and views of one image, together
    names = cache.label_names
    sources = _sources(cache, split.train, views if views is not None and views.train else None)
    extra: dict[str, Any] = {}
    takes = inspect.signature(head.fit).parameters
    if "groups" in takes and (groups is not None or len(sources) > 1):
        ids = np.arange(len(split.train)) if groups is None else groups.ids[split.train]
        extra["groups"] = np.tile(ids, len(sources))
    if "validation_data" in takes:
        # a class without training images cannot be validated on
        validation = split.validation if len(split.validation) else split.test
        validation = validation[np.isin(names[validation], names[split.train])]
        if len(validation):
            extra["validation_data"] = (features_of(cache, validation), names[validation])
    rows: Any = StackedRows(sources) if len(sources) > 1 else sources[0]
    if not isinstance(rows, np.ndarray) and not (
        isinstance(sources[0], StoredRows) and getattr(head, "reads_rows", False)
    ):
        rows = rows.read_rows(0, rows.shape[0])
    labels = np.tile(names[split.train], len(sources))
    from sklearn.exceptions import ConvergenceWarning

    begin = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught, one_thread_if_small(len(labels) * cache.shape[1]):
        warnings.simplefilter("ignore", ApproximationWarning)  # a note of the result says so
        warnings.simplefilter("always", ConvergenceWarning)
        head.fit(rows, labels, **extra)
    seconds = time.perf_counter() - begin
    for warning in caught:
        if not issubclass(warning.category, ConvergenceWarning):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        elif not hasattr(getattr(head, "head_", head), "converged_"):
            head.converged_ = False  # heads of embedonce say so themselves
    return seconds


def has_converged(head: Any) -> bool:
    """Return whether a fitted head, or the one that it calibrates, says nothing else."""
    return all(getattr(one, "converged_", True) for one in (head, getattr(head, "head_", head)))


def notes_on_fits(heads: Mapping[str, Any]) -> list[str]:
    """Return notes on fitted heads whose result is not what their name or a parameter says."""
    notes = []
    for name, head in heads.items():
        inner = getattr(head, "head_", head)  # of a calibrated head
        if not has_converged(head):
            notes.append(_note_on_convergence(name, inner))
        if getattr(inner, "approximate_", False):
            notes.append(
                f"{display(name)} was trained on more than {inner.approximate_above:,} images and is an approximation "
                f"by {len(inner.support_):,} of them"
            )
        if not getattr(inner, "at_bound_", True) and inner.class_weight is not None:
            notes.append(
                f"class weights change nothing in {display(name)}, because it separates the training images without "
                "errors. Lower its C, for example to 0.1 or 0.01"
            )
        classes = [display(str(label)) for label in getattr(head, "uncalibrated_classes_", ())]
        if classes:
            of = "any class" if len(classes) == len(head.classes_) else f"class {', '.join(classes)}"
            notes.append(
                f"the probabilities of {display(name)} are not calibrated for {of}, because there are too few training "
                "images or groups to hold some out"
            )
    return notes


def _note_on_convergence(name: str, head: Any) -> str:
    """Return the note on a head that stopped before its optimum, with the trend of its loss."""
    epochs = getattr(head, "epochs", None)
    unit = "iteration" if epochs is None else "epoch"
    more = "Raise max_iter or tol" if epochs is None else "Give more epochs"
    if epochs is not None and epochs != "auto":
        more = 'Give epochs="auto" or more epochs'
    count = int(np.max(getattr(head, "n_iter_", 0)))
    after = f"after {count:,} {unit}{'s' * (count > 1)} " if count else ""
    history = getattr(head, "history_", {})
    text = "before it converged"
    if isinstance(history, Mapping) and len(history.get("loss", ())) > 1:
        before, last, size = loss_trend(history["loss"])
        while_ = f"{unit}" if size == 1 else f"{size:,} {unit}s"
        text = f"while its loss was still falling ({before:.4g} to {last:.4g} in the last {while_})"
    return f"{display(name)} stopped {after}{text}. {more}"
