"""Samples whose images come in groups: what is independent, and how much a mean over such a sample tells.

Images of one group (copies of one original, tissue of one patient) are right or wrong together, so that a group is the
unit that is drawn; without groups, every image is one. Where few groups hold all the errors the sample knows too little
of how groups err; then what the correlation within groups gives counts (:func:`design_effect`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Interval = tuple[float, float]


class Clusters(NamedTuple):
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
    def alone(self) -> bool:
        """Whether every row is a group of its own."""
        return self.groups == len(self.of_row)

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


def units(groups: npt.NDArray[np.integer] | None, rows: int) -> Clusters:
    """Return the groups as numbers from 0 on; without groups, every row is one."""
    if groups is None:
        return Clusters(np.arange(rows), rows)
    _, of_row = np.unique(groups, return_inverse=True)
    return Clusters(of_row.astype(np.intp), int(of_row.max(initial=-1)) + 1)


def correlation_within(values: npt.NDArray[np.floating], drawn: Clusters, means: int = 1) -> float:
    """Return how alike the values of a group are, from 0 to 1: the intraclass correlation.

    The analysis-of-variance estimate (Ridout, Demetrio and Firth, 1999, doi:10.1111/j.0006-341X.1999.00137.x). It is 1
    where it cannot be had. Values of which several means were taken away, one for each class of images, say, have so
    many degrees of freedom less between groups.
    """
    sizes = np.bincount(drawn.of_row, minlength=drawn.groups).astype(np.float64)
    rows, groups = len(values), drawn.groups
    if groups <= means or groups == rows:
        return 1.0
    within_groups = drawn.sums(values) / sizes
    between = (sizes * (within_groups - values.mean()) ** 2).sum() / (groups - means)
    within = ((values - within_groups[drawn.of_row]) ** 2).sum() / (rows - groups)
    typical = (rows - means * (sizes**2).sum() / rows) / (groups - means)
    total = between + (typical - 1) * within
    return float(np.clip((between - within) / total, 0, 1)) if total > 0 else 1.0


def count_informative_groups(values: npt.NDArray[np.floating], drawn: Clusters) -> int:
    """Return how many groups hold anything but the commonest value."""
    common, counts = np.unique(values, return_counts=True)
    return len(np.unique(drawn.of_row[values != common[counts.argmax()]]))


def design_effect(
    values: npt.NDArray[np.floating], drawn: Clusters, *, telling: int | None = None, means: int = 1
) -> float:
    """Return how many times as large the variance of a mean is as if its values were independent.

    ``1 + rho (n / effective groups - 1)`` (Kish, 1965, section 5.4). Into ``rho``, :func:`correlation_within`, goes one
    further group, whose values are all alike: ``(m rho + 1) / (m + 1)`` for m telling groups, by default those that
    hold anything but the commonest value. So few groups cannot show that errors do not come together, and without any
    error a group tells no more than one image.
    """
    telling = count_informative_groups(values, drawn) if telling is None else telling
    correlation = (telling * correlation_within(values, drawn, means) + 1) / (telling + 1)
    return float(1 + correlation * (len(values) / drawn.effective - 1))


def error_by_correlation(values: npt.NDArray[np.floating], drawn: Clusters) -> float:
    """Return the standard error of a mean that goes by :func:`design_effect`."""
    return float(np.sqrt(values.var() / len(values) * design_effect(values, drawn)))


def error_by_groups(values: npt.NDArray[np.floating], drawn: Clusters, means: int = 1) -> float:
    """Return the standard error of a mean as a ratio of sums over groups (Cochran, 1977, section 2.11)."""
    count = drawn.groups
    residuals = drawn.sums(values - values.mean())
    return float(np.sqrt(count / max(count - means, 1) * (residuals**2).sum())) / len(values)


def mean_error(values: npt.NDArray[np.floating], drawn: Clusters) -> float:
    """Return the standard error of a mean: :func:`error_by_groups`, at least :func:`error_by_correlation`."""
    return max(error_by_groups(values, drawn), error_by_correlation(values, drawn))
