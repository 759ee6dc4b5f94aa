"""Confidence intervals of scores by bootstrap over groups.

The group is what is drawn anew, see :mod:`embedonce.evaluate.metrics.clusters`. The bootstrap gives the standard
error, at least that which the correlation within groups gives. The interval is Wilson's for as many images as would
give that standard error, since scores near 1 are far from normally distributed. In simulation
(``benchmarks/statistics.py``) that covers what it says, also where the interval between the bootstrap's own
percentiles covers the truth in two of three cases or fewer. Areas under the ROC curve have an interval of their own
kind: :mod:`embedonce.evaluate.metrics.roc_auc_interval`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .clusters import Clusters, Interval, error_by_correlation, mean_error, units
from .metrics import METRICS, accuracy
from .roc_auc_interval import area_interval

LEVEL = 0.95
RESAMPLES = 2000


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
    """Return confidence intervals of the scores of :func:`embedonce.evaluate.metrics.metrics.score`.

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
    at least what their correlation gives: see :func:`embedonce.evaluate.metrics.clusters.design_effect`. The training
    rows are not drawn anew: it is the interval of this trained head's score on further images.
    """
    if not len(true):
        return {}
    drawn = units(groups, len(true))
    generator = np.random.default_rng(seed)
    k = len(class_names)
    # of each group; whole confusion matrices would take gigabytes for some hundred classes
    counts = np.zeros((drawn.groups, 3, k))
    right = true == predicted
    np.add.at(counts[:, 0], (drawn.of_row[right], true[right]), 1)
    np.add.at(counts[:, 1], (drawn.of_row, true), 1)
    np.add.at(counts[:, 2], (drawn.of_row, predicted), 1)
    whole = counts.sum(0)
    # groups of the same counts are drawn as one kind, which is the same and much quicker: images alone are of k^2 kinds
    kinds, of_kind = np.unique(counts.reshape(drawn.groups, 3 * k), axis=0, return_counts=True)
    weights = generator.multinomial(drawn.groups, of_kind / drawn.groups, size=resamples)
    resampled = (weights @ kinds).reshape(-1, 3, k)
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
        area = area_interval(true, probabilities, drawn, level)
        if area is not None:
            found["roc_auc"] = area
    return found


def _widening(right: npt.NDArray[np.bool_], drawn: Clusters, deviation: float) -> float:
    """Return by which factor the accuracy's standard error by correlation exceeds the bootstrap's, at least 1."""
    if drawn.alone or deviation == 0:
        return 1.0
    return max(1.0, error_by_correlation(right.astype(np.float64), drawn) / deviation)


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


def mean_interval(values: npt.NDArray[np.floating], drawn: Clusters, level: float = LEVEL) -> Interval:
    """Return the interval of the mean of values from 0 on, a few of which may be far greater than the others.

    Student's t over groups, whose skewness is removed by Hall's transformation (1992, On the removal of skewness by
    transformation, Journal of the Royal Statistical Society B 54). Its standard error is
    :func:`embedonce.evaluate.metrics.clusters.mean_error`. The mean and the skewness take a degree of freedom each
    from as many as there are effective groups.
    """
    from scipy.stats import skew, t

    mean, error = float(values.mean()), mean_error(values, drawn)
    asymmetry = float(np.nan_to_num(skew(drawn.sums(values - mean)))) / np.sqrt(drawn.groups)
    quantile = float(t.ppf((1 + level) / 2, max(drawn.effective - 2, 1)))
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
