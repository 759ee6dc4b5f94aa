"""Differences between heads: paired tests, intervals, and their result in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import numpy.typing as npt

from ...cache import display
from ..shared import Record, Records, format_p
from .clusters import Clusters, Interval, normal_quantile, t_quantile, units
from .intervals import LEVEL, accuracy_interval, balanced_accuracy_interval
from .metrics import METRICS
from .score_contributions import contributions, weights

MARGIN = 0.01
"""Heads whose accuracies certainly differ by less are practically tied: one percentage point."""

_GRID = 4_000

Correct = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class PairedTest(Record):
    """Difference between two heads on the same test images.

    Attributes
    ----------
    metric : str
        Score that is compared: ``accuracy`` or ``balanced_accuracy``.
    difference : float
        Score of the first head minus that of the second.
    low, high : float
        Confidence interval of the difference.
    p : float
        Two-sided.
    test : str
        Name of the significance test.
    discordant : tuple of int
        Number of images that only the first, and only the second, head classifies correctly.
    """

    metric: str
    difference: float
    low: float
    high: float
    p: float
    test: str
    discordant: tuple[int, int]


@dataclass(frozen=True)
class HeadDifference(Record):
    """Paired test of heads ``a`` and ``b``, the better one by ``metric`` first; ``p_holm`` is corrected for the pairs.

    ``verdict`` is "better", "practically tied" or "undecided", and ``text`` the result as a sentence.
    """

    a: str
    b: str
    metric: str
    difference: float
    low: float
    high: float
    p: float
    test: str
    discordant: tuple[int, int]
    p_holm: float  # corrected for the number of pairs
    verdict: str  # better, practically tied or undecided
    text: str


def compare_pair(
    a_correct: Correct,
    b_correct: Correct,
    groups: npt.NDArray[np.integer] | None = None,
    classes: npt.NDArray[np.intp] | None = None,
    *,
    level: float = LEVEL,
) -> PairedTest:
    """Compare two heads by which images each classifies correctly, bool, shape (t,).

    With the true ``classes``, shape (t,), their balanced accuracies are compared instead of their accuracies.
    """
    # sign flips suppose that the errors of two equally good heads are distributed alike; if one errs on single images
    # and the other on whole groups they find a difference too often, so the interval has to find it as well
    clusters = units(groups, len(a_correct))
    a, b = a_correct.astype(np.float64), b_correct.astype(np.float64)
    discordant = (int((a > b).sum()), int((a < b).sum()))
    difference = float(contributions(a - b, classes).mean())
    low, high = _difference_interval(a_correct, b_correct, clusters, classes, level)
    p = sign_flip_p(_on_grid(clusters.sums(weights(classes, len(a)) * (a - b))))
    p = max(p, p_of_interval(difference, (low, high), level))
    if p >= 1 - level:  # the exact test may need more than the interval
        low, high = min(low, 0.0), max(high, 0.0)
    test = f"sign flips of {'images' if clusters.alone else 'groups'}"
    test = "McNemar" if clusters.alone and classes is None else test
    return PairedTest(_metric(classes), difference, low, high, p, f"{test} and score interval", discordant)


def _metric(classes: npt.NDArray[np.intp] | None) -> str:
    return "accuracy" if classes is None else "balanced_accuracy"


def _difference_interval(
    a: Correct, b: Correct, clusters: Clusters, classes: npt.NDArray[np.intp] | None, level: float
) -> Interval:
    """Return the interval of the difference of two scores on the same images."""
    # from the intervals of both scores and their correlation (Zou and Donner, 2008, doi:10.1002/sim.3095; for one
    # image a group Newcombe, 1998, doi:10.1002/(SICI)1097-0258(19981130)17:22<2635::AID-SIM954>3.0.CO;2-C)
    values, ends, sums, wrong = [], [], [], []
    for correct in (a, b):
        of_row = contributions(correct, classes)
        values.append(float(of_row.mean()))
        if classes is None:
            ends.append(accuracy_interval(correct, clusters, level, skewed=False))
        else:
            ends.append(balanced_accuracy_interval(correct, classes, clusters, level, skewed=False))
        sums.append(clusters.sums(of_row - of_row.mean()))
        wrong.append(len(np.unique(clusters.of_row[~correct])))
    low, high = interval_of_correlated(values, ends, sums, min(wrong))
    return max(-1.0, low), min(1.0, high)


def interval_of_correlated(
    values: Sequence[float], ends: Sequence[Interval], sums: Sequence[npt.NDArray[np.float64]], informative: int
) -> Interval:
    """Return the interval of the first of two values less the second, from both intervals and sums over groups.

    ``informative`` is the number of groups that show how the values are correlated.
    """
    products = np.array(sums) @ np.array(sums).T
    scale = float(np.sqrt(products[0, 0] * products[1, 1]))
    # as if the errors of one more group were not shared: few groups cannot show a perfect correlation
    shared = float(products[0, 1]) / scale * informative / (informative + 1) if scale > 0 else 0.0

    def reach(one: float, two: float) -> float:
        return float(np.sqrt(max(one**2 + two**2 - 2 * shared * one * two, 0.0)))

    difference = values[0] - values[1]
    low = difference - reach(values[0] - ends[0][0], ends[1][1] - values[1])
    return low, difference + reach(ends[0][1] - values[0], values[1] - ends[1][0])


def p_of_interval(difference: float, interval: Interval, level: float) -> float:
    """Return the p value of no difference that follows from the end of an interval next to 0."""
    from scipy.special import ndtr

    towards_zero = difference - interval[0] if difference > 0 else interval[1] - difference
    if towards_zero <= 0:
        return 0.0
    return float(2 * ndtr(-abs(difference) / towards_zero * normal_quantile(level)))


def _on_grid(sums: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return the sums as integers: those of accuracies as they are, weighted ones in parts of their total."""
    if (sums == sums.round()).all():
        return sums.astype(np.int64)
    parts = _GRID + 4 * np.count_nonzero(sums)
    grid: npt.NDArray[np.int64] = (sums * (parts / np.abs(sums).sum())).round().astype(np.int64)
    return grid


def sign_flip_p(differences: npt.NDArray[np.int64]) -> float:
    """Return the exact two-sided p of a sum of random signs, int64; McNemar's for differences of one (Good, 2005)."""
    sizes, counts = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    total, reached = int((sizes * counts).sum()), abs(int(differences.sum()))
    if reached == 0:
        return 1.0
    # the characteristic function of the sum is a product of cosines, and the sums go from -total to total
    length = 2 * total + 1
    cosines = np.cos(2 * np.pi * np.arange(length) / length)
    characteristic = np.ones(length)
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        characteristic *= cosines[np.arange(length) * size % length] ** count
    distribution = np.fft.fft(characteristic).real / length
    return float(np.clip(2 * distribution[reached : total + 1].sum(), 0.0, 1.0))


def compare_folds(
    differences: Sequence[float],
    sizes: Sequence[tuple[int, int]],
    pooled: PairedTest,
    *,
    level: float = LEVEL,
    bounds: Interval = (-1.0, 1.0),
) -> PairedTest:
    """Compare two heads by their scores on the folds of a cross-validation and by all images, ``pooled``."""
    # corrected resampled t test (Nadeau and Bengio, 2003, doi:10.1023/A:1024068626366): folds share training images;
    # without variance p is that of J equal signs, 2 ** (1 - J). It knows that training images vary, and the pooled
    # test knows groups, so both have to find a difference
    from scipy.special import stdtr

    values = np.asarray(differences, np.float64)
    count = len(values)
    mean = float(values.mean())
    ratio = float(np.mean([test / train for train, test in sizes]))
    error = float(np.sqrt((1 / count + ratio) * values.var(ddof=1)))
    reach = t_quantile(level, count - 1) * error
    if error > 1e-12:
        p = float(2 * stdtr(count - 1, -abs(mean) / error))
    else:
        p = 1.0 if abs(mean) < 1e-12 else 2.0 ** (1 - count)
    p = max(p, pooled.p)
    low, high = max(bounds[0], min(mean - reach, pooled.low)), min(bounds[1], max(mean + reach, pooled.high))
    if p >= 1 - level:
        low, high = min(low, 0.0), max(high, 0.0)
    test = "corrected resampled t and score interval"
    return replace(pooled, difference=mean, low=low, high=high, p=p, test=test)


def holm(p_values: Sequence[float]) -> npt.NDArray[np.float64]:
    """Return p values adjusted by Holm's method (1979, https://www.jstor.org/stable/4615733), in the given order."""
    values = np.asarray(p_values, np.float64)
    order = np.argsort(values, kind="stable")
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)))
    return adjusted


def compare_all(
    names: Sequence[str],
    correct: Mapping[str, Correct],
    groups: npt.NDArray[np.integer] | None = None,
    classes: npt.NDArray[np.intp] | None = None,
    folds: Mapping[str, Sequence[float]] | None = None,
    sizes: Sequence[tuple[int, int]] | None = None,
    *,
    margin: float = MARGIN,
    level: float = LEVEL,
) -> Records[HeadDifference]:
    """Compare every two heads by `compare_pair`, and with the scores of ``folds`` by `compare_folds`.

    Heads are practically tied if the interval is within ``margin``; with 0, they never are.
    """
    pairs, tests = [], []
    for one, two in combinations(names, 2):
        means = {
            name: np.mean(contributions(correct[name], classes) if folds is None else folds[name])
            for name in (one, two)
        }
        a, b = (one, two) if means[one] >= means[two] else (two, one)
        test = compare_pair(correct[a], correct[b], groups, classes, level=level)
        if folds is not None and sizes is not None:
            test = compare_folds(np.subtract(folds[a], folds[b]).tolist(), sizes, test, level=level)
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
        difference = HeadDifference(a, b, **test.to_dict(), p_holm=adjusted, verdict=verdict, text="")
        differences.append(replace(difference, text=verdict_text(difference, level)))
    return Records(differences)


def verdict_text(difference: HeadDifference, level: float = LEVEL) -> str:
    """Return the verdict on two heads as a sentence without full stop."""
    a, b = display(difference.a), display(difference.b)
    ends = f"{100 * difference.low:+.1f} to {100 * difference.high:+.1f}"
    points = f"{100 * difference.difference:.1f} points of {METRICS[difference.metric].title}"
    numbers = f"{points}, {100 * level:.0f} % interval {ends}, {format_p(difference.p_holm, named=True)}"
    if difference.verdict == "better":
        return f"{a} is better than {b} ({numbers})"
    if difference.verdict == "practically tied":
        return f"{a} and {b} are practically tied ({numbers})"
    # the interval is that of this pair alone
    corrected = " after correction for all pairs" if difference.low > 0 or difference.high < 0 else ""
    return f"no significant difference between {a} and {b} ({numbers}{corrected})"
