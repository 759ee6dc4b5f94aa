"""The nearest rows of every row of a matrix, of which each similarity is computed once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from ...extract import cpu_count

_CLASSES = 64  # of columns; reading their maxima is faster than sorting all values
_BLOCK = 2048  # rows; a tile of products is 16 MB
_PENDING = 3  # times the neighbours that are kept; so many candidates wait to be sorted

Columns = npt.NDArray[np.intp]
Values = npt.NDArray[np.float32]


def largest(products: Values, count: int) -> tuple[Columns, Values]:
    """Return the columns of the largest values of each row, the largest first, and the values."""
    width = products.shape[1] // _CLASSES
    if width < 2 * count:
        limits = np.partition(products, -count, axis=1)[:, -count]
    else:  # as many classes of columns have a maximum from this limit on, so as many values are above it, few more
        maxima = products[:, : width * _CLASSES].reshape(len(products), _CLASSES, width).max(1)
        limits = np.partition(maxima, -count, axis=1)[:, -count]
    row, column = _where(products >= limits[:, None])
    return _first_of_each_row(row, column, products[row, column], len(products), count)


def nearest_of_all(vectors: Values, count: int) -> tuple[Columns, Values]:
    """Return the rows of the ``count`` largest products of each row with the others, and the products: (n, count)."""
    # the rows are shuffled, so that the first tile shows what a product of each row must reach, even of sorted rows
    order = np.random.default_rng(0).permutation(len(vectors))
    shuffled = vectors[order]
    starts = range(0, len(vectors), _BLOCK)
    blocks = [_Block(order[start : start + _BLOCK], count) for start in starts]

    def compare(tile: tuple[int, int]) -> None:
        one, other = (blocks[block] for block in tile)
        first, second = (shuffled[starts[block] : starts[block] + _BLOCK] for block in tile)
        products = first @ second.T
        if one is other:
            np.fill_diagonal(products, -np.inf)
        if not other.candidates:
            other.begin(np.ascontiguousarray(products.T), one.names)
        elif one is not other:
            row, column = _where(products >= other.limits)
            other.add(column, one.names[row], products[row, column])
        if tile != (0, 0):
            row, column = _where(products >= one.limits[:, None])
            one.add(row, other.names[column], products[row, column])

    with ThreadPoolExecutor(cpu_count()) as pool:
        compare((0, 0))  # before the others are compared with the first block
        list(pool.map(compare, [(0, other) for other in range(1, len(blocks))]))
        list(pool.map(compare, [(one, other) for one in range(1, len(blocks)) for other in range(one, len(blocks))]))
        nearest = list(pool.map(_Block.sort, blocks))
    rows, values = np.empty((len(vectors), count), np.intp), np.empty((len(vectors), count), np.float32)
    rows[order], values[order] = (np.concatenate(column) for column in zip(*nearest, strict=True))
    return rows, values


class _Block:
    """The candidates for the nearest rows of some rows, and what another product must reach to be among them."""

    def __init__(self, names: Columns, count: int) -> None:
        self.names = names  # of its rows
        self.limits: Values = np.full(len(names), -np.inf, np.float32)
        self.candidates: list[tuple[Columns, Columns, Values]] = []
        self._count, self._lock = count, threading.Lock()

    def begin(self, products: Values, names: Columns) -> None:
        """Keep the largest products of each row."""
        columns, values = largest(products, self._count)
        self._keep(names[columns], values)

    def add(self, row: Columns, name: Columns, value: Values) -> None:
        """Add candidates, and drop the smallest when there are many."""
        with self._lock:
            self.candidates.append((row, name, value))
            if sum(len(part[0]) for part in self.candidates) > _PENDING * self._count * len(self.names):
                self.sort()

    def sort(self) -> tuple[Columns, Values]:
        """Return the names and the products of each row's nearest rows: (rows, count)."""
        row, name, value = (np.concatenate(column) for column in zip(*self.candidates, strict=True))
        nearest = _first_of_each_row(row, name, value, len(self.names), self._count)
        self._keep(*nearest)
        return nearest

    def _keep(self, names: Columns, values: Values) -> None:
        self.limits = values[:, -1]
        self.candidates = [(np.repeat(np.arange(len(names)), self._count), names.ravel(), values.ravel())]


def _where(mask: npt.NDArray[np.bool_]) -> tuple[Columns, Columns]:
    """Return the rows and the columns of what is true, which is rare, faster than ``mask.nonzero()``."""
    row, column = np.divmod(np.flatnonzero(mask), mask.shape[1])
    return row, column


def _first_of_each_row(row: Columns, name: Columns, value: Values, rows: int, count: int) -> tuple[Columns, Values]:
    """Return the names of each row's largest values, of equal ones the first names, and the values: (rows, count)."""
    order = np.lexsort((name, -value, row))
    chosen = order[np.searchsorted(row[order], np.arange(rows))[:, None] + np.arange(count)]
    return name[chosen], value[chosen]
