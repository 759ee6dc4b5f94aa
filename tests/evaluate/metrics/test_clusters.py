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
    drawn = units(np.array(names), len(names))
    values = np.arange(len(names), dtype=float)
    expected = [sum(values[i] for i, name in enumerate(names) if name == group) for group in sorted(set(names))]
    np.testing.assert_array_equal(drawn.sums(values), expected)


def test_groups_of_equal_size_are_all_effective_and_a_large_one_outweighs_the_others():
    assert units(np.arange(60) // 6, 60).effective == pytest.approx(10)
    assert units(None, 60).effective == pytest.approx(60)
    assert units(np.array([0] * 50 + list(range(1, 11))), 60).effective < 1.5


def copies_and_strangers():
    """Return 200 groups of five, values that are alike in each, and values that have nothing to do with them."""
    generator = np.random.default_rng(0)
    drawn = units(np.repeat(np.arange(200), 5), 1000)
    copies = np.repeat(generator.random(200) < 0.8, 5).astype(float)
    strangers = (generator.random(1000) < 0.8).astype(float)
    return drawn, copies, strangers


def test_the_correlation_within_groups_is_1_for_copies_and_0_for_strangers():
    drawn, copies, strangers = copies_and_strangers()
    assert correlation_within(copies, drawn) == pytest.approx(1)
    assert correlation_within(strangers, drawn) < 0.05
    assert correlation_within(strangers, units(None, 1000)) == 1


def test_the_design_effect_is_the_size_of_a_group_for_copies_and_next_to_1_for_strangers():
    drawn, copies, strangers = copies_and_strangers()
    assert design_effect(copies, drawn) == pytest.approx(5)
    assert 1 <= design_effect(strangers, drawn) < 1.2
    assert design_effect(strangers, units(None, 1000)) == 1


def test_one_wrong_image_does_not_prove_that_the_images_of_a_group_err_apart():
    drawn = units(np.repeat(np.arange(40), 20), 800)
    right = np.ones(800)
    assert design_effect(right, drawn) == pytest.approx(20)
    right[0] = 0
    assert design_effect(right, drawn) > 10


def test_class_means_taken_away_do_not_make_groups_look_less_alike():
    """Values of four pure groups, two of each class: without the degree of freedom, 0.6 and less of what it should be."""
    generator = np.random.default_rng(0)
    drawn = units(np.repeat(np.arange(4), 25), 100)
    found = {1: [], 2: []}
    for _ in range(400):
        of_group = generator.normal(size=4)
        values = of_group[drawn.of_row] + generator.normal(size=100)
        for rows in (slice(0, 50), slice(50, 100)):
            values[rows] -= values[rows].mean()
        for means in found:
            found[means].append(error_by_groups(values, drawn, means) ** 2)
    truth = (1 / 2 + 1 / 50) / 2  # half the variance of a class mean
    assert np.mean(found[2]) == pytest.approx(truth, rel=0.15)
    assert np.mean(found[1]) < 0.8 * truth


def test_telling_groups_are_those_with_anything_but_the_commonest_value():
    drawn = units(np.repeat(np.arange(5), 4), 20)
    values = np.ones(20)
    assert count_informative_groups(values, drawn) == 0
    values[[0, 1, 9]] = 0
    assert count_informative_groups(values, drawn) == 2
