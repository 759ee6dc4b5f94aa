"""Learning curve: the leading score of heads against the number of training images, and what more images would show."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache, display
from ...errors import EmbedonceError, first_line
from ...extract import Progress
from ..metrics import MARGIN, METRICS, contributions, mean_error, score_intervals, t_quantile, units
from ..scoring import (
    ComparisonData,
    HeadResult,
    LearningOutlook,
    LearningPoint,
    LearningSlope,
    fit_and_score,
    run_as_finished,
)
from ..shared import Records
from ..splits import Groups, Split, shrink

STEPS = 7
REPEATS = 3
PER_CLASS = 10
"""Approximate number of images of each class in the smallest part."""
_POINTS = 0.02
_POWER = 0.8
_LEVEL = 0.95
_SILENT = Progress()


def score_learning_curve(
    cache: FeatureCache,
    heads: Mapping[str, Any],
    split: Split,
    groups: Groups | None = None,
    *,
    metric: str = "accuracy",
    seed: int = 0,
    repeats: int = REPEATS,
    steps: int = STEPS,
    jobs: int = 1,
    dask: Any = None,
    progress: Progress = _SILENT,
) -> tuple[Records[LearningPoint], dict[str, LearningSlope], list[str]]:
    """Score unfitted heads that are trained on parts of the training images, in equal ratios of size.

    Returns the points, the slope at the end of the curve of each head, and notes, which name heads that fail on a part;
    their points at that size are left out.
    """
    from sklearn.base import clone

    classes = len(np.unique(cache.labels[split.train]))
    smallest = min(1.0, PER_CLASS * classes / len(split.train))
    fractions = np.unique(np.geomspace(smallest, 1, steps).round(6)).tolist()
    parts = {
        fraction: [
            shrink(split, cache, groups, fraction, (seed + repeat) % 2**32)
            for repeat in range(1 if fraction == 1 else repeats)
        ]
        for fraction in fractions
    }
    work, tasks = {}, []
    for fraction, larger in zip(fractions, [*fractions[1:], None], strict=True):
        if larger is not None and _sizes(parts[fraction]) == _sizes(parts[larger]):
            continue  # with whole groups, both are the same part
        for repeat, part in enumerate(parts[fraction], start=1):
            for name, head in heads.items():
                label = f"head {name!r} on {fraction:.6g} of the training images (repeat {repeat})"
                work[label] = (name, clone(head), cache, part, groups)
                tasks.append((name, fraction, part))
    scored: dict[str, dict[float, list[tuple[Split, HeadResult]]]] = {}
    failed: dict[str, EmbedonceError] = {}

    def announce(number: int) -> None:
        progress.now(f"training on parts of the training images, {number + 1} of {len(tasks)} …")

    with contextlib.closing(progress):
        outcomes = dict(run_as_finished(fit_and_score, work, jobs, dask, announce))
    for number, (name, fraction, part) in enumerate(tasks):
        outcome = outcomes[number]
        if isinstance(outcome, EmbedonceError):
            failed.setdefault(name, outcome)
        else:
            scored.setdefault(name, {}).setdefault(fraction, []).append((part, outcome))
    true = cache.labels[split.test].astype(np.intp)
    test_groups = None if groups is None else groups.ids[split.test]
    curve = []
    for name, of_head in scored.items():
        for results in of_head.values():
            ends = [
                score_intervals(true, result.predicted, None, cache.class_names, test_groups, seed=seed)[metric]
                for _, result in results
            ]
            low, high = np.mean(ends, axis=0).tolist()
            means = {key: float(np.mean([result.scores[key] for _, result in results])) for key in METRICS_OF_POINTS}
            curve.append(
                LearningPoint(
                    name,
                    images=float(np.mean([len(part.train) for part, _ in results])),
                    groups=None
                    if groups is None
                    else float(np.mean([len(np.unique(groups.ids[part.train])) for part, _ in results])),
                    metric=metric,
                    score=float(np.mean([result.scores[metric] for _, result in results])),
                    low=low,
                    high=high,
                    **means,
                    repeats=len(results),
                )
            )
    slopes = {}
    for name, of_head in scored.items():
        slope = _slope(list(of_head.values()), metric, true, test_groups)
        if slope is not None:
            slopes[name] = slope
    notes = [
        f"the learning curve of {display(name)} lacks points, because {first_line(error)}"
        for name, error in failed.items()
    ]
    return Records(curve), slopes, notes


METRICS_OF_POINTS = ("accuracy", "macro_f1")


def _sizes(parts: list[Split]) -> set[int]:
    return {len(part.train) for part in parts}


def _slope(
    curve: Sequence[Sequence[tuple[Split, HeadResult]]],
    metric: str,
    true: npt.NDArray[np.intp],
    groups: npt.NDArray[np.intp] | None,
) -> LearningSlope | None:
    """Return the change of the score per doubling at the end of a curve, with its interval; None for one point."""
    # paired on the test images, plus the variance of the smaller parts, since the whole is one such part
    if len(curve) < 2:
        return None
    before, (whole,) = curve[-2], curve[-1]
    images = float(np.mean([len(part.train) for part, _ in before])), float(len(whole[0].train))
    correct_before = np.mean([result.predicted == true for _, result in before], axis=0)
    values = contributions((whole[1].predicted == true) - correct_before, _classes(metric, true))
    clusters = units(groups, len(true))
    scores = [result.scores[metric] for _, result in before]
    drawn = float(np.var(scores, ddof=1)) * (1 + 1 / len(scores)) if len(scores) > 1 else 0.0
    doublings = math.log2(images[1] / images[0])
    slope = float(values.mean()) / doublings
    error = math.sqrt(mean_error(values, clusters) ** 2 + drawn) / doublings
    reach = error * t_quantile(_LEVEL, clusters.effective - 1)
    return LearningSlope(images[0], images[1], slope, slope - reach, slope + reach)


def _classes(metric: str, true: npt.NDArray[np.intp]) -> npt.NDArray[np.intp] | None:
    return true if metric == "balanced_accuracy" else None


def learning_outlook(comparison: ComparisonData, slopes: Mapping[str, LearningSlope]) -> LearningOutlook:
    """Return whether the curve of the best head still rises, and how many test groups would show 2 points."""
    # the number of pairs for a test of two proportions (Connor, 1987, doi:10.2307/2531961), whose variance is that
    # between groups
    from scipy.special import ndtri

    best, *others = comparison.table
    metric, test = comparison.ranked_by, comparison.split.test
    true = comparison.cache.labels[test].astype(np.intp)
    clusters = units(comparison.test_groups, len(test))
    correct = (best.predicted == true).astype(np.float64)
    if others:
        correct -= others[0].predicted == true
    error = mean_error(contributions(correct, _classes(metric, true)), clusters)
    error = math.hypot(error, 1 / (clusters.effective + 2))  # as if one more image were discordant
    quantile = float(ndtri((1 + _LEVEL) / 2)) + (float(ndtri(_POWER)) if others else 0.0)
    needed = math.ceil(clusters.groups * (quantile * error / _POINTS) ** 2)
    everywhere = len(comparison.cache) if comparison.groups is None else len(comparison.groups)
    tested = clusters.groups
    more = 0 if needed <= tested else math.ceil((needed - tested) * everywhere / tested)
    unit = "images" if clusters.alone else "groups"
    slope = slopes.get(best.name)
    rival = others[0].name if others else None
    text = [] if slope is None else [_on_slope(best.name, METRICS[metric].title, slope)]
    text.append(_on_size(best.name, rival, METRICS[metric].title, unit, tested, needed, more))
    return LearningOutlook(best.name, rival, metric, slope, unit, tested, needed, more, " ".join(text))


def _on_slope(name: str, title: str, slope: LearningSlope) -> str:
    ends = f"{100 * slope.low:+.1f} to {100 * slope.high:+.1f}"
    text = (
        f"From {slope.from_images:,.0f} to {slope.to_images:,.0f} training images, the {title} of {display(name)} "
        f"changes by {100 * slope.per_doubling:+.1f} points per doubling (95 % interval {ends})"
    )
    if slope.low > 0:
        return f"{text}: it still rises, so more training images help."
    if slope.high <= MARGIN:
        return f"{text}: it is flat, so more training images help little."
    return f"{text}, so whether it still rises is undecided."


def _on_size(name: str, rival: str | None, title: str, unit: str, tested: int, needed: int, more: int) -> str:
    if rival is not None:
        aim = f"To see a difference of 2 points of {title} between {display(name)} and {display(rival)} (power 80 %)"
    else:
        aim = f"For an interval of 2 points on each side of the {title}"
    if not more:
        return f"{aim}, the {tested:,} test {unit} are enough."
    return (
        f"{aim}, about {_rounded(needed):,} test {unit} are needed and there are {tested:,}: about {_rounded(more):,} "
        f"more {unit} in the data set."
    )


def _rounded(count: int) -> int:
    """Return a count with two significant digits."""
    return round(count, -(len(str(count)) - 2))
