"""The confidence interval of the area under the ROC curve.

Areas near 1 are far from normally distributed, and a sample with almost every pair in order shows little of the
variance. So it is a score interval (Newcombe, 2006, doi:10.1002/sim.2324, method 5): every area whose own error
explains the observed one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .clusters import (
    Clusters,
    Interval,
    count_informative_groups,
    design_effect,
    error_by_groups,
    freedom_of_classes,
    quantile,
)

_EDGE = 1e-9


class Areas(NamedTuple):
    """One-vs-rest areas of the k classes that occur: `placements` and influences of each image, shape (k, t)."""

    true: npt.NDArray[np.intp]
    positives: list[npt.NDArray[np.bool_]]
    areas: npt.NDArray[np.float64]
    placed: npt.NDArray[np.float64]
    influences: npt.NDArray[np.float64]

    @classmethod
    def of(cls, true: npt.NDArray[np.intp], probabilities: npt.NDArray[np.float64]) -> Areas:
        """Compute the areas of probabilities, shape (t, k)."""
        classes = np.unique(true)
        positives = [true == index for index in classes]
        placed = np.array(
            [placements(side, probabilities[:, index]) for index, side in zip(classes, positives, strict=True)]
        )
        areas = np.array([values[side].mean() for values, side in zip(placed, positives, strict=True)])
        influences = [_influences(values, side) for values, side in zip(placed, positives, strict=True)]
        return cls(true, positives, areas, placed, np.array(influences))

    def contributions(self) -> npt.NDArray[np.float64]:
        """Return values, shape (t,), whose mean is the mean area: the area plus the influence of the image."""
        total: npt.NDArray[np.float64] = (self.areas[:, None] + self.influences).sum(axis=0) / len(self.areas)
        return total


def area_interval(of_classes: Areas, clusters: Clusters, level: float) -> Interval:
    """Return the interval of the mean one-vs-rest area of the classes that occur, at least two."""
    # the sample's variance is that of the placements (DeLong, DeLong and Clarke-Pearson, 1988, doi:10.2307/2531595),
    # with groups that of Obuchowski (1997, doi:10.2307/2533958); if it exceeds `binormal_variance`, the ratio counts
    true, positives, areas, placed, influences = of_classes
    rows, area = len(true), float(areas.mean())
    variances = (influences**2).sum(1) / rows**2
    influence = influences.mean(0)
    variance = float((influence**2).sum()) / rows**2
    effect = _effect(influence, placed.mean(axis=0), clusters, len(areas), variance)
    # one-vs-rest areas of several classes vary differently, so their mean varies less
    shared = variance / variances.mean() if variance > 0 else 1.0
    sides = [(side.sum() / effect, (rows - side.sum()) / effect) for side in positives]

    def supposed(value: float) -> float:
        return shared * float(np.mean([binormal_variance(value, *side) for side in sides]))

    wider = max(1.0, effect * variance / supposed(area)) if 0 < area < 1 else 1.0
    reach = quantile(level, clusters, freedom_of_classes(influence, true, clusters))
    return _invert_score_test(area, lambda value: reach * np.sqrt(wider * supposed(value)))


def placements(positive: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return, for every image, the fraction of those of the other side that are in order with it, ties for half."""
    above = _ranks(scores)
    for side in (positive, ~positive):
        above[side] -= _ranks(scores[side])  # the number of the other side that is below
    fractions: npt.NDArray[np.float64] = above / np.where(positive, (~positive).sum(), positive.sum())
    return np.where(positive, fractions, 1 - fractions)


def _ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the ranks of values, from 1; equal ones have the mean of theirs."""
    _, of_value, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: npt.NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[of_value]
    return ranks


def binormal_variance(area: float, positives: float, negatives: float) -> float:
    """Return the variance of an area if both classes are normally distributed with equal variances."""
    # Bamber, 1975, doi:10.1016/0022-2496(75)90001-2; for A = Phi(z), Q = A - 2 T(z, 1 / sqrt(3)) by Owen's (1956) T
    from scipy.special import ndtri, owens_t

    both = area - 2 * owens_t(ndtri(area), 1 / np.sqrt(3))
    pairs, images = max(positives * negatives, 1.0), max(positives + negatives - 2, 0.0)
    return float(area * (1 - area) + images * max(both - area**2, 0.0)) / pairs


def _influences(placed: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return the influence of every image on the area: mean 0, and variance over t that of the area."""
    images = np.where(positive, positive.sum(), (~positive).sum())
    influences: npt.NDArray[np.float64] = (placed - placed[positive].mean()) * len(placed) / images
    return influences


def _effect(
    influence: npt.NDArray[np.float64],
    placed: npt.NDArray[np.float64],
    clusters: Clusters,
    classes: int,
    variance: float,
) -> float:
    """Return the factor by which groups increase the variance, at least 1."""
    if clusters.alone:
        return 1.0
    if variance == 0:
        return len(influence) / clusters.effective
    by_correlation = design_effect(
        influence, clusters, informative=count_informative_groups(placed, clusters), means=classes
    )
    return max(1.0, by_correlation, error_by_groups(influence, clusters, classes) ** 2 / variance)


def _invert_score_test(value: float, reach: Callable[[float], float]) -> Interval:
    """Return the lowest and highest supposed value, 0 to 1, within ``reach`` of ``value``."""
    from scipy.optimize import brentq

    def excess(supposed: float) -> float:
        return abs(supposed - value) - reach(supposed)

    # next to 0 and 1 the variance is 0, so every value is further away
    first, last, inside = _EDGE, 1 - _EDGE, min(max(value, _EDGE), 1 - _EDGE)
    low = float(brentq(excess, first, inside)) if excess(first) > 0 > excess(inside) else min(first, value)
    high = float(brentq(excess, inside, last)) if excess(last) > 0 > excess(inside) else max(last, value)
    return (0.0 if low <= first else low), (1.0 if high >= last else high)
