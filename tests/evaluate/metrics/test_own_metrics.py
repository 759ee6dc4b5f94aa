from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from embedonce.errors import ParameterError
from embedonce.evaluate.metrics.own_metrics import (
    Answers,
    MetricError,
    compare_contributions,
    contributions_interval,
    find_contributions,
    read_metrics,
)
from sklearn.metrics import accuracy_score, cohen_kappa_score, fbeta_score, log_loss, make_scorer

CLASSES = ["ash", "birch", "oak"]


def read(given):
    return read_metrics(given, CLASSES, "compare")


def one(given):
    (metric,) = read(given).values()
    return metric


@pytest.fixture(scope="module")
def answers():
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet([1, 1, 1], 300)
    true = np.array(CLASSES)[[generator.choice(3, p=row) for row in probabilities]]
    return Answers(true, np.array(CLASSES)[probabilities.argmax(1)], probabilities, CLASSES)


def test_a_function_of_labels_gets_class_names(answers):
    metric = one(cohen_kappa_score)
    assert metric.name == "cohen_kappa_score"
    assert metric.measure(answers) == cohen_kappa_score(answers.true, answers.predicted)
    f2 = one({"f2": partial(fbeta_score, beta=2, average="macro")})
    assert f2.measure(answers) == fbeta_score(answers.true, answers.predicted, beta=2, average="macro")


def test_a_scorer_gets_probabilities(answers):
    metric = one({"neg": make_scorer(log_loss, greater_is_better=False, response_method="predict_proba")})
    assert metric.higher_is_better
    assert metric.measure(answers) == pytest.approx(-log_loss(answers.true, answers.probabilities))
    with pytest.raises(MetricError, match="the head has no probabilities"):
        metric.measure(answers._replace(probabilities=None))


def test_columns_follow_the_names_of_a_scorer(answers):
    turned = answers._replace(classes=CLASSES[::-1], probabilities=answers.probabilities[:, ::-1])
    metric = one({"neg": make_scorer(log_loss, greater_is_better=False, response_method="predict_proba")})
    assert metric.measure(turned) == pytest.approx(metric.measure(answers))


def test_the_last_word_of_a_name_says_that_less_is_better():
    def missed_cost(true, predicted):
        return (true != predicted).mean()

    assert not one(missed_cost).higher_is_better
    assert one({"kept": missed_cost}).higher_is_better
    assert not one({"max_error": missed_cost}).higher_is_better


def test_a_function_is_read_from_its_module():
    assert one("sklearn.metrics:cohen_kappa_score").measure.function is cohen_kappa_score
    assert list(read(["sklearn.metrics:cohen_kappa_score", "sklearn.metrics:accuracy_score"])) == [
        "cohen_kappa_score",
        "accuracy_score",
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "must be functions, scorers of scikit-learn, or texts"),
        (dict, "must be functions, scorers"),
        ("kappa", "must name a function as package.module:function, got 'kappa'"),
        ("no_such_module:f", "the module 'no_such_module' cannot be imported: ModuleNotFoundError.* PYTHONPATH"),
        ("sklearn.metrics:nothing", "the module 'sklearn.metrics' has no function 'nothing'"),
        ({"accuracy": accuracy_score}, "its own name, got 'accuracy', which results have already"),
        ({"a-b": accuracy_score}, "'a-b', which is not a name of letters"),
        ([accuracy_score, accuracy_score], "'accuracy_score', which is given twice"),
        (make_scorer(accuracy_score), "a mapping from names to functions where a function has no name"),
        ({"f": lambda true: 1}, r"functions of \(y_true, y_pred\), or scorers of \(estimator, X, y\), got f\(true\)"),
        (fbeta_score, "but fbeta_score does not: it fails with TypeError: .*beta"),
        ({"f": lambda true, predicted: true}, r"but f does not: it returns an array of shape \(6,\) instead of"),
        ({"f": lambda true, predicted: "good"}, "but f does not: it returns 'good' instead of a number"),
    ],
)
def test_what_is_not_a_metric_is_an_error(given, message):
    with pytest.raises(ParameterError, match=message):
        read(given)


def test_contributions_of_the_accuracy_are_the_correct_images(answers):
    correct = (answers.true == answers.predicted).astype(float)
    for metric in (one(accuracy_score), one({"scorer": make_scorer(accuracy_score)})):
        found = find_contributions(metric, answers, correct.mean(), np.arange(300) % 100)
        by_group = found.clusters.sums(found.values - correct.mean())
        assert np.allclose(by_group, found.clusters.sums(correct - correct.mean()))


def test_many_groups_are_left_out_in_blocks(answers):
    metric = one({"scorer": make_scorer(accuracy_score)})
    calls = []

    def counted(*given):
        calls.append(1)
        return metric.measure.function(*given)

    counting = one({"counting": lambda estimator, X, y: counted(estimator, X, y)})
    calls.clear()
    groups = np.arange(300) // 1
    found = find_contributions(counting, answers, 0.7, groups)
    assert len(calls) == found.clusters.groups == 200
    assert np.bincount(found.clusters.of_row).max() == 2


@pytest.mark.parametrize(("errors", "highest"), [(6, 0.999), (1, 1.0)])
def test_the_interval_holds_the_value_and_ends_at_correct_answers(answers, errors, highest):
    metric = one(cohen_kappa_score)
    other = np.where(answers.true == "oak", "ash", "oak")
    good = answers._replace(predicted=np.where(np.arange(300) < errors, other, answers.true))
    value = metric.measure(good)
    low, high = contributions_interval(metric, good, value, find_contributions(metric, good, value, None))
    assert 0.85 < low < value < high <= highest


def test_correct_answers_have_no_interval(answers):
    metric, correct = one(cohen_kappa_score), answers._replace(predicted=answers.true)
    assert contributions_interval(metric, correct, 1.0, find_contributions(metric, correct, 1.0, None)) is None


def test_groups_make_the_interval_wider(answers):
    metric = one(cohen_kappa_score)
    value, order = metric.measure(answers), np.argsort(answers.true == answers.predicted, kind="stable")
    groups = np.empty(300, np.intp)
    groups[order] = np.arange(300) // 10  # correct or incorrect as a whole
    widths = []
    for ids in (None, groups):
        low, high = contributions_interval(metric, answers, value, find_contributions(metric, answers, value, ids))
        widths.append(high - low)
    assert widths[1] > 2 * widths[0]


def test_the_better_head_comes_first(answers):
    worse = answers._replace(predicted=np.roll(answers.predicted, 1))
    for metric in (one(cohen_kappa_score), one({"error": lambda true, predicted: (true != predicted).mean()})):
        values = {"worse": metric.measure(worse), "better": metric.measure(answers)}
        found = {
            name: find_contributions(metric, each, values[name], None)
            for name, each in (("worse", worse), ("better", answers))
        }
        (row,) = compare_contributions(metric, values, found)
        assert (row.a, row.b, row.verdict) == ("better", "worse", "better")
        assert row.p == row.p_holm < 0.01
        assert row.low < row.difference < row.high
        assert row.text.startswith("better is better than worse (")


def test_equal_heads_are_undecided(answers):
    metric = one(cohen_kappa_score)
    value = metric.measure(answers)
    found = find_contributions(metric, answers, value, None)
    (row,) = compare_contributions(metric, {"a": value, "b": value}, {"a": found, "b": found})
    assert (row.difference, row.p, row.verdict) == (0.0, 1.0, "undecided")


def test_few_groups_without_errors_are_not_enough(answers):
    metric, other = one(cohen_kappa_score), np.where(answers.true == "oak", "ash", "oak")
    correct = answers._replace(predicted=answers.true)
    sometimes = answers._replace(predicted=np.where(np.arange(300) % 10 == 0, other, answers.true))
    values = {"correct": 1.0, "sometimes": metric.measure(sometimes)}
    verdicts = []
    for groups in (np.arange(300), np.arange(300) // 20):
        found = {
            name: find_contributions(metric, each, values[name], groups)
            for name, each in (("correct", correct), ("sometimes", sometimes))
        }
        (row,) = compare_contributions(metric, values, found)
        verdicts.append(row.verdict)
    assert verdicts == ["better", "undecided"]
