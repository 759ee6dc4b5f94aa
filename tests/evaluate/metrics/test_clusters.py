from __future__ import annotations

import numpy as np
import pytest
from embedonce.evaluate.metrics.clusters import (
    correlation_within,
    count_informative_groups,
    design_effect,
    error_by_groups,
    units,
)
from hypothesis import given
from hypothesis import strategies as st


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40))
def test_group_sums_are_those_of_a_loop(names):
    clusters = units(np.array(names), len(names))
    values = np.arange(len(names), dtype=float)
    expected = [sum(values[i] for i, name in enumerate(names) if name == group) for group in sorted(set(names))]
    np.testing.assert_array_equal(clusters.sums(values), expected)


def test_effective_groups_depend_on_their_sizes():
    assert units(np.arange(60) // 6, 60).effective == pytest.approx(10)
    assert units(None, 60).effective == pytest.approx(60)
    assert units(np.array([0] * 50 + list(range(1, 11))), 60).effective < 1.5


def alike_and_independent():
    """Return 200 groups of five, values that are alike in each, and values that have nothing to do with them."""
    generator = np.random.default_rng(0)
    clusters = units(np.repeat(np.arange(200), 5), 1000)
    alike = np.repeat(generator.random(200) < 0.8, 5).astype(float)
    independent = (generator.random(1000) < 0.8).astype(float)
    return clusters, alike, independent


def test_correlation_is_1_for_near_duplicates_and_else_0():
    clusters, alike, independent = alike_and_independent()
    assert correlation_within(alike, clusters) == pytest.approx(1)
    assert correlation_within(independent, clusters) < 0.05
    assert correlation_within(independent, units(None, 1000)) == 1


def test_the_design_effect_is_between_1_and_the_group_size():
    clusters, alike, independent = alike_and_independent()
    assert design_effect(alike, clusters) == pytest.approx(5)
    assert 1 <= design_effect(independent, clusters) < 1.2
    assert design_effect(independent, units(None, 1000)) == 1


def test_one_incorrect_image_does_not_prove_independence():
    clusters = units(np.repeat(np.arange(40), 20), 800)
    correct = np.ones(800)
    assert design_effect(correct, clusters) == pytest.approx(20)
    correct[0] = 0
    assert design_effect(correct, clusters) > 10


def test_subtracted_class_means_keep_the_correlation():
    """Values of four pure groups, two of each class: without the degree of freedom, 0.6 and less of what it should be."""
    generator = np.random.default_rng(0)
    clusters = units(np.repeat(np.arange(4), 25), 100)
    found = {1: [], 2: []}
    for _ in range(400):
        of_group = generator.normal(size=4)
        values = of_group[clusters.of_row] + generator.normal(size=100)
        for rows in (slice(0, 50), slice(50, 100)):
            values[rows] -= values[rows].mean()
        for means in found:
            found[means].append(error_by_groups(values, clusters, means) ** 2)
    truth = (1 / 2 + 1 / 50) / 2  # half the variance of a class mean
    assert np.mean(found[2]) == pytest.approx(truth, rel=0.15)
    assert np.mean(found[1]) < 0.8 * truth


def test_informative_groups_have_another_value():
    clusters = units(np.repeat(np.arange(5), 4), 20)
    values = np.ones(20)
    assert count_informative_groups(values, clusters) == 0
    values[[0, 1, 9]] = 0
    assert count_informative_groups(values, clusters) == 2
