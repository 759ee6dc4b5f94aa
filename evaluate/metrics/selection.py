"""The score of the best of several heads, corrected for the choice among them.

The highest of several scores on the same images is too high by chance. The choice is repeated on a part of the groups,
and the chosen head is scored on the others. Tsamardinos, Greasidou and Borboudakis (2018,
doi:10.1007/s10994-018-5714-4) draw the parts by bootstrap. These are two thirds: a choice on fewer groups is worse than
the one that is corrected, so that the correction is too large where heads differ, and with more groups the correction
varies more (``benchmarks/statistics.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .clusters import Clusters, units
from .metrics import METRICS, losses
from .own_metrics import Contributions
from .roc_auc_interval import Areas

_PARTS, _REPEATS, _BLOCK = 3, 168, 28

Weights = npt.NDArray[np.float64]


class Predicted(NamedTuple):
    """Predictions of a head: classes, intp, shape (t,), and probabilities, shape (t, k), or None."""

    classes: npt.NDArray[np.intp]
    probabilities: npt.NDArray[np.float64] | None


def selection_bias(
    metric: str,
    true: npt.NDArray[np.intp],
    heads: Mapping[str, Predicted],
    k: int,
    groups: npt.NDArray[np.integer] | None = None,
    *,
    seed: int = 0,
) -> float:
    """Return the expected change of the score of the best head on other images, at most 0 where more is better."""
    clusters = units(groups, len(true))
    able = [head for head in heads.values() if head.probabilities is not None or not METRICS[metric].of_probabilities]
    if len(able) < 2 or clusters.groups < 2:
        return 0.0
    # one at a time, since the counts of hundreds of classes are large
    scorers = (_scorer(metric, true, head, k, clusters) for head in able)
    return _bias(scorers, METRICS[metric].sign, clusters, seed)


def bias_of_contributions(found: Sequence[Contributions], sign: int, *, seed: int = 0) -> float:
    """Return the same of a metric whose heads have these contributions."""
    if len(found) < 2:
        return 0.0
    clusters = min((one.clusters for one in found), key=lambda clusters: clusters.groups)
    return _bias((_mean_scorer(one.values, clusters) for one in found), sign, clusters, seed)


def _bias(
    scorers: Iterable[Callable[[Weights], npt.NDArray[np.float64]]], sign: int, clusters: Clusters, seed: int
) -> float:
    within, without, whole = [], [], []
    for score in scorers:
        parts = [(score(1 - held_out), score(held_out)) for held_out in _held_out(clusters.groups, seed)]
        within.append(np.concatenate([part for part, _ in parts]))
        without.append(np.concatenate([part for _, part in parts]))
        whole.append(float(score(np.ones((1, clusters.groups)))[0]))
    best = int(np.argmax(sign * np.array(whole)))
    chosen = np.nan_to_num(sign * np.array(within), nan=-np.inf).argmax(0)
    others = np.array(without)
    changes = others[chosen, np.arange(others.shape[1])] - others[best]
    return sign * min(0.0, sign * float(np.nanmean(changes)))


def _held_out(groups: int, seed: int) -> Iterator[Weights]:
    """Yield random partitions of the groups: 1 where a part has a group, else 0, in blocks of shape (b, groups)."""
    generator, parts = np.random.default_rng(seed), min(_PARTS, groups)
    for _ in range(_REPEATS // _BLOCK):
        drawn = generator.permuted(np.tile(np.arange(groups) % parts, (_BLOCK, 1)), axis=1)
        yield (drawn[:, None] == np.arange(parts)[:, None]).reshape(-1, groups).astype(np.float64)


def _scorer(
    metric: str,
    true: npt.NDArray[np.intp],
    head: Predicted,
    k: int,
    clusters: Clusters,
) -> Callable[[Weights], npt.NDArray[np.float64]]:
    """Return a function from weights of groups, shape (b, groups), to scores, shape (b,)."""
    if METRICS[metric].of_probabilities:
        assert head.probabilities is not None
        if metric == "roc_auc":
            values = Areas.of(true, head.probabilities).contributions()
        else:
            values = losses(true, head.probabilities)
        return _mean_scorer(values, clusters)
    correct, of_row = head.classes == true, clusters.of_row
    predicted = head.classes
    if metric == "accuracy":  # which class does not matter
        k, true, predicted = 1, np.zeros_like(true), np.zeros_like(true)
    counts = np.zeros((clusters.groups, 3, k))
    np.add.at(counts[:, 0], (of_row[correct], true[correct]), 1)
    np.add.at(counts[:, 1], (of_row, true), 1)
    np.add.at(counts[:, 2], (of_row, predicted), 1)
    measure = METRICS[metric].measure

    def score(weights: Weights) -> npt.NDArray[np.float64]:
        with np.errstate(invalid="ignore"):  # of no image
            found: npt.NDArray[np.float64] = measure(
                (weights @ counts.reshape(clusters.groups, 3 * k)).reshape(-1, 3, k)
            )
        return found

    return score


def _mean_scorer(values: npt.NDArray[np.float64], clusters: Clusters) -> Callable[[Weights], npt.NDArray[np.float64]]:
    of_group = clusters.sums(np.column_stack([values, np.ones(len(values))]))

    def mean(weights: Weights) -> npt.NDArray[np.float64]:
        total, count = (weights @ of_group).T
        found: npt.NDArray[np.float64] = np.divide(total, count, out=np.full(len(weights), np.nan), where=count > 0)
        return found

    return mean
