from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from embedonce.evaluate.metrics.paired_tests import (
    PairedTest,
    compare_all,
    compare_folds,
    compare_pair,
    contributions,
    holm,
    sign_flip_p,
)
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest


def heads(only_a, only_b, both=50, neither=5):
    a = np.array([True] * only_a + [False] * only_b + [True] * both + [False] * neither)
    b = np.array([False] * only_a + [True] * only_b + [True] * both + [False] * neither)
    return a, b


@pytest.mark.parametrize(("only_a", "only_b"), [(1, 0), (9, 2), (5, 5), (0, 14)])
def test_without_groups_the_test_is_mcnemars_exact_one(only_a, only_b):
    found = compare_pair(*heads(only_a, only_b))
    assert found.test == "McNemar and score interval"
    assert found.p == pytest.approx(binomtest(only_a, only_a + only_b).pvalue)
    assert found.discordant == (only_a, only_b)
    assert found.difference == pytest.approx((only_a - only_b) / (55 + only_a + only_b))
    assert found.low < found.difference < found.high


def test_equal_heads_have_an_interval_with_a_width():
    a, _ = heads(0, 0)
    found = compare_pair(a, a)
    assert found.p == 1
    assert found.low < 0 < found.high


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
def test_sign_flips_are_those_of_all_signs(differences):
    values = np.array(differences)
    sums = [abs(np.dot(signs, np.abs(values))) for signs in product((-1, 1), repeat=len(values))]
    expected = np.mean(np.array(sums) >= abs(values.sum()))
    assert sign_flip_p(values) == pytest.approx(expected)


@given(st.integers(0, 12), st.integers(0, 12))
def test_groups_of_one_image_give_mcnemars_p(only_a, only_b):
    a, b = heads(only_a, only_b)
    expected = compare_pair(a, b).p
    assert sign_flip_p(a.astype(int) - b.astype(int)) == pytest.approx(expected)


def test_copies_of_one_image_count_as_one():
    a, b = heads(6, 0)
    plain = compare_pair(a, b)
    groups = np.repeat(np.arange(len(a)), 10)
    copied = compare_pair(np.repeat(a, 10), np.repeat(b, 10), groups)
    assert copied.test == "sign flips of groups and score interval"
    assert copied.p == pytest.approx(plain.p)
    assert copied.high - copied.low == pytest.approx(plain.high - plain.low, rel=0.1)
    assert compare_pair(np.repeat(a, 10), np.repeat(b, 10)).p < 1e-6 < copied.p


def test_one_discordant_image_counts_as_a_group():
    groups = np.repeat(np.arange(40), 20)
    a = np.ones(800, bool)
    b = a.copy()
    b[0] = False
    grouped, plain = compare_pair(a, b, groups), compare_pair(a, b)
    assert grouped.high - grouped.low > 3 * (plain.high - plain.low)


def one_errs_on_images_the_other_on_groups(generator, accuracy, groups=25, size=20):
    rows = np.repeat(np.arange(groups), size)
    return generator.random(groups * size) < accuracy, (generator.random(groups) < accuracy)[rows], rows


@pytest.mark.parametrize("accuracy", [0.8, 0.95])
def test_equal_heads_that_err_differently_are_not_told_apart(accuracy):
    generator = np.random.default_rng(0)
    found = [compare_pair(*one_errs_on_images_the_other_on_groups(generator, accuracy)) for _ in range(300)]
    assert np.mean([one.p < 0.05 for one in found]) <= 0.06
    assert np.mean([one.low <= 0 <= one.high for one in found]) >= 0.92


def test_with_classes_the_balanced_accuracies_are_compared():
    generator = np.random.default_rng(0)
    classes = np.r_[np.zeros(900, np.intp), np.ones(100, np.intp)]
    a = generator.random(1000) < np.where(classes == 1, 0.95, 0.9)
    b = generator.random(1000) < np.where(classes == 1, 0.5, 0.97)
    plain, balanced = compare_pair(a, b), compare_pair(a, b, None, classes)
    assert (plain.metric, balanced.metric) == ("accuracy", "balanced_accuracy")
    recalls = [(a[classes == label].mean(), b[classes == label].mean()) for label in (0, 1)]
    assert balanced.difference == pytest.approx(np.mean([one - two for one, two in recalls]))
    assert plain.difference < 0 < balanced.low
    assert balanced.p < 0.001
    assert balanced.test == "sign flips of images and score interval"


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=30))
def test_contributions_have_the_score_as_mean(rows):
    classes, correct = (np.array(part) for part in zip(*rows, strict=True))
    recalls = [correct[classes == label].mean() for label in np.unique(classes)]
    assert contributions(correct, classes).mean() == pytest.approx(np.mean(recalls))
    assert contributions(correct).mean() == pytest.approx(correct.mean())


@pytest.mark.parametrize("size", [1, 10])
@pytest.mark.parametrize(("wrong", "more"), [(0.01, 0.01), (0.05, 0.05), (0.2, 0.1)])
def test_the_difference_interval_has_nominal_coverage(wrong, more, size):
    generator = np.random.default_rng(0)
    covered, rounds, groups = 0, 400, np.repeat(np.arange(100), size)
    for _ in range(rounds):
        # an original that one head gets wrong is wrong in all its copies
        first = generator.random(100) >= wrong
        second = first & (generator.random(100) >= more / (1 - wrong))
        found = compare_pair(first[groups], second[groups], groups if size > 1 else None)
        covered += found.low <= more <= found.high
    assert covered / rounds >= 0.93  # seldom more than one image tells them apart: then it can only be too wide
    assert covered / rounds < 0.99 or wrong < 0.1


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12), st.sampled_from([0.9, 0.95]))
def test_the_interval_agrees_with_the_exact_test(of_groups, level):
    a = np.array([right for one, two in of_groups for right in [True] * one + [False] * two] + [True])
    groups = np.r_[np.repeat(np.arange(len(of_groups)), [one + two for one, two in of_groups]), len(of_groups)]
    found = compare_pair(a, np.r_[~a[:-1], True], groups, level=level)
    assert -1 <= found.low <= found.difference <= found.high <= 1
    if found.p < 1 - level:
        assert found.low >= 0 or found.high <= 0
    else:
        assert found.low <= 0 <= found.high


def pooled(difference, p=0.0, low=None, high=None):
    """Return a test of all images that finds this difference, by default with certainty."""
    ends = difference if low is None else low, difference if high is None else high
    return PairedTest("accuracy", difference, *ends, p, "McNemar", (0, 0))


def test_folds_are_compared_by_the_corrected_t_test():
    differences = [0.01, 0.03, 0.02, 0.0, 0.04]
    found = compare_folds(differences, [(80, 20)] * 5, pooled(0.02))
    t = 0.02 / np.sqrt((1 / 5 + 20 / 80) * np.var(differences, ddof=1))
    from scipy.stats import t as student

    assert found.p == pytest.approx(2 * student.sf(t, 4))
    assert found.low < 0 < found.high
    assert found.test == "corrected resampled t and score interval"


def test_folds_and_all_images_must_both_find_a_difference():
    folds = [0.1, 0.11, 0.1, 0.09, 0.1], [(80, 20)] * 5
    assert compare_folds(*folds, pooled(0.1)).p < 0.001
    doubtful = compare_folds(*folds, pooled(0.1, 0.3, -0.05, 0.25))
    assert (doubtful.p, doubtful.low, doubtful.high) == (0.3, -0.05, 0.25)


def test_an_interval_never_exceeds_100_points():
    test = compare_folds([1.0, 0.0], [(10, 10)] * 2, pooled(0.5))
    assert (test.low, test.high) == (-1, 1)


def test_folds_without_variance_are_tested_by_signs():
    sizes = [(80, 20)] * 5
    assert compare_folds([0.0] * 5, sizes, pooled(0.0)).p == 1
    found = compare_folds([0.02] * 5, sizes, pooled(0.02))
    assert found.p == 1 / 16
    assert found.low <= 0 < found.high


def test_holm_is_the_textbooks_example():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    assert len(holm([])) == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_only_raises_and_keeps_the_order(values):
    adjusted = holm(values)
    assert (adjusted >= np.array(values) - 1e-15).all()
    assert (adjusted <= 1).all()
    order = np.argsort(values, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()


def test_the_verdict_is_what_the_data_say():
    generator = np.random.default_rng(0)
    base = generator.random(4000) < 0.9
    worse = base & (generator.random(4000) < 0.95)
    swapped = base.copy()
    swapped[:3] = ~swapped[:3]
    few = generator.random(40) < 0.9, generator.random(40) < 0.9
    found = {(row.a, row.b): row for row in compare_all(["good", "bad"], {"good": base, "bad": worse})}
    assert found["good", "bad"].verdict == "better"
    assert "good is better than bad" in found["good", "bad"].text
    tied = compare_all(["x", "y"], {"x": base, "y": swapped})[0]
    assert tied.verdict == "practically tied"
    assert "practically tied" in tied.text
    unknown = compare_all(["x", "y"], {"x": few[0], "y": few[1]})[0]
    assert unknown.verdict == "undecided"
    assert "no significant difference between" in unknown.text


def test_an_interval_without_0_and_no_verdict_are_explained():
    a, b = heads(10, 1)
    rows = compare_all(list("abcd"), {"a": a, "b": b, "c": b, "d": b})
    apart = [row for row in rows if row.a == "a"]
    assert len(apart) == 3
    assert all(row.low > 0 and row.p < 0.05 < row.p_holm for row in apart)
    assert all(row.text.endswith("after correction for all pairs)") for row in apart)
    assert not any("correction" in row.text for row in rows if row.a != "a")


def test_all_pairs_are_compared_with_adjusted_p():
    generator = np.random.default_rng(1)
    correct = {name: generator.random(500) < share for name, share in (("a", 0.7), ("b", 0.8), ("c", 0.9))}
    rows = compare_all(["a", "b", "c"], correct)
    assert [(row.a, row.b) for row in rows] == [("b", "a"), ("c", "a"), ("c", "b")]
    assert all(row.p_holm >= row.p and row.difference >= 0 for row in rows)


def test_with_folds_their_accuracies_decide():
    correct = dict(zip("ab", heads(9, 2), strict=True))
    folds = {"a": [0.9, 0.92, 0.91], "b": [0.8, 0.83, 0.8]}
    row = compare_all(["a", "b"], correct, None, None, folds, [(60, 30)] * 3)[0]
    assert row.test == "corrected resampled t and score interval"
    assert row.difference == pytest.approx(0.1)
    assert row.discordant == (9, 2)
