"""Values of the user's metrics on the results of heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache, display
from ..metrics import (
    Answers,
    Contributions,
    Metric,
    MetricDifference,
    MetricError,
    contributions_interval,
    find_contributions,
)
from ..shared import Records, TextTable
from ..splits import Groups
from .results import HeadResult, format_value

Rows = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class OwnMetric:
    """A metric of the user: its differences between heads, and what every test image contributes, by head."""

    metric: Metric
    differences: Records[MetricDifference]
    contributions: Mapping[str, Contributions]

    def to_dict(self) -> dict[str, Any]:
        """Return name, direction and differences as JSON-serialisable values."""
        about = {"name": self.metric.name, "higher_is_better": self.metric.higher_is_better}
        return about | {"differences": self.differences.to_dict()}


def answers_of(result: HeadResult, cache: FeatureCache, rows: Rows) -> Answers:
    """Return a result on rows of a cache as class names."""
    classes = [row["class"] for row in result.scores["per_class"]]  # those of a model too
    names = np.array(classes)
    return Answers(names[cache.labels[rows]], names[result.predicted], result.probabilities, classes)


def measure(
    result: HeadResult, metric: Metric, cache: FeatureCache, rows: Rows, groups: npt.NDArray[np.intp] | None
) -> tuple[HeadResult, Contributions | None, str]:
    """Return a result with a metric and its interval, what images contribute, and why one of them is missing."""
    answers = answers_of(result, cache, rows)
    try:
        value = metric.measure(answers)
    except MetricError as error:
        return _with(result, metric, None, None), None, f"no value, because {error}"
    try:
        found = find_contributions(metric, answers, value, groups)
    except MetricError as error:
        reason = f"no interval, because without some of the images {error}"
        return _with(result, metric, value, None), None, reason
    interval = contributions_interval(metric, answers, value, found)
    reason = "no interval, because no image changes its value more than others" if interval is None else ""
    return _with(result, metric, value, interval), found, reason


def _with(result: HeadResult, metric: Metric, value: float | None, interval: tuple[float, float] | None) -> HeadResult:
    intervals = result.intervals if interval is None else result.intervals | {metric.name: interval}
    return replace(result, scores=result.scores | {metric.name: value}, intervals=intervals)


def with_own_metrics(
    result: HeadResult, metrics: Mapping[str, OwnMetric], cache: FeatureCache, rows: Rows, groups: Groups | None
) -> HeadResult:
    """Return a result on other rows with the same metrics."""
    ids = None if groups is None else groups.ids[rows]
    for own in metrics.values():
        result, _, _ = measure(result, own.metric, cache, rows, ids)
    return result


def about_own_metric(metric: Metric) -> str:
    """Return in a sentence which values are better, and what the intervals are."""
    return f"{'More' if metric.higher_is_better else 'Less'} is better. Intervals and tests are by the jackknife."


def own_metric_table(results: Records[HeadResult], metric: Metric) -> TextTable:
    """Return the values of a metric as text, a line per head, the best first."""
    name, worst = metric.name, -np.inf

    def order(result: HeadResult) -> float:
        return worst if result.scores[name] is None else metric.sign * float(result.scores[name])

    rows = []
    for one in sorted(results, key=order, reverse=True):
        interval = " to ".join(map(format_value, one.intervals.get(name, ()))) or "-"
        rows.append([display(one.name), format_value(one.scores[name]), interval])
    return TextTable(["head", name, "95 % interval"], rows)
