"""The user's metrics in a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ...cache import display
from ..metrics import Contributions, Metric, MetricDifference, MetricError, compare_contributions
from ..scoring import HeadResult, HeadsOnPlan, OwnMetric, answers_of, measure, pool
from ..shared import Records
from .result import Comparison


def score_own_metrics(comparison: Comparison, metrics: Mapping[str, Metric], heads: HeadsOnPlan | None = None) -> None:
    """Add metrics to all results of a comparison, with intervals, and compare every two heads by them.

    ``heads`` have the results of each fold.
    """
    for metric in metrics.values():
        scored = [_score(comparison, metric, result, heads) for result in comparison.results]
        comparison.results = [result for result, _, _ in scored]
        reasons: dict[str, list[str]] = {}
        for result, _, reason in scored:
            if reason:
                reasons.setdefault(reason, []).append(display(result.name))
        comparison.notes += [f"{metric.name} of {', '.join(names)} has {reason}" for reason, names in reasons.items()]
        found = {result.name: one for result, one, _ in scored if one is not None}
        comparison.own_metrics[metric.name] = OwnMetric(metric, _differences(comparison, metric, found), found)


def _score(
    comparison: Comparison, metric: Metric, result: HeadResult, heads: HeadsOnPlan | None
) -> tuple[HeadResult, Contributions | None, str]:
    """Return a result with a metric; with repeats, their mean, and the contributions of the first."""
    cache, test, groups = comparison.cache, comparison.split.test, comparison.test_groups
    if heads is None or not heads.plan.has_folds:
        return measure(result, metric, cache, test, groups)
    of_splits = [on_split.results[result.name] for on_split in heads.splits]
    measured = [measure(one, metric, cache, test, groups) for one in pool(cache, heads.plan.splits, of_splits)]
    value, interval = None, {}
    values = [one.scores[metric.name] for one, _, _ in measured]
    if None not in values:
        value = float(np.mean(values))
    ends = [one.intervals[metric.name] for one, _, _ in measured if metric.name in one.intervals]
    if len(ends) == len(measured):
        low, high = np.mean(ends, axis=0).tolist()
        interval = {metric.name: (low, high)}
    folds = []
    for fold, one, on_split in zip(result.folds, of_splits, heads.splits, strict=True):
        try:
            of_fold = metric.measure(answers_of(one, cache, on_split.split.test))
        except MetricError:
            of_fold = None
        folds.append(replace(fold, scores={**fold.scores, metric.name: of_fold}))
    pooled = replace(
        result,
        scores=result.scores | {metric.name: value},
        intervals=result.intervals | interval,
        folds=Records(folds),
    )
    return pooled, measured[0][1], measured[0][2]


def _differences(
    comparison: Comparison, metric: Metric, found: Mapping[str, Contributions]
) -> Records[MetricDifference]:
    results = {result.name: result for result in comparison.results if result.name in found}
    values = {name: result.scores[metric.name] for name, result in results.items()}
    if not comparison.folds:
        return compare_contributions(metric, values, found)
    of_folds = {}
    for name, result in results.items():
        scores = [fold.scores[metric.name] for fold in result.folds]
        of_folds[name] = [score for score in scores if score is not None]
    able = [name for name, scores in of_folds.items() if len(scores) == len(comparison.folds)]
    sizes = [(len(fold.train), len(fold.test)) for fold in comparison.folds]
    return compare_contributions(metric, values, {name: found[name] for name in able}, of_folds, sizes)
