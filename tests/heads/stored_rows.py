"""Rows that are not in memory."""

from __future__ import annotations


class Stored:
    """A `RowSource` of an array, which notes how many rows are asked for at once."""

    def __init__(self, X):
        self.X, self.shape, self.most = X, X.shape, 0

    def read_rows(self, start, end):
        self.most = max(self.most, end - start)
        return self.X[start:end].copy()
