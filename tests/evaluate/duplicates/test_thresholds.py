from __future__ import annotations

import numpy as np
import pytest
from embedonce.evaluate.duplicates.thresholds import EQUAL, GAP, gap_limit, null_limit


def scores(middle, deviation, count, seed=0):
    """Return correlations whose Fisher transformation is normal."""
    return np.tanh(np.random.default_rng(seed).normal(middle, deviation, count)).astype(np.float32)


def test_the_null_limit_is_five_deviations_above_the_median():
    assert null_limit(scores(0.2, 0.1, 20_000)) == pytest.approx(np.tanh(0.7), abs=0.01)


def test_near_duplicates_barely_move_the_null_limit():
    mixed = np.concatenate([scores(0.2, 0.1, 1000), scores(2.0, 0.1, 100)])
    assert null_limit(mixed) == pytest.approx(null_limit(scores(0.2, 0.1, 1000)), abs=0.08)


def test_few_pairs_and_pairs_without_a_score_tell_nothing():
    assert null_limit(scores(0.2, 0.1, 19)) == 0
    assert null_limit(np.full(100, -1, np.float32)) == 0
    assert null_limit(np.full(100, np.nan, np.float32)) == 0


def test_with_a_clear_gap_the_threshold_is_the_minimum():
    assert gap_limit(np.concatenate([scores(0.3, 0.1, 500), scores(2.0, 0.2, 300)]), 0.75, 0.02) == 0.75


def test_where_scores_thin_out_steadily_nothing_is_proven():
    steady = scores(1.4, 0.3, 500)
    assert (steady >= 0.75).mean() > 0.9
    limit = gap_limit(steady, 0.9, 0.02)
    assert limit > steady.max()
    assert limit <= EQUAL


def test_copies_beyond_a_gap_above_steady_scores_are_proven():
    steady, copies = scores(0.8, 0.2, 500), scores(2.8, 0.1, 60)
    limit = gap_limit(np.concatenate([steady, copies]), 0.75, 0.02)
    assert steady.max() < limit < copies.min()


def test_the_interval_below_the_limit_is_nearly_empty():
    mixed = np.concatenate([scores(0.7, 0.3, 400, 1), scores(1.6, 0.5, 400, 2)])
    for share in (0.02, 0.1, 0.5):
        z = np.arctanh(np.clip(mixed.astype(float), -EQUAL, EQUAL))
        limit = np.arctanh(gap_limit(mixed, 0.5, share))
        assert ((z >= limit - GAP + 1e-9) & (z < limit)).sum() <= share * (z >= limit).sum() + 1e-9


def test_no_scores_leave_the_least_threshold():
    assert gap_limit(np.zeros(0, np.float32), 0.75, 0.02) == pytest.approx(0.75)
