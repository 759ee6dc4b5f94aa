"""Is one head better than another? Paired tests, intervals of differences, and what the data say in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import numpy.typing as npt

from ...cache import display
from ..shared import Record, Records
from .clusters import Clusters, Interval, mean_error, units
from .intervals import LEVEL

MARGIN = 0.01
"""Heads whose accuracies differ by less, for certain, are practically tied: one percentage point."""

Correct = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class PairedTest(Record):
    """Difference between two heads on the same test images.

    Attributes
    ----------
    difference : float
        Accuracy of the first head minus that of the second.
    low, high : float
        Confidence interval of the difference.
    p : float
        Two-sided.
    test : str
        Name of the significance test.
    discordant : tuple of int
        Number of images that only the first, and only the second, head classifies correctly.
    """

    difference: float
    low: float
    high: float
    p: float
    test: str
    discordant: tuple[int, int]


@dataclass(frozen=True)
class HeadDifference(Record):
    """Comparison of two heads, in the words of a :class:`PairedTest`.

    Attributes
    ----------
    a, b : str
        Names of the heads, the more accurate one first.
    difference, low, high, p, test, discordant
        See :class:`PairedTest`. With folds, the test is that of :func:`compare_folds`.
    p_holm : float
        ``p``, corrected for the number of pairs.
    verdict : {"better", "practically tied", "undecided"}
    text : str
        The result as a sentence without full stop.
    """

    a: str
    b: str
    difference: float
    low: float
    high: float
    p: float
    test: str
    discordant: tuple[int, int]
    p_holm: float
    verdict: str
    text: str


def compare_pair(
    a_correct: Correct, b_correct: Correct, groups: npt.NDArray[np.integer] | None = None, *, level: float = LEVEL
) -> PairedTest:
    """Compare two heads on the same test images.

    Parameters
    ----------
    a_correct, b_correct : ndarray of bool, shape (t,)
        Which images each head classifies rightly.
    groups : ndarray of int, shape (t,), optional
        Images of one group are not independent.
    level : float
        Of the interval.

    Returns
    -------
    PairedTest

    Notes
    -----
    Without groups: McNemar's exact test (1947, doi:10.1007/BF02295996), by the binomial distribution of the discordant
    images; without such images p is 1. With groups: the exact sign-flip test, in which each group's difference is as
    likely to favour one head as the other (Good, 2005, chapter 3); with one image a group it is McNemar's. The interval
    is :func:`difference_interval`, and the test, being exact, decides whether 0 lies in it: where p is below
    ``1 - level`` it ends at 0, where it would go further, and otherwise it is widened as far as 0.
    """
    from scipy.stats import binomtest

    difference = a_correct.astype(np.float64) - b_correct.astype(np.float64)
    discordant = (int((difference > 0).sum()), int((difference < 0).sum()))
    drawn = units(groups, len(difference))
    if drawn.alone:
        test = "McNemar"
        p = float(binomtest(discordant[0], sum(discordant)).pvalue) if sum(discordant) else 1.0
    else:
        test = "sign flips of groups"
        p = sign_flip_p(np.bincount(drawn.of_row, difference, drawn.groups).astype(np.int64))
    mean = float(difference.mean())
    low, high = difference_interval(difference, drawn, level)
    if p >= 1 - level:
        low, high = min(low, 0.0), max(high, 0.0)
    elif mean > 0:
        low = max(low, 0.0)
    else:
        high = min(high, 0.0)
    return PairedTest(mean, low, high, p, test, discordant)


def difference_interval(difference: npt.NDArray[np.float64], drawn: Clusters, level: float = LEVEL) -> Interval:
    """Return the interval of the difference of two accuracies on the same images.

    Parameters
    ----------
    difference : ndarray of float64, shape (t,)
        1 where only the first head is right, -1 where only the second is, 0 elsewhere.
    drawn : Units
    level : float

    Returns
    -------
    (float, float)

    Notes
    -----
    That of Agresti and Min (2005, doi:10.1002/sim.1781): normal, after half an image is added to those that both heads
    classify rightly, that only the first does, that only the second does, and that neither does. So it holds what it
    says where hardly an image tells the heads apart, and has a width where none does. It is that of as many images as
    the groups are worth: so many as have the standard error of :func:`embedonce.evaluate.metrics.clusters.mean_error`.
    """
    from scipy.stats import norm

    rows, variance = len(difference), float(difference.var())
    if drawn.alone:
        images = float(rows)
    elif variance == 0:
        images = drawn.effective
    else:
        unbiased = variance * drawn.groups / max(drawn.groups - 1, 1)  # as the standard error is
        images = min(float(rows), unbiased / mean_error(difference, drawn) ** 2)
    centre = images * float(difference.mean()) / (images + 2)
    discordant = (images * float(np.abs(difference).mean()) + 1) / (images + 2)
    reach = float(norm.ppf((1 + level) / 2)) * float(np.sqrt((discordant - centre**2) / (images + 2)))
    return max(-1.0, centre - reach), min(1.0, centre + reach)


def sign_flip_p(differences: npt.NDArray[np.int64]) -> float:
    """Return the two-sided p of a sum when each term is as likely to have the other sign.

    Parameters
    ----------
    differences : ndarray of int64, shape (g,)

    Returns
    -------
    float
        Exact: the distribution of the sum is that of independent two-point variables, by convolution.
    """
    sizes = np.abs(differences[differences != 0])
    if not len(sizes):
        return 1.0
    # the places of the distribution are the sums from -total to total
    distribution = np.ones(1)
    for size in np.sort(sizes):
        wider = np.zeros(len(distribution) + 2 * size)
        wider[: len(distribution)] += distribution / 2
        wider[-len(distribution) :] += distribution / 2
        distribution = wider
    total = int(sizes.sum())
    reached = abs(int(differences.sum()))
    if reached == 0:
        return 1.0
    return float(min(1.0, 2 * distribution[total + reached :].sum()))


def compare_folds(
    differences: Sequence[float],
    sizes: Sequence[tuple[int, int]],
    discordant: tuple[int, int] = (0, 0),
    *,
    level: float = LEVEL,
) -> PairedTest:
    """Compare two heads by their accuracies on the folds of a cross-validation.

    Parameters
    ----------
    differences : sequence of float
        Accuracy of a less that of b on every fold of every repeat.
    sizes : sequence of (int, int)
        Training and test images of each.
    discordant : tuple of int, default=(0, 0)
        See :class:`PairedTest`.
    level : float, default=0.95
        Confidence level of the interval.

    Returns
    -------
    PairedTest
        ``difference`` is the mean of the differences.

    Notes
    -----
    The corrected resampled t test of Nadeau and Bengio (2003, doi:10.1023/A:1024068626366): folds share training
    images, so the variance of the mean is ``(1 / J + n_test / n_train)`` times that of a fold, with J - 1 degrees of
    freedom. Where all J folds differ by the very same amount there is no variance to test with; p is then that of J
    signs that all agree, ``2 ** (1 - J)``.
    """
    from scipy.stats import t

    values = np.asarray(differences, np.float64)
    count = len(values)
    mean = float(values.mean())
    ratio = float(np.mean([test / train for train, test in sizes]))
    error = float(np.sqrt((1 / count + ratio) * values.var(ddof=1)))
    reach = float(t.ppf((1 + level) / 2, count - 1)) * error
    if error > 1e-12:
        p = float(2 * t.sf(abs(mean) / error, count - 1))
    else:
        p = 1.0 if abs(mean) < 1e-12 else 2.0 ** (1 - count)
    return PairedTest(mean, mean - reach, mean + reach, p, "corrected resampled t", discordant)


def holm(p_values: Sequence[float]) -> npt.NDArray[np.float64]:
    """Return p values that are adjusted for their number by Holm's step-down method.

    Parameters
    ----------
    p_values : sequence of float

    Returns
    -------
    ndarray of float64
        ``max over j <= i of min(1, (m - j + 1) p_(j))`` for the i-th smallest of m (Holm, 1979,
        https://www.jstor.org/stable/4615733), in the order given.
    """
    values = np.asarray(p_values, np.float64)
    order = np.argsort(values, kind="stable")
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)))
    return adjusted


def compare_all(
    names: Sequence[str],
    correct: Mapping[str, Correct],
    groups: npt.NDArray[np.integer] | None = None,
    folds: Mapping[str, Sequence[float]] | None = None,
    sizes: Sequence[tuple[int, int]] | None = None,
    *,
    margin: float = MARGIN,
    level: float = LEVEL,
) -> Records[HeadDifference]:
    """Compare every two heads.

    Parameters
    ----------
    names : sequence of str
    correct : mapping of str to ndarray of bool, shape (t,)
        Test images that each head classifies correctly.
    groups : ndarray of int, shape (t,), default=None
    folds : mapping of str to sequence of float, default=None
        Accuracy on every fold; then the test is :func:`compare_folds`.
    sizes : sequence of (int, int), default=None
        Training and test images of each fold.
    margin : float, default=0.01
        Accuracies that certainly differ by less are practically tied.
    level : float, default=0.95

    Returns
    -------
    Records of HeadDifference
        The verdict is ``better`` when ``p_holm`` is below ``1 - level``, otherwise ``practically tied`` when the
        interval lies within the margin, otherwise ``undecided``.
    """
    pairs, tests = [], []
    for one, two in combinations(names, 2):
        means = {name: np.mean(correct[name] if folds is None else folds[name]) for name in (one, two)}
        a, b = (one, two) if means[one] >= means[two] else (two, one)
        test = compare_pair(correct[a], correct[b], groups, level=level)
        if folds is not None and sizes is not None:
            test = compare_folds(np.subtract(folds[a], folds[b]).tolist(), sizes, test.discordant, level=level)
        pairs.append((a, b))
        tests.append(test)
    differences = []
    for (a, b), test, adjusted in zip(pairs, tests, holm([test.p for test in tests]).tolist(), strict=True):
        if adjusted < 1 - level:
            verdict = "better"
        elif max(abs(test.low), abs(test.high)) <= margin:
            verdict = "practically tied"
        else:
            verdict = "undecided"
        found = HeadDifference(a, b, **test.to_dict(), p_holm=adjusted, verdict=verdict, text="")
        differences.append(replace(found, text=verdict_text(found, level)))
    return Records(differences)


def verdict_text(found: HeadDifference, level: float = LEVEL) -> str:
    """Return the result of a comparison of two heads as a sentence without full stop."""
    a, b = display(found.a), display(found.b)
    ends = f"{100 * found.low:+.1f} to {100 * found.high:+.1f}"
    p = "p < 0.001" if found.p_holm < 0.001 else f"p = {found.p_holm:.2g}"
    numbers = f"{100 * found.difference:.1f} points, {100 * level:.0f} % interval {ends}, {p}"
    if found.verdict == "better":
        return f"{a} is better than {b} ({numbers})"
    if found.verdict == "practically tied":
        return f"{a} and {b} are practically tied ({numbers})"
    return f"no significant difference between {a} and {b} ({numbers})"
