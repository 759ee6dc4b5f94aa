"""One open cache is read by threads and by other processes at the same time."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from cache_tables import make_table
from embedonce.cache import FeatureCache
from embedonce.cache.writer import write_cache

ROWS = 3000
CALLS = 40


@pytest.fixture
def table(tmp_path):
    written = make_table(ROWS, 32)
    write_cache(written, tmp_path / "a.h5")
    return written


def read(cache, expected, seed):
    """Read rows in all ways, and return how many reads were not what was written."""
    generator = np.random.default_rng(seed)
    wrong = 0
    for _ in range(CALLS):
        rows = generator.integers(0, ROWS, generator.integers(1, 50))
        start = int(generator.integers(0, ROWS - 500))
        wrong += not np.array_equal(cache[rows], expected[rows])
        wrong += not np.array_equal(cache[start : start + 500], expected[start : start + 500])
    return wrong


def test_threads_share_a_cache(table, tmp_path):
    with FeatureCache.open(tmp_path / "a.h5") as cache, ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(lambda seed: read(cache, table.features, seed), range(8))) == 0


@pytest.mark.parametrize("round_", range(5))
def test_threads_read_a_whole_cache_that_others_read(table, tmp_path, round_):
    cache = FeatureCache.open(tmp_path / "a.h5")
    with ThreadPoolExecutor(4) as pool:
        parts = pool.map(lambda seed: read(cache, table.features, seed), range(3))
        whole = pool.submit(lambda: (cache.signatures, cache.features))
        assert sum(parts) == 0
    for values, expected in zip(whole.result(), (table.signatures, table.features), strict=True):
        np.testing.assert_array_equal(values, expected)
    cache.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forked_processes_share_a_cache(table, tmp_path):
    cache = FeatureCache.open(tmp_path / "a.h5")
    children = []
    for seed in range(4):
        child = os.fork()
        if not child:
            status = 1
            try:
                status = min(read(cache, table.features, seed), 2)
            finally:
                os._exit(status)
        children.append(child)
    assert read(cache, table.features, 9) == 0
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 4


@pytest.mark.parametrize("method", ["spawn", "loky"])
def test_other_processes_open_the_same_generation(table, tmp_path, method):
    cache = FeatureCache.open(tmp_path / "a.h5")
    if method == "loky":
        from joblib import Parallel, delayed

        rows = Parallel(2)(delayed(FeatureCache.__getitem__)(cache, slice(row, row + 10)) for row in range(0, 40, 10))
    else:
        with ProcessPoolExecutor(2, get_context("spawn")) as pool:
            rows = list(
                pool.map(FeatureCache.__getitem__, [cache] * 4, [slice(row, row + 10) for row in range(0, 40, 10)])
            )
    np.testing.assert_array_equal(np.concatenate(rows), table.features[:40])
