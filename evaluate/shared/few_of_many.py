"""What pages and figures show of many classes and of many heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

MATRIX_CLASSES = 25
"""Number of classes up to which a confusion matrix is shown; above it, the most confused pairs are."""
SHOWN_PAIRS = 20
_MANY_HEADS, _DRAWN_HEADS = 12, 6

T = TypeVar("T")


class ConfusedPair(NamedTuple):
    """Images of one class that are predicted as another; ``fraction`` is that of the true class."""

    true: int
    predicted: int
    images: int
    fraction: float


def confused_pairs(matrix: Any, limit: int = SHOWN_PAIRS) -> list[ConfusedPair]:
    """Return the pairs of a true and a predicted class (k x k counts, rows true) with the most images."""
    counts = np.array(matrix, np.int64)
    fractions = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    np.fill_diagonal(counts, 0)
    true, predicted = np.nonzero(counts)
    order = np.lexsort((-fractions[true, predicted], -counts[true, predicted]))[:limit]
    return [
        ConfusedPair(row, column, int(counts[row, column]), float(fractions[row, column]))
        for row, column in zip(true[order].tolist(), predicted[order].tolist(), strict=True)
    ]


def drawn_heads(heads: Sequence[T]) -> Sequence[T]:
    """Return the heads, the best first, that figures draw: all, but of twelve or more the best six."""
    return heads[:_DRAWN_HEADS] if has_many_heads(heads) else heads


def has_many_heads(heads: Sequence[Any]) -> bool:
    """Return True from the number of heads on at which not all of them are drawn."""
    return len(heads) >= _MANY_HEADS
