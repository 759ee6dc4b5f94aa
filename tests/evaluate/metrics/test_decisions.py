"""Thresholds of answers and of sets of labels, from held-out predictions in groups."""

import numpy as np
import pytest
from embedonce.evaluate.metrics import AnswerCurve, label_threshold
from embedonce.evaluate.metrics.clusters import units
from embedonce.evaluate.metrics.decisions import lower_bound
from scipy.stats import beta


def draw(generator, groups, size=10, spread=1.0):
    """Return confidence, correctness and group of images whose groups differ in difficulty."""
    ids = np.repeat(np.arange(groups), size)
    score = generator.normal(2.5, 2, len(ids))
    chance = 1 / (1 + np.exp(-(score + spread * generator.normal(size=groups)[ids])))
    return 1 / (1 + np.exp(-score)), generator.random(len(ids)) < chance, ids


def test_the_bound_of_single_images_is_exact():
    values = np.repeat([1.0, 0.0], [97, 3])
    assert lower_bound(values, units(None, 100), 0.05) == pytest.approx(beta.ppf(0.05, 97, 4))
    assert lower_bound(np.ones(50), units(None, 50), 0.05) == pytest.approx(0.05 ** (1 / 50))
    assert lower_bound(np.zeros(5), units(None, 5), 0.05) == 0


def test_groups_lower_the_bound():
    generator = np.random.default_rng(0)
    correct = np.repeat(generator.random(40) < 0.9, 10).astype(float)
    whole = lower_bound(correct, units(np.repeat(np.arange(40), 10), 400), 0.05)
    assert whole < beta.ppf(0.05, 36, 5) + 0.02
    assert whole < lower_bound(correct, units(None, 400), 0.05) - 0.04
    one = lower_bound(np.ones(400), units(np.repeat(np.arange(40), 10), 400), 0.05)
    assert one == pytest.approx(0.05 ** (1 / 40))


def test_accuracy_is_kept_in_95_of_100_rounds():
    generator = np.random.default_rng(1)
    confidence, correct, _ = draw(generator, 40_000)
    below = answered = 0
    for _ in range(60):
        chosen = AnswerCurve(*draw(generator, 150)).threshold_for(0.9)
        if chosen is not None:
            answered += 1
            below += correct[confidence >= chosen.threshold].mean() < 0.9
    assert answered > 40
    assert below <= 4


def test_a_label_is_in_the_set_for_images_of_new_groups():
    generator = np.random.default_rng(2)
    confidence, correct, _ = draw(generator, 20_000, spread=2)
    of_label = np.where(correct, confidence, 1 - confidence)
    kept = []
    for _ in range(300):
        one = draw(generator, 40, spread=2)
        limit = label_threshold(np.where(one[1], one[0], 1 - one[0]), 0.9, one[2])
        kept.append((of_label >= limit).mean())
    assert np.mean(kept) >= 0.9 - 0.005
    assert np.mean(kept) < 0.93


def test_few_groups_have_no_threshold():
    ids = np.repeat(np.arange(18), 20)
    assert label_threshold(np.linspace(0, 1, 360), 0.95, ids) is None
    assert label_threshold(np.linspace(0, 1, 380), 0.95, np.repeat(np.arange(19), 20)) == 0
    curve = AnswerCurve(np.linspace(0.5, 1, 360), np.ones(360, bool), ids)
    assert curve.threshold_for(0.99) is None
    assert curve.highest() == 0.81  # 0.025 ** (1 / 18)


def test_a_target_that_all_answers_reach_has_no_threshold():
    curve = AnswerCurve(np.linspace(0.5, 1, 1000), np.arange(1000) % 50 > 0)
    assert curve.threshold_for(0.9) == (0.0, 1.0, pytest.approx(0.98), curve.points[-1].lower)


def test_groups_have_equal_weights():
    of_label = np.r_[np.zeros(900), np.ones(99)]
    ids = np.r_[np.zeros(900, int), np.arange(1, 100)]
    assert label_threshold(of_label, 0.9, ids) == 1
    assert label_threshold(of_label, 0.9) == 0
