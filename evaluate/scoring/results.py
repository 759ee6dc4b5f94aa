"""What a comparison of heads found: one result per head, and what can be read from them together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache, display
from ...errors import HeadError
from ..metrics import METRICS, are_skewed, leading_metric, shown_metrics
from ..splits import Groups, Split


@dataclass
class HeadResult:
    """One head on one split.

    Attributes
    ----------
    name : str
    head : sklearn classifier
        Fitted on the training rows.
        With folds, of the first one.
    predicted : ndarray of intp, shape (t,)
        Index of the predicted class of every test row. With folds, by the head that was not trained on it, in the
        first repeat.
    probabilities : ndarray of float64, shape (t, k), or None
        None for a head without ``predict_proba``.
    scores : dict
        See :func:`embedonce.evaluate.metrics.metrics.score`. With repeats, the mean over them; the scores per class
        and the confusion matrix are of the first.
    fit_seconds, predict_seconds : float
        Wall-clock time of fitting on all training rows and of predicting the class of all test rows. With folds, the
        mean over them.
    intervals : dict of str to tuple of float
        Lower and upper end of the 95 % confidence interval of some of the scores:
        :func:`embedonce.evaluate.metrics.intervals.score_intervals`.
    rounds : list of dict
        The scores of every fold of every repeat, when there are folds.
    tuning : list of dict
        What ``tune`` found, an entry for every fold, or one for a single split: ``repeat`` and ``fold``;
        ``parameters``, those that were searched; ``metric``, which was searched for; ``score`` and ``default_score``,
        its mean of these and of the parameters without tuning in the inner folds, which are no results; ``trials``,
        how many candidates were begun; ``complete``, whether the time sufficed.
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
    tuning: list[dict[str, Any]] = field(default_factory=list)

    @property
    def history(self) -> dict[str, list[float]] | None:
        """Accuracy and loss per epoch, of heads that are trained in epochs."""
        return getattr(self.head, "history_", None)

    def __repr__(self) -> str:
        accuracy = f"accuracy {self.scores['accuracy']:.4f}"
        return f"<HeadResult {display(self.name)}: {accuracy} on {len(self.predicted):,} test images>"


@dataclass
class ComparisonData:
    """Heads that were trained and tested on the same rows.

    Attributes
    ----------
    cache : FeatureCache
    split : Split
        With folds, its test part holds the rows of all of them; ``splits`` has the folds themselves.
    results : list of HeadResult
        In the order in which the heads were given.
    notes : list of str
        What a reader of the scores should know.
    random : ComparisonData or None
        The same heads on a split that does not look at groups, when both were asked for.
    groups : Groups or None
        Which images belong together, when that is known.
    differences : list of dict
        Of every two heads: see :func:`embedonce.evaluate.metrics.paired_tests.compare_pair`.
    budget : list of dict
        Accuracy against the number of training images:
        :func:`embedonce.evaluate.comparison.learning_curve.budget_curve`. Empty unless it was asked for.
    splits : list of Split
        All folds of all repeats; empty when there is one split.
    """

    cache: FeatureCache
    split: Split
    results: list[HeadResult]
    notes: list[str] = field(default_factory=list)
    random: ComparisonData | None = None
    groups: Groups | None = None
    differences: list[dict[str, Any]] = field(default_factory=list)
    splits: list[Split] = field(default_factory=list)
    budget: list[dict[str, Any]] = field(default_factory=list)

    @property
    def skewed(self) -> bool:
        """Whether the classes of the test part differ so much in size that balanced accuracy says more."""
        return are_skewed(self.cache.labels[self.split.test])

    @property
    def ranked_by(self) -> str:
        """The score by which heads are ordered: ``accuracy``, or ``balanced_accuracy`` when classes are skewed."""
        return leading_metric(self.skewed)

    @property
    def table(self) -> list[dict[str, Any]]:
        """One dict per head, the best first: by accuracy, or by balanced accuracy when classes are skewed.

        Equally good ones by log loss. ``accuracy_low`` and ``accuracy_high`` are its 95 % confidence interval.
        """
        rows = []
        for result in self.results:
            low, high = result.intervals.get("accuracy", (None, None))
            rows.append(
                {"head": result.name}
                | {name: result.scores[name] for name in METRICS}
                | {"accuracy_low": low, "accuracy_high": high}
                | {"fit_seconds": result.fit_seconds, "predict_seconds": result.predict_seconds}
            )
        first = self.ranked_by
        return sorted(rows, key=lambda row: (-row[first], np.inf if row["log_loss"] is None else row["log_loss"]))

    @property
    def leak_gap(self) -> list[dict[str, Any]]:
        """One dict per head, as in ``table``: accuracy on the random split, on the grouped one, and the difference.

        The difference is what copies of training images among the test images made the random split promise. ``low``
        and ``high`` are its 95 % interval, from those of the two accuracies (Zou and Donner, 2008,
        doi:10.1002/sim.3095), which takes the two test parts for independent. Empty when there is only one split; an
        image model that only one of them can test is left out.
        """
        if self.random is None:
            return []
        gaps = []
        on_both = {result.name for result in self.random.results}
        for row in self.table:
            if row["head"] not in on_both:
                continue
            other = self.random.result(row["head"])
            promised = other.scores["accuracy"]
            gap = {"head": row["head"], "random": promised, "grouped": row["accuracy"]}
            gap["gap"] = promised - row["accuracy"]
            gap["low"] = gap["high"] = None
            if row["accuracy_low"] is not None and "accuracy" in other.intervals:
                low, high = other.intervals["accuracy"]
                gap["low"] = gap["gap"] - float(np.hypot(promised - low, row["accuracy_high"] - row["accuracy"]))
                gap["high"] = gap["gap"] + float(np.hypot(high - promised, row["accuracy"] - row["accuracy_low"]))
            gaps.append(gap)
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

    def __repr__(self) -> str:
        heads = ", ".join(display(row["head"]) for row in self.table)
        where = display(str(self.cache.path))
        tested = f"{len(self.split.test):,} test images of {where}"
        return f"<{type(self).__name__} of {heads} on {tested}; print shows the scores>"

    def __str__(self) -> str:
        width = max(len(display(result.name)) for result in self.results) + 2
        first, *others = shown_metrics(self.ranked_by)
        titles = f"{first.column:>10}{'95 % interval':>20}{''.join(f'{metric.column:>10}' for metric in others)}"
        lines = [f"{'head':<{width}}{titles}{'fit s':>8}"]
        for row in self.table:
            ends = self.result(row["head"]).intervals.get(first.name)
            interval = "" if ends is None else f"{ends[0]:.4f} to {ends[1]:.4f}"
            scores = ["-" if row[metric.name] is None else f"{row[metric.name]:.4f}" for metric in others]
            cells = f"{row[first.name]:>10.4f}{interval:>20}{''.join(f'{score:>10}' for score in scores)}"
            lines.append(f"{display(row['head']):<{width}}{cells}{row['fit_seconds']:>8.1f}")
        return "\n".join([*lines, *(f"Note: {note}." for note in self.notes)])
