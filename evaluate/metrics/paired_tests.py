"""Differences between heads: paired tests, intervals, and their result in words."""

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
"""Heads whose accuracies certainly differ by less are practically tied: one percentage point."""

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
    """Paired test of heads ``a`` and ``b``, the more accurate one first; ``p_holm`` is corrected for the pairs.

    ``verdict`` is "better", "practically tied" or "undecided", and ``text`` the result as a sentence.
    """

    a: str
    b: str
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
    a_correct: Correct, b_correct: Correct, groups: npt.NDArray[np.integer] | None = None, *, level: float = LEVEL
) -> PairedTest:
    """Compare two heads by which images each classifies correctly, bool, shape (t,)."""
    # McNemar's exact test (1947, doi:10.1007/BF02295996); with groups, the exact sign-flip test (Good, 2005, chapter
    # 3), which equals McNemar's for groups of one image
    from scipy.stats import binomtest

    difference = a_correct.astype(np.float64) - b_correct.astype(np.float64)
    discordant = (int((difference > 0).sum()), int((difference < 0).sum()))
    clusters = units(groups, len(difference))
    if clusters.alone:
        test = "McNemar"
        p = float(binomtest(discordant[0], sum(discordant)).pvalue) if sum(discordant) else 1.0
    else:
        test = "sign flips of groups"
        p = sign_flip_p(np.bincount(clusters.of_row, difference, clusters.groups).astype(np.int64))
    mean = float(difference.mean())
    low, high = difference_interval(difference, clusters, level)
    if p >= 1 - level:
        low, high = min(low, 0.0), max(high, 0.0)
    elif mean > 0:
        low = max(low, 0.0)
    else:
        high = min(high, 0.0)
    return PairedTest(mean, low, high, p, test, discordant)


def difference_interval(difference: npt.NDArray[np.float64], clusters: Clusters, level: float = LEVEL) -> Interval:
    """Return the interval of the difference of two accuracies on the same images."""
    # Agresti and Min (2005, doi:10.1002/sim.1781): normal, with half an image added to each of the four outcomes, so
    # that it keeps its coverage with few discordant images, and has a width without any
    from scipy.stats import norm

    rows, variance = len(difference), float(difference.var())
    if clusters.alone:
        images = float(rows)
    elif variance == 0:
        images = clusters.effective
    else:
        unbiased = variance * clusters.groups / max(clusters.groups - 1, 1)  # as the standard error is
        images = min(float(rows), unbiased / mean_error(difference, clusters) ** 2)
    centre = images * float(difference.mean()) / (images + 2)
    discordant = (images * float(np.abs(difference).mean()) + 1) / (images + 2)
    reach = float(norm.ppf((1 + level) / 2)) * float(np.sqrt((discordant - centre**2) / (images + 2)))
    return max(-1.0, centre - reach), min(1.0, centre + reach)


def sign_flip_p(differences: npt.NDArray[np.int64]) -> float:
    """Return the exact two-sided p of a sum of random signs, int64, by convolution of two-point variables."""
    sizes = np.abs(differences[differences != 0])
    if not len(sizes):
        return 1.0
    # the distribution is over the sums from -total to total
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
    """Compare two heads by their accuracies on the folds of a cross-validation."""
    # corrected resampled t test (Nadeau and Bengio, 2003, doi:10.1023/A:1024068626366): folds share training images;
    # without variance p is that of J equal signs, 2 ** (1 - J)
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
    return PairedTest(mean, max(-1.0, mean - reach), min(1.0, mean + reach), p, "corrected resampled t", discordant)


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
    folds: Mapping[str, Sequence[float]] | None = None,
    sizes: Sequence[tuple[int, int]] | None = None,
    *,
    margin: float = MARGIN,
    level: float = LEVEL,
) -> Records[HeadDifference]:
    """Compare every two heads by `compare_pair`, or with ``folds`` by `compare_folds`.

    Heads are practically tied if the interval is within ``margin``; with 0, they never are.
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
        difference = HeadDifference(a, b, **test.to_dict(), p_holm=adjusted, verdict=verdict, text="")
        differences.append(replace(difference, text=verdict_text(difference, level)))
    return Records(differences)


def verdict_text(difference: HeadDifference, level: float = LEVEL) -> str:
    """Return the verdict on two heads as a sentence without full stop."""
    a, b = display(difference.a), display(difference.b)
    ends = f"{100 * difference.low:+.1f} to {100 * difference.high:+.1f}"
    p = "p < 0.001" if difference.p_holm < 0.001 else f"p = {difference.p_holm:.2g}"
    numbers = f"{100 * difference.difference:.1f} points of accuracy, {100 * level:.0f} % interval {ends}, {p}"
    if difference.verdict == "better":
        return f"{a} is better than {b} ({numbers})"
    if difference.verdict == "practically tied":
        return f"{a} and {b} are practically tied ({numbers})"
    return f"no significant difference between {a} and {b} ({numbers})"
