"""Samples whose images come in groups, and the standard error of a mean over such a sample.

Images of one group tend to be correct or incorrect together, so the group is the unit that is resampled. If few groups
have all the errors, the sample shows too little of how groups err; then `design_effect` counts.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Interval = tuple[float, float]


class Clusters(NamedTuple):
    """The units that are resampled: the group of every row, intp, shape (t,), from 0, and the number of groups."""

    of_row: npt.NDArray[np.intp]
    groups: int

    @property
    def alone(self) -> bool:
        """True if every group has one row."""
        return self.groups == len(self.of_row)

    @property
    def effective(self) -> float:
        """The number of groups of equal size with the same variance of a mean (Kish, 1965, section 11.7)."""
        sizes = np.bincount(self.of_row, minlength=self.groups)
        return float(sizes.sum() ** 2 / (sizes.astype(np.float64) ** 2).sum())

    def take(self, rows: npt.NDArray[np.intp]) -> Clusters:
        """Return the groups of some rows."""
        return units(None if self.alone else self.of_row[rows], len(rows))

    def sums(self, values: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Return the sum of per-row values, shape (t,) or (t, m), in each group."""
        total = np.zeros((self.groups, *values.shape[1:]))
        np.add.at(total, self.of_row, values)
        return total


def units(groups: npt.NDArray[np.integer] | None, rows: int) -> Clusters:
    """Return the groups as numbers from 0; without groups, every row is one."""
    if groups is None:
        return Clusters(np.arange(rows), rows)
    _, of_row = np.unique(groups, return_inverse=True)
    return Clusters(of_row.astype(np.intp), int(of_row.max(initial=-1)) + 1)


def correlation_within(values: npt.NDArray[np.floating], clusters: Clusters, means: int = 1) -> float:
    """Return the intraclass correlation of the values, from 0 to 1, and 1 if it is undefined."""
    # by analysis of variance (Ridout, Demetrio and Firth, 1999, doi:10.1111/j.0006-341X.1999.00137.x); means that were
    # subtracted from the values, such as one for each class, take degrees of freedom between groups
    sizes = np.bincount(clusters.of_row, minlength=clusters.groups).astype(np.float64)
    rows, groups = len(values), clusters.groups
    if groups <= means or groups == rows:
        return 1.0
    within_groups = clusters.sums(values) / sizes
    between = (sizes * (within_groups - values.mean()) ** 2).sum() / (groups - means)
    within = ((values - within_groups[clusters.of_row]) ** 2).sum() / (rows - groups)
    typical = (rows - means * (sizes**2).sum() / rows) / (groups - means)
    total = between + (typical - 1) * within
    return float(np.clip((between - within) / total, 0, 1)) if total > 0 else 1.0


def count_informative_groups(values: npt.NDArray[np.floating], clusters: Clusters) -> int:
    """Return how many groups have any value but the most frequent one."""
    distinct, counts = np.unique(values, return_counts=True)
    return len(np.unique(clusters.of_row[values != distinct[counts.argmax()]]))


def design_effect(
    values: npt.NDArray[np.floating], clusters: Clusters, *, informative: int | None = None, means: int = 1
) -> float:
    """Return the variance of a mean relative to that of independent values (Kish, 1965, section 5.4)."""
    # averaged with one more group of equal values, since few groups cannot show that errors are independent
    informative = count_informative_groups(values, clusters) if informative is None else informative
    correlation = (informative * correlation_within(values, clusters, means) + 1) / (informative + 1)
    return float(1 + correlation * (len(values) / clusters.effective - 1))


def error_by_correlation(values: npt.NDArray[np.floating], clusters: Clusters) -> float:
    """Return the standard error of a mean by `design_effect`."""
    return float(np.sqrt(values.var() / len(values) * design_effect(values, clusters)))


def error_by_groups(values: npt.NDArray[np.floating], clusters: Clusters, means: int = 1) -> float:
    """Return the standard error of a mean as a ratio of sums over groups (Cochran, 1977, section 2.11)."""
    count = clusters.groups
    residuals = clusters.sums(values - values.mean())
    return float(np.sqrt(count / max(count - means, 1) * (residuals**2).sum())) / len(values)


def mean_error(values: npt.NDArray[np.floating], clusters: Clusters) -> float:
    """Return the standard error of a mean: `error_by_groups`, at least `error_by_correlation`."""
    return max(error_by_groups(values, clusters), error_by_correlation(values, clusters))


def effective_size(correct: npt.NDArray[np.bool_], clusters: Clusters, level: float) -> float:
    """Return the number of independent images that give an interval of a fraction as wide as these groups do."""
    values = correct.astype(np.float64)
    size, fraction = float(len(values)), float(values.mean())
    if clusters.alone:
        return size
    if 0 < fraction < 1:
        size = min(size, fraction * (1 - fraction) / mean_error(values, clusters) ** 2)
    else:
        size = clusters.effective
    # fewer for the unknown variance between groups (Korn and Graubard, 1998, Survey Methodology 24)
    return size * (normal_quantile(level) / quantile(level, clusters)) ** 2


def freedom_of_classes(
    influence: npt.NDArray[np.floating], classes: npt.NDArray[np.integer], clusters: Clusters
) -> float:
    """Return the degrees of freedom of a variance that is the sum of those of several classes."""
    # Satterthwaite, 1946, doi:10.2307/3002019
    _, of_row = np.unique(classes, return_inverse=True)
    variances = np.bincount(of_row, influence**2)
    groups = np.array([clusters.take(np.flatnonzero(of_row == label)).effective for label in range(len(variances))])
    below = float((variances**2 / np.maximum(groups - 1, 1)).sum())
    return float(variances.sum() ** 2 / below) if below > 0 else clusters.effective - len(variances)


def normal_quantile(level: float) -> float:
    """Return the normal quantile of a two-sided interval."""
    from scipy.special import ndtri  # scipy.stats would give the same, and takes long to import

    return float(ndtri((1 + level) / 2))


def quantile(level: float, clusters: Clusters, freedom: float | None = None) -> float:
    """Return Student's quantile of a two-sided interval, by effective groups; the normal one if each has one row."""
    if clusters.alone:
        return normal_quantile(level)
    return t_quantile(level, clusters.effective - 1 if freedom is None else freedom)


def t_quantile(level: float, freedom: float) -> float:
    """Return Student's quantile of a two-sided interval, with at least one degree of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(max(freedom, 1), (1 + level) / 2))
