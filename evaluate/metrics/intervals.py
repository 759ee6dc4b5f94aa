"""Confidence intervals of scores by bootstrap over groups.

The interval is Wilson's for the number of images that would give the standard error of the bootstrap, since scores near
1 are far from normally distributed. In simulation (``benchmarks/statistics.py``) its coverage is nominal, also where
the percentile interval covers the truth in two of three cases or fewer.
"""

from __future__ import annotations

import warnings

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
    """Return confidence intervals of the scores of `score`, by name; those without an interval are left out."""
    # rows of one group are resampled together (Field and Welsh, 2007, doi:10.1111/j.1467-9868.2007.00593.x); training
    # rows are not resampled: it is the interval of the score of this trained head on further images
    if not len(true):
        return {}
    clusters = units(groups, len(true))
    generator = np.random.default_rng(seed)
    k = len(class_names)
    # per group; whole confusion matrices would take gigabytes for some hundred classes
    counts = np.zeros((clusters.groups, 3, k))
    correct = true == predicted
    np.add.at(counts[:, 0], (clusters.of_row[correct], true[correct]), 1)
    np.add.at(counts[:, 1], (clusters.of_row, true), 1)
    np.add.at(counts[:, 2], (clusters.of_row, predicted), 1)
    whole = counts.sum(0)
    # groups of equal counts are resampled as one kind, with the same result but faster: single images have k^2 kinds
    kinds, of_kind = np.unique(counts.reshape(clusters.groups, 3 * k), axis=0, return_counts=True)
    weights = generator.multinomial(clusters.groups, of_kind / clusters.groups, size=resamples)
    resampled = (weights @ kinds).reshape(-1, 3, k)
    size, balance = clusters.effective, _balance(np.bincount(true))
    wider = _widening(correct, clusters, _deviation(accuracy(resampled)))
    intervals: dict[str, Interval] = {}
    for name, metric in METRICS.items():
        if not metric.of_probabilities:
            value, deviation = float(metric.measure(whole)), wider * _deviation(metric.measure(resampled))
            of_score = size if name == "accuracy" else size * balance
            intervals[name] = _bounded_interval(value, deviation, of_score, level, metric.bounds)
    if probabilities is not None:
        tiny = np.finfo(probabilities.dtype).eps
        losses = -np.log(np.clip(probabilities[np.arange(len(true)), true], tiny, 1))
        intervals["log_loss"] = mean_interval(losses, clusters, level)
        area = area_interval(true, probabilities, clusters, level)
        if area is not None:
            intervals["roc_auc"] = area
    return intervals


def _widening(correct: npt.NDArray[np.bool_], clusters: Clusters, deviation: float) -> float:
    """Return the ratio of the accuracy's standard error by correlation to that of the bootstrap, at least 1."""
    if clusters.alone or deviation == 0:
        return 1.0
    return max(1.0, error_by_correlation(correct.astype(np.float64), clusters) / deviation)


def wilson_interval(value: float, deviation: float, size: float, level: float = LEVEL) -> Interval:
    """Return the interval of a score from 0 to 1; exactly 0 or 1 gets that of ``size`` images."""
    # Wilson (1927, doi:10.1080/01621459.1927.10502953) for the effective number of images, which is best for clustered
    # samples (Franco, Little, Louis and Slud, 2019, doi:10.1093/jssam/smy019)
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


def mean_interval(values: npt.NDArray[np.floating], clusters: Clusters, level: float = LEVEL) -> Interval:
    """Return the interval of the mean of values of at least 0, of which a few may be far greater than the others."""
    # Student's t over groups after Hall's transformation (1992, On the removal of skewness by transformation, Journal
    # of the Royal Statistical Society B 54); mean and skewness take one degree of freedom each
    from scipy.stats import skew, t

    mean, error = float(values.mean()), mean_error(values, clusters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of values that are nearly equal
        asymmetry = float(np.nan_to_num(skew(clusters.sums(values - mean)))) / np.sqrt(clusters.groups)
    quantile = float(t.ppf((1 + level) / 2, max(clusters.effective - 2, 1)))
    reaches = [
        end if asymmetry == 0 else 3 / asymmetry * (np.cbrt(1 + asymmetry * (end - asymmetry / 6)) - 1)
        for end in (quantile, -quantile)
    ]
    return max(0.0, mean - float(reaches[0]) * error), mean - float(reaches[1]) * error


def _balance(sizes: npt.NDArray[np.integer]) -> float:
    """Return the fraction of the images that counts in a mean over classes: 1 if classes have equal sizes."""
    sizes = sizes[sizes > 0]
    return float(len(sizes) ** 2 / (sizes.sum() * (1 / sizes).sum()))


def _deviation(values: npt.NDArray[np.floating]) -> float:
    values = values[np.isfinite(values)]
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0
