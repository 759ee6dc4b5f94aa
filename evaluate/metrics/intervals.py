"""Confidence intervals of scores.

The accuracy has Wilson's interval for an effective number of images. Balanced accuracy, macro F1 and Matthews's
correlation are functions of the confusion matrix, and have the quantiles of their posterior distribution, in which each
class has its own effective number of images. If a few groups have many errors, as large ones that are harder have, such
intervals end too high; the more groups differ in size, the more a lower end that knows the skewness counts. In
simulation (``benchmarks/statistics.py``) coverage is nominal for classes of equal and of very different sizes, with and
without groups.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .clusters import (
    Clusters,
    Interval,
    count_informative_groups,
    effective_size,
    freedom_of_classes,
    mean_error,
    normal_quantile,
    t_quantile,
    units,
)
from .metrics import METRICS, losses
from .roc_auc_interval import Areas, area_interval
from .score_contributions import contributions, contributions_by_jackknife

LEVEL = 0.95
DRAWS = 2000
_JEFFREYS = 2 / 3


def score_intervals(
    true: npt.NDArray[np.intp],
    predicted: npt.NDArray[np.intp],
    probabilities: npt.NDArray[np.float64] | None,
    class_names: list[str],
    groups: npt.NDArray[np.integer] | None = None,
    *,
    level: float = LEVEL,
    seed: int = 0,
) -> dict[str, Interval]:
    """Return confidence intervals of the scores of `score`, by name; those without an interval are left out."""
    # training rows are not resampled: it is the interval of the score of this trained head on further images
    if not len(true):
        return {}
    clusters = units(groups, len(true))
    correct = true == predicted
    intervals = {
        "accuracy": accuracy_interval(correct, clusters, level),
        "balanced_accuracy": balanced_accuracy_interval(correct, true, clusters, level, seed),
    }
    counts = np.stack([np.bincount(rows, minlength=len(class_names)) for rows in (true[correct], true, predicted)])
    drawn = _draw_counts(true, predicted, len(class_names), clusters, level, seed)
    for name, metric in METRICS.items():
        if not metric.of_probabilities and name not in intervals:
            value = float(metric.measure(counts.astype(np.float64)))
            values = contributions_by_jackknife(metric.measure, counts.astype(np.float64), true, predicted)
            interval = _between(metric.measure(drawn), value, level)
            intervals[name] = _skewed(interval, values, clusters, level, true, metric.bounds[0])
    if probabilities is not None:
        intervals["log_loss"] = mean_interval(losses(true, probabilities), clusters, level)
        if np.ptp(true) > 0:
            areas = Areas.of(true, probabilities)
            area = area_interval(areas, clusters, level)
            intervals["roc_auc"] = _skewed(area, areas.contributions(), clusters, level, true)
    return intervals


def class_intervals(
    true: npt.NDArray[np.intp],
    predicted: npt.NDArray[np.intp],
    classes: int,
    groups: npt.NDArray[np.integer] | None = None,
    level: float = LEVEL,
) -> list[dict[str, Interval | None]]:
    """Return intervals of precision, recall, F1 and specificity of every class, None where the score has no images."""
    clusters = units(groups, len(true))

    def fraction(correct: npt.NDArray[np.bool_], among: npt.NDArray[np.bool_]) -> Interval | None:
        if not among.any():
            return None
        return accuracy_interval(correct[among], clusters.take(np.flatnonzero(among)), level)

    def f1(jaccard: float) -> float:
        return 2 * jaccard / (1 + jaccard)

    intervals = []
    for index in range(classes):
        own, answer = true == index, predicted == index
        # F1 is a function of Jaccard's index, which is a fraction of the images of either kind
        jaccard = fraction(own & answer, own | answer) if own.any() else None
        intervals.append(
            {
                "precision": fraction(own, answer),
                "recall": fraction(answer, own),
                "f1": None if jaccard is None else (f1(jaccard[0]), f1(jaccard[1])),
                "specificity": fraction(~answer, ~own),
            }
        )
    return intervals


def accuracy_interval(
    correct: npt.NDArray[np.bool_], clusters: Clusters, level: float = LEVEL, *, skewed: bool = True
) -> Interval:
    """Return the interval of the fraction that is correct; differences do not share its skewness."""
    interval = wilson_interval(float(correct.mean()), effective_size(correct, clusters, level), level)
    return _skewed(interval, contributions(correct), clusters, level) if skewed else interval


def wilson_interval(fraction: float, size: float, level: float = LEVEL) -> Interval:
    """Return Wilson's interval of a fraction of ``size`` independent images."""
    # Wilson (1927, doi:10.1080/01621459.1927.10502953) for the effective number of images, which is best for clustered
    # samples (Franco, Little, Louis and Slud, 2019, doi:10.1093/jssam/smy019)
    square = normal_quantile(level) ** 2 / size
    centre = (fraction + square / 2) / (1 + square)
    reach = np.sqrt(square * fraction * (1 - fraction) + square**2 / 4) / (1 + square)
    # rounding must not put a fraction of 0 or 1 outside
    return max(0.0, min(fraction, float(centre - reach))), min(1.0, max(fraction, float(centre + reach)))


def balanced_accuracy_interval(
    correct: npt.NDArray[np.bool_],
    true: npt.NDArray[np.intp],
    clusters: Clusters,
    level: float = LEVEL,
    seed: int = 0,
    *,
    skewed: bool = True,
) -> Interval:
    """Return the interval of the mean recall of the classes that occur; differences do not share its skewness."""
    # the posterior of the mean recall: Brodersen, Ong, Stephan and Buhmann, 2010, doi:10.1109/ICPR.2010.764
    generator = np.random.default_rng(seed)
    classes = _recalls(correct, true, clusters, level)
    total = np.zeros(DRAWS)
    for one in classes:
        total += generator.beta(one.right, one.wrong, DRAWS)
    interval = _between(total / len(classes), float(np.mean([one.recall for one in classes])), level)
    return _skewed(interval, contributions(correct, true), clusters, level, true) if skewed else interval


class _Recall(NamedTuple):
    """The recall of a class and its posterior, a beta distribution of the numbers ``right`` and ``wrong``."""

    label: int
    rows: npt.NDArray[np.intp]
    recall: float
    size: float  # the effective number of its images
    right: float
    wrong: float


def _recalls(
    correct: npt.NDArray[np.bool_], true: npt.NDArray[np.intp], clusters: Clusters, level: float
) -> list[_Recall]:
    """Return the recall of every class that occurs."""
    parts = {int(label): np.flatnonzero(true == label) for label in np.unique(true)}
    recalls = {label: float(correct[rows].mean()) for label, rows in parts.items()}
    # Jeffreys's prior of one image in each class would outweigh many small classes: with several classes, a part of
    # it is an image like the others. How many classes determine the mean is Kish's number, as for groups
    weights = np.array([1 / len(rows) for rows in parts.values()])
    several = float(weights.sum() ** 2 / (weights**2).sum())
    mean = float(np.average(list(recalls.values()), weights=weights))
    prior = mean + (0.5 - mean) * several**-_JEFFREYS
    together = _covariance_between(contributions(correct, true), true, clusters)
    found = []
    for label, rows in parts.items():
        size, recall = effective_size(correct[rows], clusters.take(rows), level) / together, recalls[label]
        found.append(_Recall(label, rows, recall, size, size * recall + prior, size * (1 - recall) + 1 - prior))
    return found


def _covariance_between(values: npt.NDArray[np.float64], classes: npt.NDArray[np.intp], clusters: Clusters) -> float:
    """Return the variance of the mean of values over that without covariance between the classes of a group."""
    residuals = values - values.mean()
    of_group = clusters.sums(residuals)
    _, of_pair = np.unique(clusters.of_row * (classes.max() + 1) + classes, return_inverse=True)
    apart = float((np.bincount(of_pair, residuals) ** 2).sum())
    together = float((of_group**2).sum())
    if len(of_group) == of_pair.max() + 1 or apart == 0:
        return 1.0
    informative = count_informative_groups(values, clusters)
    return (informative * together / apart + 1) / (informative + 1)


def _draw_counts(
    true: npt.NDArray[np.intp], predicted: npt.NDArray[np.intp], k: int, clusters: Clusters, level: float, seed: int
) -> npt.NDArray[np.float64]:
    """Draw `Counts` of the classes that occur or are predicted from the posterior of the confusion matrix."""
    # Dirichlet's distribution (Caelen, 2017, doi:10.1007/s10472-017-9564-8), as gamma distributed cells; a whole
    # matrix would take gigabytes for some hundred classes
    generator = np.random.default_rng(seed)
    seen = np.union1d(true, predicted)
    right, of_class, named = drawn = np.zeros((3, len(seen), DRAWS))
    everywhere = np.zeros(DRAWS)
    for one in _recalls(true == predicted, true, clusters, level):
        scale = one.size / len(one.rows)
        own = int(np.searchsorted(seen, one.label))
        cells = np.bincount(np.searchsorted(seen, predicted[one.rows]), minlength=len(seen)) * scale
        cells[own] = 0
        confused = np.flatnonzero(cells)
        prior = (one.wrong - cells.sum()) / max(len(seen) - 1, 1)  # in each cell of errors
        right[own] = generator.gamma(one.right, size=DRAWS) / scale
        wrong = generator.gamma(cells[confused, None] + prior, size=(len(confused), DRAWS)) / scale
        without = max(len(seen) - 1 - len(confused), 0)
        rest = generator.gamma(prior * without, size=DRAWS) / scale if without else np.zeros(DRAWS)
        of_class[own] = right[own] + wrong.sum(0) + rest
        named[own] += right[own]
        named[confused] += wrong
        # the rest is spread over the classes that no image of this one is taken for
        everywhere += rest / max(without, 1)
        named[[own, *confused]] -= rest / max(without, 1)
    named += everywhere
    return np.moveaxis(drawn, -1, 0)


def _between(drawn: npt.NDArray[np.float64], value: float, level: float) -> Interval:
    """Return the quantiles of the drawn scores, with the measured one between them."""
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return min(low, value), max(high, value)


def _skewed(
    interval: Interval,
    values: npt.NDArray[np.float64],
    clusters: Clusters,
    level: float,
    classes: npt.NDArray[np.intp] | None = None,
    least: float = 0.0,
) -> Interval:
    """Return an interval of a score, the lower end moved to that of `mean_interval`, the more groups differ in size."""
    low, high = interval
    unequal = min(1.0, 2 * (1 - clusters.effective / clusters.groups)) ** 2
    if unequal == 0:
        return interval
    freedom = None if classes is None else freedom_of_classes(values - values.mean(), classes, clusters)
    lower = max(least, 1 - mean_interval(1 - values, clusters, level, freedom)[1])
    return min(low, low + unequal * (lower - low)), high


def _asymmetry(values: npt.NDArray[np.floating], clusters: Clusters) -> float:
    """Return the skewness of a mean."""
    sums = clusters.sums(values - values.mean())
    sums -= sums.mean()
    variance = float((sums**2).mean())
    # of values that are equal but for rounding it is 0
    if variance <= np.finfo(np.float64).eps ** 2 * float((values**2).mean()):
        return 0.0
    return float((sums**3).mean()) / (variance * math.sqrt(variance * clusters.groups))


def _reach(end: float, asymmetry: float) -> float:
    """Return how many standard errors a mean is from its end at a quantile, by Hall's transformation."""
    # Hall, 1992, On the removal of skewness by transformation, Journal of the Royal Statistical Society B 54
    if asymmetry == 0:
        return end
    return float(3 / asymmetry * (np.cbrt(1 + asymmetry * (end - asymmetry / 6)) - 1))


def mean_interval(
    values: npt.NDArray[np.floating], clusters: Clusters, level: float = LEVEL, freedom: float | None = None
) -> Interval:
    """Return the interval of the mean of values of at least 0, of which a few may be far greater than the others."""
    low, high = skewed_interval(values, clusters, level, freedom)
    return max(0.0, low), high


def skewed_interval(
    values: npt.NDArray[np.floating], clusters: Clusters, level: float = LEVEL, freedom: float | None = None
) -> Interval:
    """Return the interval of the mean of values that may be skewed."""
    # Student's t over groups after Hall's transformation; mean and skewness take one degree of freedom each
    mean, error, asymmetry = float(values.mean()), mean_error(values, clusters), _asymmetry(values, clusters)
    end = t_quantile(level, (clusters.effective - 1 if freedom is None else freedom) - 1)
    return mean - _reach(end, asymmetry) * error, mean - _reach(-end, asymmetry) * error
