"""Is one head better than another? Paired tests, intervals of differences, and what the data say in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache import display
from .clusters import Clusters, Interval, mean_error, units
from .intervals import LEVEL

MARGIN = 0.01
"""Heads whose accuracies differ by less, for certain, are practically tied: one percentage point."""

Correct = npt.NDArray[np.bool_]


def compare_pair(
    a_correct: Correct, b_correct: Correct, groups: npt.NDArray[np.integer] | None = None, *, level: float = LEVEL
) -> dict[str, Any]:
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
    dict
        ``difference`` of the accuracies, a - b; ``low`` and ``high``, its interval; ``p``, two-sided; ``test``, its
        name; ``discordant``, how many images only a, and only b, classifies rightly.

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
    discordant = [int((difference > 0).sum()), int((difference < 0).sum())]
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
    return {"difference": mean, "low": low, "high": high, "p": p, "test": test, "discordant": discordant}


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
    differences: Sequence[float], sizes: Sequence[tuple[int, int]], *, level: float = LEVEL
) -> dict[str, Any]:
    """Compare two heads by their accuracies on the folds of a cross-validation.

    Parameters
    ----------
    differences : sequence of float
        Accuracy of a less that of b on every fold of every repeat.
    sizes : sequence of (int, int)
        Training and test images of each.
    level : float
        Of the interval.

    Returns
    -------
    dict
        ``difference``, their mean; ``low``, ``high``, ``p`` and ``test``.

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
    found = {"difference": mean, "low": mean - reach, "high": mean + reach}
    return found | {"p": p, "test": "corrected resampled t"}


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
) -> list[dict[str, Any]]:
    """Compare every two heads.

    Parameters
    ----------
    names : sequence of str
    correct : mapping of str to ndarray of bool, shape (t,)
        Which test images each head classifies rightly.
    groups : ndarray of int, shape (t,), optional
    folds : mapping of str to sequence of float, optional
        Accuracy on every fold; then the test is :func:`compare_folds`.
    sizes : sequence of (int, int), optional
        Training and test images of each fold.
    margin : float
        Accuracies that are certain to differ by less are a practical tie.
    level : float

    Returns
    -------
    list of dict
        What :func:`compare_pair` or :func:`compare_folds` returns, and ``a``, the more accurate, ``b``, ``discordant``,
        ``p_holm``, ``verdict`` and ``text``. The verdict is ``better`` when ``p_holm`` is below ``1 - level``,
        otherwise ``practically tied`` when the interval lies within the margin, otherwise ``undecided``.
    """
    rows = []
    for one, two in combinations(names, 2):
        first = folds if folds is not None else {name: [float(correct[name].mean())] for name in (one, two)}
        a, b = (one, two) if np.mean(first[one]) >= np.mean(first[two]) else (two, one)
        row = {"a": a, "b": b} | compare_pair(correct[a], correct[b], groups, level=level)
        if folds is not None and sizes is not None:
            row |= compare_folds(np.subtract(folds[a], folds[b]).tolist(), sizes, level=level)
        rows.append(row)
    for row, adjusted in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = float(adjusted)
        if adjusted < 1 - level:
            row["verdict"] = "better"
        elif max(abs(row["low"]), abs(row["high"])) <= margin:
            row["verdict"] = "practically tied"
        else:
            row["verdict"] = "undecided"
        row["text"] = verdict_text(row, level)
    return rows


def verdict_text(row: Mapping[str, Any], level: float = LEVEL) -> str:
    """Return what a comparison of two heads says, as a sentence without full stop."""
    a, b = display(row["a"]), display(row["b"])
    ends = f"{100 * row['low']:+.1f} to {100 * row['high']:+.1f}"
    p = "p < 0.001" if row["p_holm"] < 0.001 else f"p = {row['p_holm']:.2g}"
    numbers = f"{100 * row['difference']:.1f} points, {100 * level:.0f} % interval {ends}, {p}"
    if row["verdict"] == "better":
        return f"{a} is better than {b} ({numbers})"
    if row["verdict"] == "practically tied":
        return f"{a} and {b} are practically tied ({numbers})"
    return f"the data cannot tell whether {a} or {b} is better ({numbers})"
