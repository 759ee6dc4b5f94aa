"""The confidence interval of the area under the ROC curve.

Areas near 1 are far from normally distributed, and a sample in which next to no pair is out of order shows hardly
anything of how far the area varies. So the interval holds every area from which the one that was found is not further
away than chance would have it, the standard error being that of the supposed area, not of the found one: a score
interval (Newcombe, 2006, doi:10.1002/sim.2324, method 5).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from .clusters import Clusters, Interval, count_informative_groups, design_effect, error_by_groups

_EDGE = 1e-9


def area_interval(
    true: npt.NDArray[np.intp], probabilities: npt.NDArray[np.float64], drawn: Clusters, level: float
) -> Interval | None:
    """Return the interval of the mean area under the one-vs-rest ROC curves of the classes that occur.

    Parameters
    ----------
    true : ndarray of intp, shape (t,)
    probabilities : ndarray of float64, shape (t, k)
    drawn : Units
    level : float

    Returns
    -------
    (float, float) or None
        None with a single class.

    Notes
    -----
    The variance of the supposed area is that of two normally distributed classes (:func:`binormal_variance`), for as
    many images as the groups are worth; where the sample varies more than that, it is as many times larger. The
    sample's variance is that of the placements of its images (DeLong, DeLong and Clarke-Pearson, 1988,
    doi:10.2307/2531595), with groups that of Obuchowski (1997, doi:10.2307/2533958), at least what the correlation
    within groups gives, see :func:`embedonce.evaluate.metrics.clusters.design_effect`.
    """
    from scipy.stats import norm

    classes = np.unique(true)
    if len(classes) < 2:
        return None
    rows = len(true)
    positives = [true == index for index in classes]
    placed = [placements(side, probabilities[:, index]) for index, side in zip(classes, positives, strict=True)]
    area = float(np.mean([values[side].mean() for values, side in zip(placed, positives, strict=True)]))
    pulls = np.array([_pulls(values, side) for values, side in zip(placed, positives, strict=True)])
    variances = (pulls**2).sum(1) / rows**2
    pull = pulls.mean(0)
    variance = float((pull**2).sum()) / rows**2
    effect = _effect(pull, np.mean(placed, axis=0), drawn, len(classes), variance)
    # areas of several classes against the rest do not vary alike, so that their mean varies less
    shared = variance / variances.mean() if variance > 0 else 1.0
    sides = [(side.sum() / effect, (rows - side.sum()) / effect) for side in positives]

    def supposed(value: float) -> float:
        return shared * float(np.mean([binormal_variance(value, *side) for side in sides]))

    wider = max(1.0, effect * variance / supposed(area)) if 0 < area < 1 else 1.0
    quantile = float(norm.ppf((1 + level) / 2))
    return _invert_score_test(area, lambda value: quantile * np.sqrt(wider * supposed(value)))


def placements(positive: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return of every image the share of those of the other side that are in order with it, ties for half.

    The mean over the positives, and that over the negatives, is the area under the ROC curve.
    """
    from scipy.stats import rankdata

    above = rankdata(scores)
    for side in (positive, ~positive):
        above[side] -= rankdata(scores[side])  # now how many of the other side are below
    shares: npt.NDArray[np.float64] = above / np.where(positive, (~positive).sum(), positive.sum())
    return np.where(positive, shares, 1 - shares)


def binormal_variance(area: float, positives: float, negatives: float) -> float:
    """Return the variance of an area of so many images, normally distributed with one variance in either class.

    ``(A (1 - A) + (m + n - 2) (Q - A^2)) / (m n)`` (Bamber, 1975, doi:10.1016/0022-2496(75)90001-2), where Q is the
    chance that two images of one side are both in order with one of the other. That of two normal variables with
    correlation 1/2 is ``A - 2 T(z, 1 / sqrt(3))`` for ``A = Phi(z)`` and Owen's (1956) function T.
    """
    from scipy.special import ndtri, owens_t

    both = area - 2 * owens_t(ndtri(area), 1 / np.sqrt(3))
    pairs, images = max(positives * negatives, 1.0), max(positives + negatives - 2, 0.0)
    return float(area * (1 - area) + images * max(both - area**2, 0.0)) / pairs


def _pulls(placed: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return what every image adds to the area, as values whose mean is 0 and whose variance over t is the area's."""
    images = np.where(positive, positive.sum(), (~positive).sum())
    pulls: npt.NDArray[np.float64] = (placed - placed[positive].mean()) * len(placed) / images
    return pulls


def _effect(
    pull: npt.NDArray[np.float64], placed: npt.NDArray[np.float64], drawn: Clusters, classes: int, variance: float
) -> float:
    """Return by how many times groups make the variance larger, at least 1."""
    if drawn.alone:
        return 1.0
    if variance == 0:
        return len(pull) / drawn.effective
    by_correlation = design_effect(pull, drawn, telling=count_informative_groups(placed, drawn), means=classes)
    return max(1.0, by_correlation, error_by_groups(pull, drawn, classes) ** 2 / variance)


def _invert_score_test(value: float, reach: Callable[[float], float]) -> Interval:
    """Return the ends of the supposed values, from 0 to 1, that are not further from ``value`` than they reach."""
    from scipy.optimize import brentq

    def excess(supposed: float) -> float:
        return abs(supposed - value) - reach(supposed)

    # next to 0 and 1, where nothing varies, everything is further away
    first, last, inside = _EDGE, 1 - _EDGE, min(max(value, _EDGE), 1 - _EDGE)
    low = float(brentq(excess, first, inside)) if excess(first) > 0 > excess(inside) else min(first, value)
    high = float(brentq(excess, inside, last)) if excess(last) > 0 > excess(inside) else max(last, value)
    return (0.0 if low <= first else low), (1.0 if high >= last else high)
