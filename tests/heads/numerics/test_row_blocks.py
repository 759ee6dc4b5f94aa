"""Rows in random order, from memory and from disk."""

from __future__ import annotations

import numpy as np
import pytest
from embedonce import make_head
from embedonce.cache import row_blocks
from embedonce.heads.numerics import row_blocks as module
from embedonce.heads.numerics.row_blocks import BLOCK_ROWS, RUN_ROWS, select_rows, shuffled_batches, take_rows
from hypothesis import given
from hypothesis import strategies as st
from stored_rows import Stored


@given(n=st.integers(1, 2000), batch=st.integers(1, 300), seed=st.integers(0, 9), at_once=st.integers(1, 9))
def test_every_row_comes_once_beside_its_number(n, batch, seed, at_once):
    X = np.arange(2 * n, dtype=np.float32).reshape(n, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SHUFFLED_BYTES", at_once * RUN_ROWS * 8)
        for given_rows in (X, Stored(X)):
            parts = list(shuffled_batches(given_rows, batch, np.random.default_rng(seed)))
            for rows, indices in parts:
                assert len(rows) <= batch
                np.testing.assert_array_equal(rows, X[indices])
            assert sorted(np.concatenate([indices for _, indices in parts]).tolist()) == list(range(n))


def test_batches_of_rows_sorted_by_class_mix_the_classes():
    n = 40 * RUN_ROWS
    stored = Stored(np.zeros((n, 1), np.float32))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SHUFFLED_BYTES", 10 * RUN_ROWS * 4)
        batches = [indices for _, indices in shuffled_batches(stored, 100, np.random.default_rng(0))]
    late = [(indices >= n // 2).mean() for indices in batches if len(indices) == 100]
    assert min(late) > 0.1
    assert max(late) < 0.9
    assert stored.most == RUN_ROWS


def test_softmax_learns_from_stored_rows_as_from_memory():
    rng = np.random.default_rng(0)
    codes = np.sort(np.arange(3000) % 3)
    X = (rng.normal(size=(3000, 20)) + 1.2 * rng.normal(size=(3, 20))[codes]).astype(np.float32)
    held = rng.permutation(3000)[:500]
    in_memory = make_head("softmax", epochs=5).fit(X, codes, validation_data=(X[held], codes[held]))
    stored = make_head("softmax", epochs=5).fit(Stored(X), codes, validation_data=(Stored(X[held]), codes[held]))
    assert stored.history_["val_loss"][-1] == pytest.approx(in_memory.history_["val_loss"][-1], rel=0.05)
    assert stored.score(X, codes) == pytest.approx(in_memory.score(X, codes), abs=0.01)
    again = make_head("softmax", epochs=5).fit(Stored(X), codes)
    np.testing.assert_array_equal(again.coef_, stored.coef_)


def test_epochs_of_stored_rows_are_chosen_as_from_memory():
    rng = np.random.default_rng(0)
    codes = np.sort(np.arange(3000) % 3)
    X = (rng.normal(size=(3000, 20)) + 0.5 * rng.normal(size=(3, 20))[codes]).astype(np.float32)
    groups = rng.permutation(3000) // 3
    in_memory, stored = make_head("softmax").fit(X, codes, groups=groups), Stored(X)
    head = make_head("softmax").fit(stored, codes, groups=groups)
    assert head.n_iter_ == pytest.approx(in_memory.n_iter_, rel=0.6)
    assert head.score(X, codes) == pytest.approx(in_memory.score(X, codes), abs=0.01)
    assert stored.most <= BLOCK_ROWS


@given(n=st.integers(1, 5000), seed=st.integers(0, 9))
def test_chosen_rows_are_the_same_from_disk(n, seed):
    X = np.arange(2 * n, dtype=np.float32).reshape(n, 2)
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(n, rng.integers(1, n + 1), replace=False))
    np.testing.assert_array_equal(take_rows(Stored(X), rows), X[rows])
    selected = select_rows(Stored(X), rows)
    assert selected.shape == X[rows].shape
    np.testing.assert_array_equal(np.concatenate(list(row_blocks(selected, 700))), X[rows])
