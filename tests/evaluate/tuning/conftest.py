"""Fixtures of the tests of tuning."""

from __future__ import annotations

import pytest
from embedonce.cache import FeatureCache
from near_duplicates import originals, write_near_duplicates


@pytest.fixture(scope="session")
def path(tmp_path_factory):
    """A small cache of originals with near-duplicates; no test changes it."""
    return write_near_duplicates(tmp_path_factory.mktemp("tuning") / "near-duplicates.h5")


@pytest.fixture(scope="module")
def cache(path):
    with FeatureCache.open(path) as opened:
        yield opened


@pytest.fixture(scope="module")
def groups(cache):
    return originals(cache)
