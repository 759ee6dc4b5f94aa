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
    curve = coverage(*sample(4000))
    assert curve[-1]["coverage"] == 1
    assert curve[len(curve) // 5]["accuracy"] > curve[-1]["accuracy"] + 0.1


@given(st.integers(1, 60), st.integers(0, 999))
def test_images_of_equal_confidence_are_decided_together(rows, seed):
    generator = np.random.default_rng(seed)
    top = generator.choice([0.5, 0.75, 1.0], rows)
    curve = coverage(generator.integers(0, 2, rows), np.column_stack([top, 1 - top]))
    allowed = {float(np.mean(top >= value)) for value in (0.5, 0.75, 1.0)}
    assert all(any(point["coverage"] == pytest.approx(value) for value in allowed) for point in curve)


def test_the_debiased_error_of_a_calibrated_head_is_smaller():
    plain, debiased, within = [], [], 0
    for seed in range(100):
        found = probability_scores(*sample(300, seed))
        plain.append(found["ece"])
        debiased.append(found["ece_debiased"])
        within += found["ece_low"] <= found["ece"] <= found["ece_high"]
    assert np.mean(debiased) < 0.6 * np.mean(plain)
    assert within / 100 >= 0.88
    sharpened = probability_scores(*sample(300, inverse_temperature=4))
    assert sharpened["ece"] > sharpened["ece_high"]


def test_groups_widen_what_chance_does():
    true, probabilities = sample(300)
    copies = [np.repeat(part, 10, axis=0) for part in (true, probabilities)]
    alone, grouped = probability_scores(*copies), probability_scores(*copies, np.repeat(np.arange(300), 10))
    plain = probability_scores(true, probabilities)
    assert grouped["ece"] == pytest.approx(alone["ece"])
    assert grouped["ece_high"] > 2 * alone["ece_high"]
    assert grouped["ece_high"] == pytest.approx(plain["ece_high"], rel=0.3)
    narrow, wide = (reliability(*copies, groups)[0] for groups in (None, np.repeat(np.arange(300), 10)))
    assert wide["high"] - wide["low"] > 2 * (narrow["high"] - narrow["low"])


@pytest.mark.parametrize(("inverse_temperature", "slope"), [(1.0, 1.0), (2.0, 0.5), (0.5, 2.0)])
def test_the_slope_tells_overconfidence(inverse_temperature, slope):
    generator = np.random.default_rng(0)
    first = generator.beta(2, 2, 20_000)
    true = (generator.random(20_000) < first).astype(np.intp)
    odds = (first / (1 - first)) ** inverse_temperature
    probabilities = np.column_stack([1 / (1 + odds), odds / (1 + odds)])
    found = probability_scores(true, probabilities)
    assert found["calibration_slope"] == pytest.approx(slope, rel=0.1)
    assert found["calibration_intercept"] == pytest.approx(0, abs=0.08)


def test_without_errors_there_is_no_slope():
    found = probability_scores(np.zeros(5, np.intp), np.tile([0.9, 0.1], (5, 1)))
    assert found["calibration_slope"] is found["calibration_intercept"] is None
