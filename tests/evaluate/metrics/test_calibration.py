from __future__ import annotations

import numpy as np
import pytest
from embedonce.evaluate.metrics.calibration import coverage, probability_scores, reliability
from hypothesis import given
from hypothesis import strategies as st


def sample(rows, seed=0, inverse_temperature=1.0):
    """Labels that are sample from the probabilities: perfectly calibrated unless they are sharpened."""
    generator = np.random.default_rng(seed)
    honest = generator.dirichlet([0.5, 0.5, 0.5], rows)
    true = np.array([generator.choice(3, p=row) for row in honest])
    claimed = honest**inverse_temperature
    return true, claimed / claimed.sum(axis=1, keepdims=True)


def test_overconfidence_increases_the_calibration_error():
    assert probability_scores(*sample(4000))["ece"] < 0.03
    assert probability_scores(*sample(4000, inverse_temperature=4))["ece"] > 0.1


def test_the_scores_are_what_their_definitions_say():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    true = np.array([0, 0, 1])
    scores = probability_scores(true, probabilities)
    assert scores["brier"] == pytest.approx(np.mean([0.02, 1.28, 0.98]))
    # each of the three is alone in its bin
    assert scores["ece"] == pytest.approx(np.mean([0.1, 0.8, 0.7]))


def test_honest_bins_hold_their_confidence_in_the_interval():
    bins = reliability(*sample(4000))
    assert sum(one["count"] for one in bins) == 4000
    inside = [one["low"] <= one["confidence"] <= one["high"] for one in bins if one["count"] > 50]
    assert np.mean(inside) > 0.8


def test_deciding_only_where_a_head_is_sure_is_more_accurate():
    found = coverage(*sample(4000))
    curve = found["curve"]
    assert curve[-1]["coverage"] == 1
    assert curve[len(curve) // 5]["accuracy"] > curve[-1]["accuracy"] + 0.1
    assert [one["threshold"] for one in curve] == sorted((one["threshold"] for one in curve), reverse=True)


def test_a_target_is_reached_at_its_largest_coverage_or_never():
    probabilities = np.array([[0.99, 0.01], [0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
    found = coverage(np.array([0, 0, 1, 0]), probabilities)["targets"]
    assert found[0]["at"] == {"threshold": 0.9, "coverage": 0.5, "accuracy": 1.0}
    wrong = coverage(np.array([1, 1, 1, 1]), probabilities)["targets"]
    assert all(one["at"] is None for one in wrong)


@given(st.integers(1, 60), st.integers(0, 999))
def test_images_of_equal_confidence_are_decided_together(rows, seed):
    generator = np.random.default_rng(seed)
    top = generator.choice([0.5, 0.75, 1.0], rows)
    probabilities = np.column_stack([top, 1 - top])
    curve = coverage(generator.integers(0, 2, rows), probabilities)["curve"]
    for point in curve:
        assert point["coverage"] == pytest.approx(np.mean(top >= point["threshold"]))
