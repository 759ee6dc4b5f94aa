"""Pairs of images, each with a score."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.intp]
Scores = npt.NDArray[np.float32]


class Pairs(NamedTuple):
    """Pairs of rows with a score each: intp, intp and float32, all of shape (k,)."""

    first: Rows
    second: Rows
    score: Scores

    def at(self, which: npt.NDArray[Any]) -> Pairs:
        """Return some of the pairs, by mask or by index."""
        return Pairs(self.first[which], self.second[which], self.score[which])


class Decision(NamedTuple):
    """A pair of rows near the threshold, whether it was accepted, and whether the images decided."""

    first: int
    second: int
    score: float
    limit: float
    accepted: bool
    on_images: bool


def near_decisions(pairs: Pairs, limit: float, distance: float, on_images: bool) -> list[Decision]:
    """Return the decisions on pairs whose score is within a distance of the limit."""
    near = pairs.at(np.abs(pairs.score - limit) < distance)
    return [
        Decision(int(first), int(second), float(score), limit, bool(score >= limit), on_images)
        for first, second, score in zip(*near, strict=True)
    ]


def concatenate(parts: list[Pairs]) -> Pairs:
    """Return the pairs of all parts in their order."""
    none = Pairs(np.zeros(0, np.intp), np.zeros(0, np.intp), np.zeros(0, np.float32))
    return Pairs(*(np.concatenate(column) for column in zip(none, *parts, strict=True)))


def renumber(groups: Rows) -> Rows:
    """Return groups numbered from 0 by first member: intp, shape (n,)."""
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.intp)
    rank[np.argsort(first)] = np.arange(len(first))
    renumbered: Rows = rank[inverse]
    return renumbered
