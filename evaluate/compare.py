"""Comparing heads: the same rows, the same split, one table."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..cache.errors import HeadError
from ..cache.names import display
from ..cache.reader import FeatureCache
from ..heads.registry import make_head
from .metrics import align_probabilities, score
from .split import Split, identical_in_training, make_split

DEFAULT_HEADS = ("softmax", "logreg", "svm")


@dataclass
class HeadResult:
    """One head on one split.

    Attributes
    ----------
    name : str
    head : sklearn classifier
        Fitted on the training rows.
    predicted : ndarray of intp, shape (t,)
        Index of the predicted class of every test row.
    probabilities : ndarray of float64, shape (t, k), or None
        None for a head without ``predict_proba``.
    scores : dict
        See :func:`embedonce.evaluate.metrics.score`.
    fit_seconds, predict_seconds : float
        Wall-clock time of fitting on all training rows and of predicting the class of all test rows.
    history : dict or None
        Accuracy and loss per epoch, of heads that are trained in epochs.
    """

    name: str
    head: Any
    predicted: npt.NDArray[np.intp]
    probabilities: npt.NDArray[np.float64] | None
    scores: dict[str, Any]
    fit_seconds: float
    predict_seconds: float

    @property
    def history(self) -> dict[str, list[float]] | None:
        """Accuracy and loss per epoch, of heads that are trained in epochs."""
        return getattr(self.head, "history_", None)


@dataclass
class Comparison:
    """Heads that were trained and tested on the same rows.

    Attributes
    ----------
    cache : FeatureCache
    split : Split
    results : list of HeadResult
        In the order in which the heads were given.
    notes : list of str
        What a reader of the scores should know.
    """

    cache: FeatureCache
    split: Split
    results: list[HeadResult]
    notes: list[str] = field(default_factory=list)

    @property
    def table(self) -> list[dict[str, Any]]:
        """One dict per head, the most accurate first; equally accurate ones by log loss."""
        columns = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss", "roc_auc")
        rows = [
            {"head": result.name}
            | {column: result.scores[column] for column in columns}
            | {"fit_seconds": result.fit_seconds, "predict_seconds": result.predict_seconds}
            for result in self.results
        ]
        return sorted(rows, key=lambda row: (-row["accuracy"], np.inf if row["log_loss"] is None else row["log_loss"]))

    def confusion(self, head: str) -> npt.NDArray[np.int64]:
        """Return the confusion matrix of a head, int64, shape (k, k): rows true, columns predicted.

        Raises
        ------
        HeadError
            When no such head was compared.
        """
        return np.array(self.result(head).scores["confusion"], np.int64)

    def result(self, head: str) -> HeadResult:
        """Return the result of a head by name.

        Raises
        ------
        HeadError
            When no such head was compared.
        """
        for result in self.results:
            if result.name == head:
                return result
        names = ", ".join(result.name for result in self.results)
        raise HeadError(f"parameter head must be one of the compared heads ({names}), got {head!r}")

    def save(self, folder: Path | str) -> list[Path]:
        """Write everything into a folder: see :func:`embedonce.evaluate.results.save_comparison`."""
        from .results import save_comparison

        return save_comparison(self, folder)

    def __str__(self) -> str:
        width = max(len(display(result.name)) for result in self.results) + 2
        lines = [f"{'head':<{width}}{'accuracy':>10}{'macro F1':>10}{'log loss':>10}{'fit s':>8}"]
        for row in self.table:
            loss = "" if row["log_loss"] is None else f"{row['log_loss']:.4f}"
            scores = f"{row['accuracy']:>10.4f}{row['macro_f1']:>10.4f}{loss:>10}{row['fit_seconds']:>8.1f}"
            lines.append(f"{display(row['head']):<{width}}{scores}")
        return "\n".join(lines + self.notes)


def compare(
    cache: FeatureCache | Path | str,
    heads: Sequence[str] | Mapping[str, Any] = DEFAULT_HEADS,
    split: str | Path | Split = "random",
    seed: int = 0,
    on_head: Callable[[str], None] | None = None,
) -> Comparison:
    """Train heads on the same rows of a cache and test them on the same others.

    Parameters
    ----------
    cache : FeatureCache or path-like
    heads : sequence of str, or mapping of str to dict or classifier
        Names as :func:`embedonce.make_head` takes them; or names with a dict of parameters or with an
        unfitted scikit-learn classifier each.
    split : str, path-like or Split
        ``random`` (80/20, stratified) or the path of a split file.
    seed : int
        Of the random split.
    on_head : callable, optional
        Called with a head's name before it is trained.

    Returns
    -------
    Comparison

    Raises
    ------
    HeadError, HeadParameterError
        Before anything is trained when a head is unknown or has no such parameter.
    SplitError
        When the split is impossible.
    CacheError
        When the cache cannot be read.
    """
    opened = cache if isinstance(cache, FeatureCache) else FeatureCache.open(cache)
    made = _make_heads(heads)
    parts = split if isinstance(split, Split) else make_split(opened, split, seed)
    results = []
    for name, head in made.items():
        if on_head is not None:
            on_head(name)
        results.append(fit_and_score(name, head, opened, parts))
    return Comparison(opened, parts, results, notes_on(opened, parts))


def _make_heads(heads: Sequence[str] | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(heads, str):
        heads = [heads]
    if isinstance(heads, Mapping):
        made = {
            name: make_head(name, **value) if isinstance(value, Mapping) else value for name, value in heads.items()
        }
    else:
        made = {name: make_head(name) for name in heads}
        if len(made) < len(heads):
            raise HeadError(f"parameter heads of compare names a head twice: {', '.join(heads)}")
    if not made:
        raise HeadError("parameter heads of compare must name at least one head, got none")
    return made


def fit_and_score(name: str, head: Any, cache: FeatureCache, split: Split) -> HeadResult:
    """Fit a head on the training rows and score it on the test rows.

    Labels are class names, so that what the head predicts can be read.
    """
    return score_head(name, head, cache, split.test, fit_head(head, cache, split))


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


def fit_head(head: Any, cache: FeatureCache, split: Split) -> float:
    """Fit a head on the training rows and return the seconds of the fit alone.

    A head that takes validation data gets the test rows for them.
    """
    features, names = cache.features, cache.label_names
    extra = {}
    if "validation_data" in inspect.signature(head.fit).parameters:
        # a class without training images cannot be validated on
        held = split.test[np.isin(names[split.test], names[split.train])]
        if len(held):
            extra["validation_data"] = (features[held], names[held])
    if hasattr(head, "warm_up"):  # importing TensorFlow is no part of training
        head.warm_up()
    rows, labels = features[split.train], names[split.train]
    begin = time.perf_counter()
    head.fit(rows, labels, **extra)
    return time.perf_counter() - begin


def notes_on(cache: FeatureCache, split: Split) -> list[str]:
    """Return what a reader of scores on this cache and split should know."""
    notes = []
    if cache.random_weights:
        notes.append(
            f"the features come from random weights ({cache.random_weights}), not from a trained network: "
            "the scores show that the tool works, nothing more"
        )
    copies = identical_in_training(split, cache)
    if copies:
        notes.append(
            f"{copies:,} of {len(split.test):,} test images are byte-for-byte copies of training images, "
            "which flatters every score"
        )
    if cache.rejects:
        notes.append(f"{len(cache.rejects)} image(s) could not be embedded and take no part")
    missing = [display(name) for name, count in cache.class_counts.items() if not count]
    if missing:
        notes.append(f"no image of class {', '.join(missing)} could be embedded")
    return notes
