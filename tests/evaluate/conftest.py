"""Fixtures of the tests of evaluate."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def in_pairs(cache):
    """Every two images in a row belong together."""
    from embedonce.evaluate.splits.groups import Groups

    return Groups(list(cache.paths), [f"g{row // 2}" for row in range(len(cache))], "file")
