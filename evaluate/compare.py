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

from ..cache.errors import HeadError, SplitError
from ..cache.names import display
from ..cache.reader import FeatureCache
from ..extract.progress import Progress
from ..heads.registry import make_head
from .groups import groups_for
from .groups_file import Groups
from .metrics import align_probabilities, score
from .parallel import check_jobs, run_jobs
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
    intervals : dict of str to tuple of float
        Lower and upper end of the 95 % confidence interval of some of the scores.
    rounds : list of dict
        The scores of every fold of every repeat, when there are folds.
    """

    name: str
    head: Any
    predicted: npt.NDArray[np.intp]
    probabilities: npt.NDArray[np.float64] | None
    scores: dict[str, Any]
    fit_seconds: float
    predict_seconds: float
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    rounds: list[dict[str, Any]] = field(default_factory=list)

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
    random : Comparison or None
        The same heads on a split that does not look at groups, when both were asked for.
    groups : Groups or None
        Which images belong together, when that is known.
    differences : list of dict
        Of every two heads: see :func:`embedonce.evaluate.paired.compare_pair`.
    splits : list of Split
        All folds of all repeats; empty when there is one split.
    """

    cache: FeatureCache
    split: Split
    results: list[HeadResult]
    notes: list[str] = field(default_factory=list)
    random: Comparison | None = None
    groups: Groups | None = None
    differences: list[dict[str, Any]] = field(default_factory=list)
    splits: list[Split] = field(default_factory=list)

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

    @property
    def leak_gap(self) -> list[dict[str, Any]]:
        """One dict per head, as in ``table``: accuracy on the random split, on the grouped one, and the difference.

        The difference is what copies of training images among the test images made the random split promise. Empty
        when there is only one split.
        """
        if self.random is None:
            return []
        gaps = []
        for row in self.table:
            promised = self.random.result(row["head"]).scores["accuracy"]
            gaps.append(
                {
                    "head": row["head"],
                    "random": promised,
                    "grouped": row["accuracy"],
                    "gap": promised - row["accuracy"],
                }
            )
        return gaps

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
    split: str | Path | Split | None = None,
    seed: int = 0,
    on_head: Callable[[str], None] | None = None,
    jobs: int = 1,
    dask: Any = None,
    groups: Groups | Path | str | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Train heads on the same rows of a cache and test them on the same others.

    Parameters
    ----------
    cache : FeatureCache or path-like
    heads : sequence of str, or mapping of str to dict or classifier
        Names as :func:`embedonce.make_head` takes them; or names with a dict of parameters or with an
        unfitted scikit-learn classifier each.
    split : str, path-like or Split, optional
        ``grouped`` or ``random`` (80/20, stratified), the path of a split file, or ``FILE:COLUMN``. By default both
        a grouped and a random split, when any image has a copy: their difference is what copies pretend.
    seed : int
        Of the random and the grouped split.
    on_head : callable, optional
        Called with a head's name before it is trained.
    jobs : int
        Heads that are trained and tested at the same time, each in a process of its own that reads the features
        from the cache's file. The results are those of one process, but for the rounding of sums that another
        number of processor threads adds up in another order.
    dask : str, path-like or distributed.Client, optional
        Train and test on a Dask cluster, each head on a thread of its own: the scheduler's address, the path of its
        scheduler file (``.json``), or a client. Every worker needs embedonce, the same versions of the packages that
        decide scores and, under the same path, the cache.
    groups : Groups or path-like, optional
        Which images belong together, such as those of one patient; or the path of a CSV file with the columns
        ``path,group``. By default the near duplicates that are found among the images, and kept in a file beside the
        cache.
    progress : Progress, optional
        Of finding them.

    Returns
    -------
    Comparison
        Of the grouped split when there are two; the other is its ``random``.

    Raises
    ------
    HeadError, HeadParameterError
        Before anything is trained when a head is unknown or has no such parameter; later when one fails, or cannot
        be sent to another process.
    SplitError
        When the split is impossible, or the groups do not fit the cache.
    GroupsError
        When a grouped split is asked for and groups cannot be found.
    CacheError
        When the cache cannot be read, or has changed when another process comes to it.
    ClusterError
        When the cluster cannot be reached, a worker cannot do its part, or a process is killed.
    """
    from sklearn.base import clone

    check_jobs("compare", jobs, dask)
    opened = cache if isinstance(cache, FeatureCache) else FeatureCache.open(cache)
    made = _make_heads(heads)
    known, notes = groups_for(opened, groups, split, progress)
    splits, note = _splits(opened, split, seed, known)
    notes += note
    names = [name for _ in splits for name in made]
    work = {}
    for number, parts in enumerate(splits):
        for name, head in made.items():
            fresh = head if number == 0 else clone(head)
            work[f"head {name!r}" + f" ({parts.method})" * (len(splits) > 1)] = (name, fresh, opened, parts, known)
    announce = None if on_head is None else lambda number: on_head(names[number])
    results = list(run_jobs(fit_and_score, work, jobs, dask, announce))
    if len(work) > 1 and (jobs > 1 or dask is not None):
        notes.append("heads were trained beside each other, which slows each of them: compare times only with jobs=1")
    comparisons = [
        Comparison(opened, parts, results[number * len(made) : (number + 1) * len(made)], notes_on(opened, parts))
        for number, parts in enumerate(splits)
    ]
    comparisons[0].notes[:0] = notes
    comparisons[0].random = comparisons[1] if len(comparisons) > 1 else None
    return comparisons[0]


def _splits(
    cache: FeatureCache, split: str | Path | Split | None, seed: int, groups: Groups | None
) -> tuple[list[Split], list[str]]:
    """Return the splits to score heads on, the honest one first, and what to know of the choice."""
    if isinstance(split, Split):
        return [split], []
    if split is not None:
        return [make_split(cache, split, seed, groups)], []
    random = make_split(cache, "random", seed, groups)
    if groups is None:
        return [random], []
    if len(groups) == len(cache):
        return [random], ["no image has a copy among the others, so there is nothing to leak: the split is random"]
    try:
        return [make_split(cache, "grouped", seed, groups), random], []
    except SplitError as error:
        if groups.source != "found":  # the user's own groups are meant to be kept
            raise
        return [random], [f"copies of one original could not be kept together, so the split is random: {error}"]


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
    notes += split.notes()
    missing = [display(name) for name, count in cache.class_counts.items() if not count]
    if missing:
        notes.append(f"no image of class {', '.join(missing)} could be embedded")
    return notes
