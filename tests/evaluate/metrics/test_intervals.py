from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from embedonce.evaluate.metrics.clusters import units
from embedonce.evaluate.metrics.intervals import class_intervals, mean_interval, score_intervals, wilson_interval
from embedonce.evaluate.metrics.metrics import METRICS, macro_f1, matthews, score
from embedonce.evaluate.metrics.score_contributions import contributions_by_jackknife
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, ttest_1samp
from scipy.stats import t as student

NAMES = ["a", "b", "c"]


def predictions(rows, accuracy, seed=0, classes=3):
    generator = np.random.default_rng(seed)
    true = generator.integers(0, classes, rows)
    logits = generator.normal(size=(rows, classes))
    correct = generator.random(rows) < accuracy
    wanted = np.where(correct, true, (true + 1) % classes)
    logits[np.arange(rows), wanted] = logits.max(axis=1) + generator.random(rows)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return true, probabilities.argmax(axis=1), probabilities


@pytest.mark.parametrize("grouped", [False, True])
def test_every_interval_holds_its_score(grouped):
    true, predicted, probabilities = predictions(400, 0.9)
    groups = np.arange(400) // 7 if grouped else None
    scores = score(true, predicted, probabilities, NAMES)
    intervals = score_intervals(true, predicted, probabilities, NAMES, groups)
    assert set(intervals) == {"accuracy", "balanced_accuracy", "macro_f1", "log_loss", "roc_auc", "mcc"}
    for name, (low, high) in intervals.items():
        assert low < scores[name] < high, name
        assert name == "log_loss" or (low >= 0 and high <= 1)


@pytest.mark.parametrize("grouped", [False, True])
def test_intervals_of_a_class_hold_its_scores(grouped):
    true, predicted, _ = predictions(400, 0.9)
    groups = np.arange(400) // 7 if grouped else None
    scores = score(true, predicted, None, NAMES)["per_class"]
    alone = class_intervals(true, predicted, 3)
    for one, ends, without in zip(scores, class_intervals(true, predicted, 3, groups), alone, strict=True):
        assert set(ends) == {"precision", "recall", "f1", "specificity"}
        for name, (low, high) in ends.items():
            assert 0 <= low < one[name] < high <= 1, name
        low, high = ends["recall"]
        assert without["recall"] == wilson_interval(one["recall"], one["support"])
        assert not grouped or high - low > without["recall"][1] - without["recall"][0]


def test_a_class_without_images_has_no_intervals():
    true, predicted = np.array([0, 0, 1]), np.array([0, 2, 1])
    *_, predicted_only, absent = class_intervals(true, predicted, 4)
    assert predicted_only == {"precision": (0.0, wilson_interval(0, 1)[1]), "recall": None, "f1": None} | {
        "specificity": wilson_interval(2 / 3, 3)
    }
    assert absent["precision"] is absent["recall"] is absent["f1"] is None
    assert absent["specificity"] == wilson_interval(1, 3)


@pytest.mark.parametrize("accuracy", [0.8, 0.95, 0.99])
@pytest.mark.parametrize("size", [1, 6, 20])
def test_the_accuracy_interval_has_nominal_coverage(accuracy, size):
    generator = np.random.default_rng(0)
    covered, rounds, count = 0, 300, 100
    groups = np.repeat(np.arange(count), size)
    # the larger the groups, the more they are correct or wrong as a whole
    spread = {1: np.inf, 6: 4, 20: 0.5}[size]
    for _ in range(rounds):
        one = size == 1
        fraction = (
            np.full(count, accuracy) if one else generator.beta(accuracy * spread, (1 - accuracy) * spread, count)
        )
        correct = generator.random(count * size) < np.repeat(fraction, size)
        true = np.zeros(count * size, np.intp)
        predicted = (~correct).astype(np.intp)
        low, high = score_intervals(true, predicted, None, ["a", "b"], groups)["accuracy"]
        covered += low <= accuracy <= high
    assert 0.91 <= covered / rounds <= 0.99


@pytest.mark.parametrize("fraction", [0.5, 0.8])
def test_the_correlation_interval_has_nominal_coverage(fraction):
    recall, false_alarms, count = 0.85, 0.1, 400
    cells = [
        [(1 - fraction) * (1 - false_alarms), (1 - fraction) * false_alarms],
        [fraction * (1 - recall), fraction * recall],
    ]
    shares = np.array(cells)
    truth = float(matthews(np.stack([np.diagonal(shares), shares.sum(1), shares.sum(0)])))
    generator = np.random.default_rng(0)
    covered, rounds = 0, 300
    for _ in range(rounds):
        true = (generator.random(count) < fraction).astype(np.intp)
        predicted = (generator.random(count) < np.where(true == 1, recall, false_alarms)).astype(np.intp)
        low, high = score_intervals(true, predicted, None, ["a", "b"])["mcc"]
        covered += low <= truth <= high
    assert 0.91 <= covered / rounds <= 0.99


def test_a_score_below_nought_has_an_interval_within_its_bounds():
    true = np.tile([0, 1], 40)
    predicted = 1 - true
    predicted[:4] = true[:4]
    low, high = score_intervals(true, predicted, None, ["a", "b"])["mcc"]
    assert -1 < low < score(true, predicted, None, ["a", "b"])["mcc"] < high < 0


def test_without_errors_groups_decide_the_width():
    true = np.zeros(60, np.intp)
    alone = score_intervals(true, true, None, NAMES)["accuracy"]
    grouped = score_intervals(true, true, None, NAMES, np.arange(60) // 6)["accuracy"]
    assert alone[1] == grouped[1] == 1
    assert grouped[0] < alone[0] < 1
    assert alone == wilson_interval(1.0, 60)


def test_copies_make_an_interval_wider_not_narrower():
    true, predicted, probabilities = predictions(150, 0.85)
    copies = [np.repeat(part, 5, axis=0) for part in (true, predicted, probabilities)]
    widths = []
    for groups in (None, np.repeat(np.arange(150), 5)):
        low, high = score_intervals(*copies, NAMES, groups)["accuracy"]
        widths.append(high - low)
    low, high = score_intervals(true, predicted, probabilities, NAMES)["accuracy"]
    assert widths[0] < 0.6 * widths[1]
    assert widths[1] == pytest.approx(high - low, rel=0.05)


def test_the_area_interval_shrinks_with_more_images():
    widths = []
    for rows in (100, 1600):
        true, predicted, probabilities = predictions(rows, 0.7)
        area = score(true, predicted, probabilities, NAMES)["roc_auc"]
        low, high = score_intervals(true, predicted, probabilities, NAMES)["roc_auc"]
        assert low < area < high
        widths.append(high - low)
    assert 2.5 < widths[0] / widths[1] < 6


def test_hundreds_of_classes_take_little_memory():
    true = np.arange(400) % 300
    tracemalloc.start()
    try:
        found = score_intervals(true, true, None, [str(number) for number in range(300)])
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()
    assert found["accuracy"] == wilson_interval(1.0, 400)


def test_the_same_seed_gives_the_same_intervals():
    made = predictions(80, 0.8)
    assert score_intervals(*made, NAMES, seed=3) == score_intervals(*made, NAMES, seed=3)


def test_undefined_scores_have_no_interval():
    true, predicted, probabilities = predictions(50, 0.8)
    assert set(score_intervals(true, predicted, None, NAMES)) == {"accuracy", "balanced_accuracy", "macro_f1", "mcc"}
    one = np.zeros(50, np.intp)
    assert "roc_auc" not in score_intervals(one, predicted, probabilities, NAMES)
    nothing = np.zeros(0, np.intp)
    assert score_intervals(nothing, nothing, None, NAMES) == {}


@given(st.integers(2, 40), st.integers(0, 1000))
def test_ends_are_in_order_and_inside_whatever_the_predictions(rows, seed):
    generator = np.random.default_rng(seed)
    true, predicted = generator.integers(0, 2, (2, rows))
    for groups in (None, generator.integers(0, 1 + rows // 2, rows)):
        for name, (low, high) in score_intervals(true, predicted, None, ["a", "b"], groups).items():
            minimum, maximum = METRICS[name].bounds
            assert minimum <= low <= high <= maximum, name


def test_errors_in_a_few_large_groups_are_not_taken_for_many():
    sizes = np.r_[[40] * 10, [2] * 200]
    groups = np.repeat(np.arange(210), sizes)
    true = np.zeros(len(groups), np.intp)
    in_small = (np.isin(groups, np.arange(10, 30))).astype(np.intp)
    small = score_intervals(true, in_small, None, ["a", "b"], groups)["accuracy"]
    plain = score_intervals(true, in_small, None, ["a", "b"])["accuracy"]
    # all images of a group are incorrect together, by chance only in small groups
    assert small[1] - small[0] > 1.5 * (plain[1] - plain[0])


def test_without_errors_a_rare_class_widens_the_interval():
    true = np.r_[np.zeros(990, np.intp), np.ones(10, np.intp)]
    found = score_intervals(true, true, None, ["a", "b"])
    assert found["accuracy"] == wilson_interval(1.0, 1000)
    for name in ("balanced_accuracy", "macro_f1", "mcc"):
        assert found[name][1] == 1
        assert 0.8 < found[name][0] < 0.95, name


@pytest.mark.parametrize("counts", [(300, 20), (200, 60, 20)])
def test_scores_of_unequal_classes_have_nominal_coverage(counts):
    generator = np.random.default_rng(0)
    k, recalls = len(counts), np.array([0.97, 0.9, 0.85][: len(counts)])
    true = np.repeat(np.arange(k), counts)
    confusion = np.diag(recalls) + (1 - np.eye(k)) * ((1 - recalls) / (k - 1))[:, None]
    expected = np.array(counts)[:, None] * confusion
    truth = np.stack([np.diagonal(expected), expected.sum(1), expected.sum(0)])
    names = ("balanced_accuracy", "macro_f1", "mcc")
    covered = dict.fromkeys(names, 0)
    for seed in range(200):
        wrong = (true + generator.integers(1, k, len(true))) % k
        predicted = np.where(generator.random(len(true)) < recalls[true], true, wrong)
        found = score_intervals(true, predicted, None, NAMES[:k], seed=seed)
        for name in names:
            covered[name] += found[name][0] <= METRICS[name].measure(truth) <= found[name][1]
    # classes of 20 images with fixed sizes: the images predicted as one may be more than those of it
    assert all(count / 200 >= 0.9 for count in covered.values()), covered


def test_many_small_classes_keep_nominal_coverage():
    generator = np.random.default_rng(0)
    true, covered = np.arange(600) % 30, 0
    for seed in range(60):
        predicted = np.where(generator.random(600) < 0.95, true, (true + generator.integers(1, 30, 600)) % 30)
        found = score_intervals(true, predicted, None, [str(number) for number in range(30)], seed=seed)
        covered += found["balanced_accuracy"][0] <= 0.95 <= found["balanced_accuracy"][1]
    assert covered / 60 >= 0.85  # 95 % in 60 rounds


@given(st.integers(1, 1000), st.floats(0, 1), st.floats(1, 20))
def test_the_interval_of_a_fraction_contains_it_and_mirrors(images, fraction, effect):
    fraction = round(fraction * images) / images
    low, high = wilson_interval(fraction, images / effect)
    assert 0 <= low <= fraction <= high <= 1
    np.testing.assert_allclose(wilson_interval(1 - fraction, images / effect), (1 - high, 1 - low), atol=1e-9)


def test_the_interval_of_independent_images_is_wilsons():
    for correct in (0, 1, 90, 100):
        expected = binomtest(correct, 100).proportion_ci(method="wilson")
        assert wilson_interval(correct / 100, 100) == pytest.approx(tuple(expected))


def test_the_interval_of_symmetric_values_is_students():
    values = np.r_[np.arange(50.0), np.arange(50.0)]
    reach = ttest_1samp(values, 0).confidence_interval().high - values.mean()
    wider = reach * student.ppf(0.975, 98) / student.ppf(0.975, 99)
    expected = (values.mean() - wider, values.mean() + wider)
    assert mean_interval(values, units(None, 100)) == pytest.approx(expected, rel=1e-9)


def test_the_interval_of_skewed_values_has_coverage():
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        values = generator.lognormal(size=100)
        low, high = mean_interval(values, units(None, 100))
        assert high - values.mean() > values.mean() - low
        covered += low <= np.exp(0.5) <= high
    assert covered / 400 > 0.91  # Student's t: 0.90


def test_near_duplicates_do_not_narrow_the_interval():
    values = np.random.default_rng(0).lognormal(size=60)
    copied = mean_interval(np.repeat(values, 5), units(np.repeat(np.arange(60), 5), 300))
    assert copied == pytest.approx(mean_interval(values, units(None, 60)), rel=1e-9)


def test_larger_groups_may_be_harder():
    generator = np.random.default_rng(0)
    groups, truth, rounds = 200, 0.0, 200
    chance = np.clip(generator.lognormal(2.2, 0.9, 10**6).round(), 1, 60)
    truth = 1 - np.average(0.01 * (chance / 13.6) ** 1.5, weights=chance)
    covered = {"accuracy": 0, "balanced_accuracy": 0, "mcc": 0}
    true_mcc = 2 * truth - 1  # of two equally frequent classes that are confused alike
    for _ in range(rounds):
        sizes = np.clip(generator.lognormal(2.2, 0.9, groups).round(), 1, 60).astype(int)
        of_row = np.repeat(np.arange(groups), sizes)
        wrong = np.clip(0.01 * (sizes / 13.6) ** 1.5, 0, 1)
        of_group = generator.beta(wrong, 1 - wrong)
        correct = generator.random(len(of_row)) >= of_group[of_row]
        true = (np.arange(groups) % 2)[of_row]
        predicted = np.where(correct, true, 1 - true)
        found = score_intervals(true, predicted, None, ["a", "b"], of_row)
        covered["accuracy"] += found["accuracy"][0] <= truth <= found["accuracy"][1]
        covered["balanced_accuracy"] += found["balanced_accuracy"][0] <= truth <= found["balanced_accuracy"][1]
        covered["mcc"] += found["mcc"][0] <= true_mcc <= found["mcc"][1]
    assert min(covered.values()) / rounds >= 0.94, covered


def test_groups_that_are_difficult_in_all_classes_widen_intervals():
    generator = np.random.default_rng(0)
    covered, rounds = {"balanced_accuracy": 0, "macro_f1": 0}, 200
    true = np.tile(np.repeat(np.arange(3), 5), 40)  # 40 groups of five images of each class
    groups = np.arange(600) // 15
    for _ in range(rounds):
        correct = generator.random(600) < generator.beta(2.4, 0.6, 40)[groups]
        predicted = np.where(correct, true, (true + generator.integers(1, 3, 600)) % 3)
        found = score_intervals(true, predicted, None, NAMES, groups)
        for name in covered:
            covered[name] += found[name][0] <= 0.8 <= found[name][1]
    assert min(covered.values()) / rounds >= 0.91, covered


def test_the_jackknife_is_the_score_without_the_image():
    true, predicted, _ = predictions(60, 0.7)
    counts = np.stack([np.bincount(rows, minlength=3) for rows in (true[true == predicted], true, predicted)])
    values = contributions_by_jackknife(macro_f1, counts.astype(float), true, predicted)
    for row in range(60):
        rest = np.arange(60) != row
        expected = score(true[rest], predicted[rest], None, NAMES)["macro_f1"]
        whole = score(true, predicted, None, NAMES)["macro_f1"]
        assert values[row] == pytest.approx(60 * whole - 59 * expected)
