"""Results of heads on a split, and tables of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache, display, printable
from ...errors import EmbedonceError, HeadError, is_number
from ...heads.io import save_head
from ..metrics import (
    METRICS,
    HeadDifference,
    Metric,
    Predicted,
    bias_of_contributions,
    interval_of_difference,
    leading_metric,
    selection_bias,
    shown_metrics,
)
from ..shared import (
    Record,
    Records,
    TextTable,
    format_interval,
    format_number,
    format_points,
    format_seconds,
    html_table,
    percent,
)
from ..splits import Groups, Split
from .earlier_runs import EarlierRuns


def format_value(value: float | None) -> str:
    """Return the value of a metric of any size; None is a dash."""
    return format_number(value) if value is None or abs(value) < 100 else f"{value:,.5g}"


@dataclass(frozen=True)
class FoldScores(Record):
    """Scores of one head on one fold of a cross-validation; ``train`` and ``test`` are numbers of images."""

    repeat: int
    fold: int | None
    train: int
    test: int
    scores: Mapping[str, float | None]
    fit_seconds: float
    predict_seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return the values by name, the scores among them."""
        about = {"repeat": self.repeat, "fold": self.fold, "train": self.train, "test": self.test}
        return about | dict(self.scores) | {"fit_seconds": self.fit_seconds, "predict_seconds": self.predict_seconds}


@dataclass(frozen=True)
class TuningResult(Record):
    """Result of the search for parameters in the training part of one split; inner scores are overstated."""

    parameters: dict[str, Any]
    metric: str
    score: float
    default_score: float | None
    trials: int
    complete: bool
    repeat: int | None = None
    fold: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the values by name; without folds, ``repeat`` and ``fold`` are left out."""
        of_fold = ("repeat", "fold") if self.fold is None else ()
        return {name: value for name, value in super().to_dict().items() if name not in of_fold}


@dataclass(frozen=True)
class LeakageGap(Record):
    """Score of one head on a leaky and on the grouped split; the difference, with its 95 % confidence interval."""

    head: str
    metric: str
    leaky: float
    grouped: float
    gap: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class BestHead(Record):
    """The best of ``heads`` heads: its ``score``, and its ``expected`` score on other images, with 95 % interval.

    The highest of several scores is too high by chance, so ``expected`` is lower unless one head is far better.
    """

    head: str
    metric: str
    heads: int
    score: float
    expected: float
    low: float
    high: float

    @property
    def title(self) -> str:
        """The score in words."""
        return METRICS[self.metric].title


@dataclass(frozen=True)
class LearningPoint(Record):
    """Mean scores over repeats of one head on parts of the training images.

    ``images`` and ``groups`` are the mean numbers in a part; without groups, the latter is None. ``score`` is that of
    ``metric``, the leading one, and ``low`` and ``high`` are the ends of its 95 % confidence interval.
    """

    head: str
    images: float
    groups: float | None
    metric: str
    score: float
    low: float
    high: float
    accuracy: float
    macro_f1: float
    repeats: int


@dataclass(frozen=True)
class LearningSlope(Record):
    """Change of a score per doubling of the training images at the end of a learning curve, with its interval."""

    from_images: float
    to_images: float
    per_doubling: float
    low: float
    high: float


@dataclass(frozen=True)
class LearningOutlook(Record):
    """What more images would show, for the best head and the second best, None for a single head.

    ``unit`` is groups or images. ``tested`` of them are in the test part, ``needed`` are needed there to see a
    difference of 2 points, and ``more`` are missing in the data set. ``text`` says it in sentences.
    """

    head: str
    rival: str | None
    metric: str
    slope: LearningSlope | None
    unit: str
    tested: int
    needed: int
    more: int
    text: str

    def to_dict(self) -> dict[str, Any]:
        """Return the values by name, those of the slope in a dict."""
        return super().to_dict() | {"slope": None if self.slope is None else self.slope.to_dict()}


def training_history(head: Any) -> dict[str, list[float]] | None:
    """Return accuracy and loss per epoch from ``history_`` of a head, also from Keras's; None if it holds others."""
    given = getattr(head, "history_", None)
    given = getattr(given, "history", given)
    if not isinstance(given, Mapping) or not {"accuracy", "loss"} <= set(given):
        return None
    names = ("accuracy", "loss", "val_accuracy", "val_loss", "epoch")
    history = {name: values for name, values in given.items() if name in names}
    for name, values in history.items():
        if not isinstance(values, list | tuple | np.ndarray) or not len(values) == len(given["loss"]) > 0:
            return None
        history[name] = np.asarray(values).tolist()
        if not all(map(is_number, history[name])):
            return None
    if not {"val_accuracy", "val_loss"} <= set(history):
        history.pop("epoch", None)
    return history


@dataclass(frozen=True, eq=False)
class HeadResult:
    """Result of one head in a comparison.

    Attributes
    ----------
    name : str
    head : sklearn classifier
        Fitted on the training rows; with folds, on those of the first fold.
    predicted : ndarray of intp, shape (t,)
        Index of the predicted class of every test row. With folds, predicted by the head that was not trained on the
        row, in the first repeat.
    probabilities : ndarray of float64, shape (t, k), or None
        None for a head without ``predict_proba``.
    scores : dict
        ``accuracy``, ``balanced_accuracy``, ``macro_f1``, ``log_loss``, ``roc_auc`` and ``mcc``, with repeats their
        means, and those of the user; ``per_class`` and ``confusion``, with repeats of the first.
    fit_seconds, predict_seconds : float
        Wall-clock time of fitting on the training rows and of predicting the test rows; with folds, the mean.
    intervals : dict of str to tuple of float
        Ends of the 95 % confidence intervals of the scores that have one.
    folds : Records of FoldScores
        Scores of every fold of every repeat; empty without folds.
    tuning : Records of TuningResult
        Result of the search in every fold, or in the single split; empty without tuning.
    trained_on : tuple of FeatureCache and Split, or None
        Cache and split whose training part the head was fitted on.

    See Also
    --------
    embedonce.compare : Returns a result per head.

    Examples
    --------
    >>> import embedonce as eo, numpy as np
    >>> X = np.repeat(np.eye(2, 1280, dtype=np.float32), 20, axis=0)
    >>> cache = eo.FeatureCache.from_arrays(X, ["cat"] * 20 + ["dog"] * 20)
    >>> result = eo.compare(cache, ["logreg"], split="random").result("logreg")
    >>> result.scores["accuracy"]
    1.0
    """

    name: str
    head: Any
    predicted: npt.NDArray[np.intp]
    probabilities: npt.NDArray[np.float64] | None
    scores: dict[str, Any]
    fit_seconds: float
    predict_seconds: float
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    folds: Records[FoldScores] = field(default_factory=Records)
    tuning: Records[TuningResult] = field(default_factory=Records)
    trained_on: tuple[FeatureCache, Split] | None = field(default=None, repr=False)

    @property
    def history(self) -> dict[str, list[float]] | None:
        """Accuracy and loss per epoch of heads that are trained in epochs."""
        return training_history(self.head)

    @property
    def values(self) -> dict[str, float | None]:
        """The scores that are numbers, those of the user too."""
        return {name: value for name, value in self.scores.items() if name not in ("per_class", "confusion")}

    def to_dict(self) -> dict[str, Any]:
        """Return name, scores, the interval of the accuracy, and times, as the rows of ``Comparison.table``."""
        low, high = self.intervals.get("accuracy", (None, None))
        return (
            {"head": self.name}
            | self.values
            | {"accuracy_low": low, "accuracy_high": high}
            | {"fit_seconds": self.fit_seconds, "predict_seconds": self.predict_seconds}
        )

    def save_model(self, path: Path | str) -> None:
        """Write the fitted head to a model file for `predict`, `explain`, `export` and `evaluate_model`.

        Parameters
        ----------
        path : path-like
            The suffix decides the format: see `save_head`.

        Raises
        ------
        HeadError
            If this is not a result of a comparison.
        ModelFileError, OutputError
            If the head does not fit into such a file, or the file cannot be written.

        See Also
        --------
        embedonce.train : Train one head and write it to a file.
        """
        if self.trained_on is None:
            raise HeadError(f"the training images of head {self.name!r} are not known. Take it from Comparison.result")
        cache, split = self.trained_on
        metadata = {"head": getattr(self.head, "head_name", self.name), "split": split.to_dict(), "scores": self.scores}
        save_head(self.head, path, metadata, cache=cache, rows=split.train)

    def to_frame(self) -> Any:
        """Return the values of `to_dict` as a pandas DataFrame of one row."""
        return Records([self]).to_frame()

    def __repr__(self) -> str:
        accuracy = f"accuracy {self.scores['accuracy']:.4f}"
        return f"<HeadResult {display(self.name)}: {accuracy} on {len(self.predicted):,} test images>"

    def _repr_html_(self) -> str:
        return Records([self])._repr_html_()


class TrainingOverlap(NamedTuple):
    """Number of test images that have ``relation`` in training, and the result on the others, if there are any."""

    images: int
    relation: str
    independent: HeadResult | None


@dataclass(eq=False, repr=False)
class ComparisonData:
    """Results of heads on the same rows; see `Comparison`."""

    cache: FeatureCache
    split: Split
    results: list[HeadResult]
    notes: list[str] = field(default_factory=list)
    leaky: ComparisonData | None = None
    grouped: ComparisonData | None = None
    groups: Groups | None = None
    differences: Records[HeadDifference] = field(default_factory=Records)
    folds: list[Split] = field(default_factory=list)
    learning_curve: Records[LearningPoint] = field(default_factory=Records)
    learning_outlook: LearningOutlook | None = None
    failed: dict[str, EmbedonceError] = field(default_factory=dict)
    overlap: TrainingOverlap | None = None  # of a trained model
    earlier: EarlierRuns | None = None
    external: list[Any] = field(default_factory=list)  # of ExternalSet
    subgroups: Records[Any] = field(default_factory=Records)  # of SubgroupScore
    head_seeds: Records[Any] = field(default_factory=Records)  # of SeedScores
    own_metrics: dict[str, Any] = field(default_factory=dict)  # of OwnMetric
    caches: Records[Any] = field(default_factory=Records)  # of CacheScore
    shortcuts: Any = None  # a ShortcutAudit, or None if it was not asked for
    timings: dict[str, float] = field(default_factory=dict)
    fingerprint: str = ""  # of a comparison of a grid: what decides its scores
    next_command: list[str] = field(default_factory=list)  # words of the command that follows, after "embedonce"
    _best: dict[str, BestHead | None] = field(default_factory=dict, init=False, repr=False)

    @property
    def skewed(self) -> bool:
        """True if the classes of the cache differ so much in size that balanced accuracy ranks the heads."""
        return self.ranked_by == "balanced_accuracy"

    @property
    def ranked_by(self) -> str:
        """Score that orders the heads: ``accuracy``, or ``balanced_accuracy`` when classes are skewed."""
        return leading_metric(self.cache.labels)

    @property
    def test_groups(self) -> npt.NDArray[np.intp] | None:
        """Group of every test image, intp, shape (t,); None without groups."""
        return None if self.groups is None else self.groups.ids[self.split.test]

    @property
    def table(self) -> Records[HeadResult]:
        """Results, the best first: by `ranked_by`, then by log loss."""

        def order(result: HeadResult) -> tuple[float, float]:
            loss = result.scores["log_loss"]
            return -result.scores[self.ranked_by], np.inf if loss is None else loss

        return Records(sorted(self.results, key=order))

    @property
    def leakage_gap(self) -> Records[LeakageGap]:
        """Score of every head, `ranked_by`, on the leaky split and on the grouped split, and the difference.

        The interval follows from those of the two scores, which it takes for independent (Zou and Donner, 2008). Empty
        when there is one split. Image models that are tested on one split only are left out.
        """
        if self.both_splits is None:
            return Records()
        gaps, metric = [], self.ranked_by
        leaky, grouped = ({result.name: result for result in each.results} for each in self.both_splits)
        for name in (result.name for result in self.table):
            if name not in leaky or name not in grouped:
                continue
            on_leaky, on_grouped = leaky[name], grouped[name]
            higher, lower = on_leaky.scores[metric], on_grouped.scores[metric]
            gap = higher - lower
            ends: tuple[float, ...] = ()
            if metric in on_grouped.intervals and metric in on_leaky.intervals:
                ends = interval_of_difference(higher, on_leaky.intervals[metric], lower, on_grouped.intervals[metric])
            gaps.append(LeakageGap(name, metric, higher, lower, gap, *ends))
        return Records(gaps)

    @property
    def both_splits(self) -> tuple[ComparisonData, ComparisonData] | None:
        """The results on the leaky split and those on the grouped one; None when there is one split."""
        if self.leaky is not None:
            return self.leaky, self
        return None if self.grouped is None else (self, self.grouped)

    @property
    def leaky_name(self) -> str:
        """Name of the leaky split in texts: ``random`` or ``given``."""
        return self.split.method if self.leaky is None else self.leaky.split.method

    def metric(self, name: str) -> Metric:
        """Return one of the metrics of embedonce or of the user."""
        found: Metric = METRICS[name] if name in METRICS else self.own_metrics[name].metric
        return found

    def best(self, metric: str | None = None) -> BestHead | None:
        """Return the best head by a score, by default `ranked_by`, corrected for the choice; None if none has it."""
        metric = self.ranked_by if metric is None else metric
        if metric not in self._best:
            self._best[metric] = self._find_best(metric)
        return self._best[metric]

    def _find_best(self, metric: str) -> BestHead | None:
        able = [result for result in self.results if result.scores[metric] is not None]
        if not able:
            return None
        sign = self.metric(metric).sign
        result = max(able, key=lambda result: sign * result.scores[metric])
        if metric == self.ranked_by:
            result = self.table[0]
        if metric in self.own_metrics:
            bias = bias_of_contributions(list(self.own_metrics[metric].contributions.values()), sign)
        else:
            test = self.split.test
            bias = selection_bias(
                metric,
                self.cache.labels[test].astype(np.intp),
                {each.name: Predicted(each.predicted, each.probabilities) for each in able},
                len(self.cache.class_names),
                self.test_groups,
            )
        first, last = self.metric(metric).bounds
        low, high = result.intervals.get(metric, (-np.inf, np.inf))
        # how large the bias is, is uncertain too, so the interval reaches from the corrected to the measured score
        ends = np.clip([low + min(bias, 0.0), high + max(bias, 0.0)], first, last).tolist()
        score = float(result.scores[metric])
        return BestHead(result.name, metric, len(able), score, float(np.clip(score + bias, first, last)), *ends)

    def confusion(self, head: str) -> npt.NDArray[np.int64]:
        """Return the confusion matrix of a head: int64, shape (k, k), rows true, columns predicted.

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

    def head_name(self, result: str) -> str:
        """Return the name of the head of a result, which with several caches has that of its cache behind it."""
        of_caches = (item for cache in self.caches for item in cache.heads.items())
        return next((head for head, name in of_caches if name == result), result)

    def cache_of(self, result: str) -> FeatureCache:
        """Return the cache that the head of a result was trained on, with the rows of ``cache``."""
        trained_on = self.result(result).trained_on
        return self.cache if trained_on is None else trained_on[0]

    def to_frame(self) -> Any:
        """Return `table` as a pandas DataFrame."""
        return self.table.to_frame()

    def score_table(self, *, page: bool = False) -> TextTable:
        """Return the scores as text, a line per head, the best first; for a page with full titles and in percent."""
        first, *others = shown_metrics(self.ranked_by)
        others = [own.metric for own in self.own_metrics.values()] + others
        titles = [metric.title if page else metric.column for metric in (first, *others)]
        times = ["fit", "predict"] if page else ["fit s", "predict s"]

        def cell(result: HeadResult, metric: Metric) -> str:
            score = result.scores[metric.name]
            return percent(score) if page and metric.percent else format_value(score)

        rows = []
        for result in self.table:
            interval = format_interval(*result.intervals.get(first.name, (None, None)), as_percent=page)
            seconds = [result.fit_seconds, result.predict_seconds]
            seconds_cells = [format_seconds(value) if page else f"{value:.2f}" for value in seconds]
            scores = [cell(result, metric) for metric in others]
            rows.append([display(result.name), cell(result, first), interval, *scores, *seconds_cells])
        return TextTable(["head", titles[0], "95 % interval", *titles[1:], *times], rows)

    def learning_table(self) -> TextTable:
        """Return the learning curve as text, a line per point, the score in percent."""
        rows = [
            [
                display(point.head),
                f"{point.images:,.0f}",
                *([] if self.groups is None else ["-" if point.groups is None else f"{point.groups:,.0f}"]),
                percent(point.score),
                format_interval(point.low, point.high, as_percent=True),
            ]
            for point in self.learning_curve
        ]
        groups = [] if self.groups is None else ["training groups"]
        titles = ["head", "training images", *groups, METRICS[self.ranked_by].title, "95 % interval"]
        return TextTable(titles, rows)

    def gap_table(self, *, page: bool = False) -> TextTable:
        """Return the leakage gap as text, a line per head; for a page in percent and points."""
        titles = [
            f"{self.leaky_name} split",
            "grouped split",
            "gap in points" if page else "difference",
            "95 % interval",
        ]
        rows = []
        for row in self.leakage_gap:
            if page:
                cells = [percent(row.leaky), percent(row.grouped)]
                cells += [format_points(row.gap), format_points(row.low, row.high)]
            else:
                cells = [format_number(row.leaky), format_number(row.grouped)]
                cells += [f"{row.gap:+.4f}", format_interval(row.low, row.high)]
            rows.append([display(row.head), *cells])
        measure = METRICS[self.ranked_by].column
        return TextTable(["head" if page else f"{measure} gap", *titles], rows)

    def __repr__(self) -> str:
        heads = ", ".join(display(result.name) for result in self.table)
        tested = f"{len(self.split.test):,} test images of {self.cache.display_path}"
        return f"<{type(self).__name__} of {heads} on {tested}; print shows the scores>"

    def __str__(self) -> str:
        return "\n".join([str(self.score_table()), *(f"Note: {printable(note)}." for note in self.notes)])

    def _repr_html_(self) -> str:
        return html_table(*self.score_table(), self.notes)
