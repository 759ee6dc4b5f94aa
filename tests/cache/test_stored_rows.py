"""Rows of a cache that are read when they are wanted."""

from __future__ import annotations

import numpy as np
import pytest
from cache_tables import by_path, make_table
from embedonce.cache.format import FEATURES
from embedonce.cache.reader import FeatureCache, StoredRows
from embedonce.cache.table import row_blocks
from embedonce.cache.writer import write_cache
from embedonce.errors import DamagedCacheError
from hypothesis import given, settings
from hypothesis import strategies as st

ROWS = 150


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("stored") / "a.h5"
    write_cache(by_path(make_table(ROWS)), path)
    return path


@pytest.fixture(scope="module")
def whole(path):
    return FeatureCache.open(path).features


@given(
    rows=st.lists(st.integers(0, ROWS - 1), max_size=2 * ROWS), block=st.integers(1, 2 * ROWS), ordered=st.booleans()
)
@settings(deadline=None, max_examples=50)
def test_any_rows_in_any_blocks_are_those_of_the_whole_matrix(path, whole, rows, block, ordered):
    wanted = np.array(sorted(rows) if ordered else rows, np.intp)
    with FeatureCache.open(path) as cache:
        source = StoredRows(cache, FEATURES, wanted)
        assert source.shape == (len(wanted), whole.shape[1])
        parts = list(row_blocks(source, block))
        assert all(len(part) <= block for part in parts)
        np.testing.assert_array_equal(np.concatenate([whole[:0], *parts]), whole[wanted])


def test_rows_of_features_that_were_read_already_come_from_memory(path):
    cache = FeatureCache.open(path)
    whole = cache.features
    cache.close()
    np.testing.assert_array_equal(cache.take(np.array([5, 2, 5])), whole[[5, 2, 5]])


def test_damage_is_refused_in_a_row_that_is_wanted_and_harmless_in_one_between(path, whole, tmp_path):
    data = bytearray(path.read_bytes())
    data[data.index(whole[51].tobytes())] ^= 1
    hurt = tmp_path / "hurt.h5"
    hurt.write_bytes(data)
    with FeatureCache.open(hurt) as cache:
        around = np.array([48, 49, 50, 52, 53])
        np.testing.assert_array_equal(cache.take(around), whole[around])
        with pytest.raises(DamagedCacheError, match="0051.jpg|features of 1 image"):
            cache.take(np.arange(48, 54))
