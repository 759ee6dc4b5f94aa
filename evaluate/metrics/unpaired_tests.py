"""Difference between the scores of two separate sets of images."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .clusters import Interval, units
from .intervals import LEVEL, accuracy_interval, balanced_accuracy_interval

_SMALLEST_P = 1e-4
_STEPS = 14


class Sample(NamedTuple):
    """Which images are classified correctly, bool, shape (n,), their classes, and their groups or None."""

    correct: npt.NDArray[np.bool_]
    classes: npt.NDArray[np.intp]
    groups: npt.NDArray[np.integer] | None


def interval_of_difference(first: float, of_first: Interval, second: float, of_second: Interval) -> Interval:
    """Return the interval of the first less the second of two independent scores, from the intervals of both."""
    # Zou and Donner, 2008, doi:10.1002/sim.3095
    gap, (low, high), (other_low, other_high) = first - second, of_first, of_second
    down, up = math.hypot(first - low, other_high - second), math.hypot(high - first, second - other_low)
    return gap - down, gap + up


def unpaired_p(first: Sample, second: Sample, metric: str) -> float:
    """Return the p value of equal accuracies, or balanced accuracies: the largest at which 0 is in the interval.

    It is at least 0.0001.
    """

    def has_zero(level: float) -> bool:
        low, high = interval_of_difference(*_scored(first, metric, level), *_scored(second, metric, level))
        return low <= 0 <= high

    if not has_zero(1 - _SMALLEST_P):
        return _SMALLEST_P
    rejected, kept = math.log(_SMALLEST_P), 0.0  # of p, which is found by bisection
    for _ in range(_STEPS):
        middle = (rejected + kept) / 2
        # an interval at level 1 - p without 0 rejects equality at p
        rejected, kept = (rejected, middle) if not has_zero(1 - math.exp(middle)) else (middle, kept)
    return math.exp(kept)


def _scored(sample: Sample, metric: str, level: float = LEVEL) -> tuple[float, Interval]:
    clusters = units(sample.groups, len(sample.correct))
    if metric == "accuracy":
        return float(sample.correct.mean()), accuracy_interval(sample.correct, clusters, level)
    recalls = [sample.correct[sample.classes == label].mean() for label in np.unique(sample.classes)]
    return float(np.mean(recalls)), balanced_accuracy_interval(sample.correct, sample.classes, clusters, level)
