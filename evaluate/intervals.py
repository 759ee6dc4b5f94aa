"""Confidence intervals of scores by bootstrap over groups.

Images of one group (copies of one original, tissue of one patient) are right or wrong together, so that the group is
what is drawn anew; without groups, every image is one. The bootstrap gives the standard error, but where few groups
hold all the errors it knows too little of how groups err; then what the correlation within groups gives counts
(:func:`design_effect`). The interval is Wilson's for as many images as would give that standard error, since scores
near 1 are far from normally distributed. In simulation (``benchmarks/statistics.py``) that covers what it says, also
where the interval between the bootstrap's own percentiles covers the truth in two of three cases or fewer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .metrics import METRICS, accuracy

LEVEL = 0.95
RESAMPLES = 2000
_AUC_RESAMPLES = 400  # dearer than the others; they serve a standard error alone, for which that is plenty
_BLOCK = 50

Interval = tuple[float, float]


class Units(NamedTuple):
    """What is drawn anew.

    Attributes
    ----------
    of_row : ndarray of intp, shape (t,)
        Group of every row, from 0 on.
    groups : int
        How many there are.
    """

    of_row: npt.NDArray[np.intp]
    groups: int

    @property
    def effective(self) -> float:
        """How many groups of equal size tell as much about a mean as these, if images of a group are all alike.

        The square of the sum of their sizes over the sum of the squares (Kish, 1965, section 11.7).
        """
        sizes = np.bincount(self.of_row, minlength=self.groups)
        return float(sizes.sum() ** 2 / (sizes.astype(np.float64) ** 2).sum())

    def sums(self, values: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Return the sum of per-row values, shape (t,) or (t, m), in each group."""
        total = np.zeros((self.groups, *values.shape[1:]))
        np.add.at(total, self.of_row, values)
        return total


def units(groups: npt.NDArray[np.integer] | None, rows: int) -> Units:
    """Return the groups as numbers from 0 on; without groups, every row is one."""
    if groups is None:
        return Units(np.arange(rows), rows)
    _, of_row = np.unique(groups, return_inverse=True)
    return Units(of_row.astype(np.intp), int(of_row.max(initial=-1)) + 1)


def score_intervals(
    true: npt.NDArray[np.intp],
    predicted: npt.NDArray[np.intp],
    probabilities: npt.NDArray[np.float64] | None,
    class_names: list[str],
    groups: npt.NDArray[np.integer] | None = None,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Interval]:
    """Return confidence intervals of the scores of :func:`embedonce.evaluate.metrics.score`.

    Parameters
    ----------
    true, predicted : ndarray of intp, shape (t,)
        Indices into ``class_names``.
    probabilities : ndarray of float64, shape (t, k), optional
    class_names : list of str, length k
    groups : ndarray of int, shape (t,), optional
        Rows of one group are drawn together (Field and Welsh, 2007, doi:10.1111/j.1467-9868.2007.00593.x).
    level : float
        Share of the intervals that cover the truth.
    resamples : int
    seed : int

    Returns
    -------
    dict of str to (float, float)
        Of every score of counts per class, and of ``log_loss`` and ``roc_auc``; those that cannot
        be had are left out. Where no image is predicted wrongly (or none rightly) the bootstrap knows no error: then
        the images of a group are taken for one.

    Notes
    -----
    See :func:`wilson_interval`; a score whose lowest and highest value are not 0 and 1 is brought there and back. The
    standard error is the standard deviation over resamples (Efron and Tibshirani, 1993, chapter 6); with groups it is
    at least what their correlation gives: see :func:`design_effect`. The training rows are not drawn anew: it is the
    interval of this trained head's score on further images.
    """
    if not len(true):
        return {}
    drawn = units(groups, len(true))
    generator = np.random.default_rng(seed)
    weights = generator.multinomial(drawn.groups, np.full(drawn.groups, 1 / drawn.groups), size=resamples)
    k = len(class_names)
    # of each group; whole confusion matrices would take gigabytes for some hundred classes
    counts = np.zeros((drawn.groups, 3, k))
    right = true == predicted
    np.add.at(counts[:, 0], (drawn.of_row[right], true[right]), 1)
    np.add.at(counts[:, 1], (drawn.of_row, true), 1)
    np.add.at(counts[:, 2], (drawn.of_row, predicted), 1)
    whole = counts.sum(0)
    resampled = (weights @ counts.reshape(drawn.groups, 3 * k)).reshape(-1, 3, k)
    size, balance = drawn.effective, _balance(np.bincount(true))
    wider = _widening(right, drawn, _deviation(accuracy(resampled)))
    found: dict[str, Interval] = {}
    for name, metric in METRICS.items():
        if not metric.of_probabilities:
            value, deviation = float(metric.measure(whole)), wider * _deviation(metric.measure(resampled))
            of_score = size if name == "accuracy" else size * balance
            found[name] = _bounded_interval(value, deviation, of_score, level, metric.bounds)
    if probabilities is not None:
        tiny = np.finfo(probabilities.dtype).eps
        losses = -np.log(np.clip(probabilities[np.arange(len(true)), true], tiny, 1))
        found["log_loss"] = mean_interval(losses, drawn, level)
        area = _area_interval(true, probabilities, drawn, weights[:_AUC_RESAMPLES], wider, size * balance, level)
        if area is not None:
            found["roc_auc"] = area
    return found


def correlation_within(values: npt.NDArray[np.floating], drawn: Units) -> float:
    """Return how alike the values of a group are, from 0 to 1: the intraclass correlation.

    The analysis-of-variance estimate (Ridout, Demetrio and Firth, 1999, doi:10.1111/j.0006-341X.1999.00137.x). It is 1
    where it cannot be had.
    """
    sizes = np.bincount(drawn.of_row, minlength=drawn.groups).astype(np.float64)
    rows, groups = len(values), drawn.groups
    if groups < 2 or groups == rows:
        return 1.0
    means = drawn.sums(values) / sizes
    between = (sizes * (means - values.mean()) ** 2).sum() / (groups - 1)
    within = ((values - means[drawn.of_row]) ** 2).sum() / (rows - groups)
    typical = (rows - (sizes**2).sum() / rows) / (groups - 1)
    total = between + (typical - 1) * within
    return float(np.clip((between - within) / total, 0, 1)) if total > 0 else 1.0


def design_effect(values: npt.NDArray[np.floating], drawn: Units) -> float:
    """Return how many times as large the variance of a mean is as if its values were independent.

    ``1 + rho (n / effective groups - 1)`` (Kish, 1965, section 5.4). Into ``rho``, :func:`correlation_within`, goes one
    further group, whose values are all alike: ``(m rho + 1) / (m + 1)`` for m groups that hold anything but the
    commonest value. So few groups cannot show that errors do not come together, and without any error a group tells
    no more than one image.
    """
    common, counts = np.unique(values, return_counts=True)
    telling = len(np.unique(drawn.of_row[values != common[counts.argmax()]]))
    correlation = (telling * correlation_within(values, drawn) + 1) / (telling + 1)
    return float(1 + correlation * (len(values) / drawn.effective - 1))


def mean_error(values: npt.NDArray[np.floating], drawn: Units) -> float:
    """Return the standard error of a mean: that of a ratio of sums over groups, at least what their correlation gives.

    The first is Cochran's (1977, section 2.11), the second goes by :func:`design_effect`.
    """
    count = drawn.groups
    residuals = drawn.sums(values - values.mean())
    error = float(np.sqrt(count / max(count - 1, 1) * (residuals**2).sum())) / len(values)
    return max(error, _error_by_correlation(values, drawn))


def _error_by_correlation(values: npt.NDArray[np.floating], drawn: Units) -> float:
    return float(np.sqrt(values.var() / len(values) * design_effect(values, drawn)))


def _widening(right: npt.NDArray[np.bool_], drawn: Units, deviation: float) -> float:
    """Return by which factor the accuracy's standard error by correlation exceeds the bootstrap's, at least 1."""
    if drawn.groups == len(right) or deviation == 0:
        return 1.0
    return max(1.0, _error_by_correlation(right.astype(np.float64), drawn) / deviation)


def wilson_interval(value: float, deviation: float, size: float, level: float = LEVEL) -> Interval:
    """Return the interval of a score from 0 to 1 with the given standard error.

    Wilson's (1927, doi:10.1080/01621459.1927.10502953) for the effective number of images ``value (1 - value) /
    deviation ** 2``, which Franco, Little, Louis and Slud (2019, doi:10.1093/jssam/smy019) found best for shares of
    clustered samples, if that number does not rest on the plain variance alone. A score of exactly 0 or 1 has no
    standard error; it gets the interval of ``size`` images.
    """
    from scipy.stats import norm

    if 0 < value < 1 and deviation > 0:
        size = value * (1 - value) / deviation**2
    square = float(norm.ppf((1 + level) / 2)) ** 2 / size
    centre = (value + square / 2) / (1 + square)
    reach = np.sqrt(square * value * (1 - value) + square**2 / 4) / (1 + square)
    # rounding must not put a score of 0 or 1 outside
    return max(0.0, min(value, float(centre - reach))), min(1.0, max(value, float(centre + reach)))


def _bounded_interval(
    value: float, deviation: float, size: float, level: float, bounds: tuple[float, float]
) -> Interval:
    """Return Wilson's interval of a score between other bounds than 0 and 1."""
    low, high = bounds
    span = high - low
    ends = wilson_interval((value - low) / span, deviation / span, size, level)
    return low + span * ends[0], low + span * ends[1]


def mean_interval(values: npt.NDArray[np.floating], drawn: Units, level: float = LEVEL) -> Interval:
    """Return the interval of the mean of values from 0 on, a few of which may be far greater than the others.

    Student's t over groups, whose skewness is removed by Hall's transformation (1992, On the removal of skewness by
    transformation, Journal of the Royal Statistical Society B 54). Its standard error is :func:`mean_error`.
    """
    from scipy.stats import skew, t

    mean, count, error = float(values.mean()), drawn.groups, mean_error(values, drawn)
    asymmetry = float(np.nan_to_num(skew(drawn.sums(values - mean)))) / np.sqrt(count)
    quantile = float(t.ppf((1 + level) / 2, max(count - 1, 1)))
    reaches = [
        end if asymmetry == 0 else 3 / asymmetry * (np.cbrt(1 + asymmetry * (end - asymmetry / 6)) - 1)
        for end in (quantile, -quantile)
    ]
    return max(0.0, mean - float(reaches[0]) * error), mean - float(reaches[1]) * error


def _balance(sizes: npt.NDArray[np.integer]) -> float:
    """Return for which share of the images a mean over classes counts: 1 when classes have equal sizes.

    The variance of a mean of ``k`` shares of equal variance goes with the sum of ``1 / size`` over ``k ** 2``.
    """
    sizes = sizes[sizes > 0]
    return float(len(sizes) ** 2 / (sizes.sum() * (1 / sizes).sum()))


def _deviation(values: npt.NDArray[np.floating]) -> float:
    values = values[np.isfinite(values)]
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0


def _area_interval(
    true: npt.NDArray[np.intp],
    probabilities: npt.NDArray[np.float64],
    drawn: Units,
    weights: npt.NDArray[np.integer],
    wider: float,
    size: float,
    level: float,
) -> Interval | None:
    """Return the interval of the mean area under the one-vs-rest ROC curves, or None with a single class."""
    from scipy.stats import norm, t

    present = np.unique(true)
    if len(present) < 2:
        return None
    orders = [np.argsort(probabilities[:, index], kind="stable") for index in present]
    one = np.ones((1, len(true)), np.float32)
    whole = float(
        np.mean([_areas(true == c, probabilities[:, c], o, one)[0] for c, o in zip(present, orders, strict=True)])
    )
    means = [
        np.mean(
            [_areas(true == c, probabilities[:, c], o, block) for c, o in zip(present, orders, strict=True)], axis=0
        )
        for block in _of_rows(weights, drawn)
    ]
    # few groups know the standard error badly; a score of two classes has no correlation that would make up for it
    few = float(t.ppf((1 + level) / 2, max(size - 1, 1)) / norm.ppf((1 + level) / 2))
    return wilson_interval(whole, few * wider * _deviation(np.concatenate(means)), size, level)


def _of_rows(weights: npt.NDArray[np.integer], drawn: Units) -> Iterator[npt.NDArray[np.float32]]:
    for start in range(0, len(weights), _BLOCK):
        yield weights[start : start + _BLOCK, drawn.of_row].astype(np.float32)


def _areas(
    positive: npt.NDArray[np.bool_],
    scores: npt.NDArray[np.float64],
    order: npt.NDArray[np.intp],
    weights: npt.NDArray[np.float32],
) -> npt.NDArray[np.float64]:
    """Return the weighted area under the ROC curve for each row of weights, NaN where a side is empty.

    It is the share of pairs of a positive and a negative that are in order, ties for half (Hanley and McNeil, 1982).
    """
    sorted_weights = weights[:, order].astype(np.float64)
    mine = np.where(positive[order], sorted_weights, 0)
    rest = sorted_weights - mine
    ordered = scores[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    mine, rest = np.add.reduceat(mine, starts, axis=1), np.add.reduceat(rest, starts, axis=1)
    below = np.cumsum(rest, axis=1) - rest / 2
    pairs = mine.sum(1) * rest.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        areas: npt.NDArray[np.float64] = (mine * below).sum(1) / pairs
    return np.where(pairs > 0, areas, np.nan)
