from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import embedonce
import numpy as np
import pytest
from embedonce.cli.app import main
from embedonce.evaluate.metrics import MetricName
from embedonce.evaluate.metrics.metrics import (
    METRICS,
    Metric,
    align_probabilities,
    average_precision,
    matthews,
    roc_area,
    score,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from saving import without_pictures
from sklearn import metrics

NAMES = ["a", "b", "c"]


def example(seed, n=60):
    generator = np.random.default_rng(seed)
    true = generator.integers(0, 3, n)
    true[:3] = [0, 1, 2]
    probabilities = generator.dirichlet([1, 1, 1], n)
    return true, probabilities.argmax(1), probabilities


@given(seed=st.integers(0, 1000))
@settings(max_examples=30)
def test_scores_are_those_of_scikit_learn(seed):
    true, predicted, probabilities = example(seed)
    scores = score(true, predicted, probabilities, NAMES)
    assert scores["accuracy"] == metrics.accuracy_score(true, predicted)
    assert scores["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(true, predicted))
    assert scores["macro_f1"] == pytest.approx(metrics.f1_score(true, predicted, average="macro"))
    assert scores["log_loss"] == pytest.approx(metrics.log_loss(true, probabilities))
    assert scores["roc_auc"] == pytest.approx(metrics.roc_auc_score(true, probabilities, multi_class="ovr"))
    assert scores["mcc"] == pytest.approx(metrics.matthews_corrcoef(true, predicted))
    assert scores["confusion"] == metrics.confusion_matrix(true, predicted).tolist()
    of_classes = metrics.precision_recall_fscore_support(true, predicted, zero_division=0)
    for name, values in zip(("precision", "recall", "f1", "support"), of_classes, strict=True):
        assert [one[name] for one in scores["per_class"]] == values.tolist()


def test_impossible_probabilities_are_refused():
    true, predicted, probabilities = example(0)
    for wrong in (-0.1, 1.1, np.nan):
        probabilities[3, 1] = wrong
        with pytest.raises(ValueError, match=f"from 0 to 1, got {wrong}"):
            score(true, predicted, probabilities, NAMES)
    with pytest.warns(UserWarning, match="do not sum to 1"):
        score(true, predicted, np.full((len(true), 3), 0.5), NAMES)


def test_scores_by_hand():
    true = np.array([0, 0, 1, 2])
    scores = score(true, np.array([0, 1, 1, 2]), None, NAMES)
    assert scores["accuracy"] == 0.75
    assert scores["confusion"] == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert scores["per_class"][0] == {
        "class": "a",
        "precision": 1.0,
        "recall": 0.5,
        "f1": pytest.approx(2 / 3),
        "support": 2,
        "specificity": 1.0,
    }
    assert scores["per_class"][1]["specificity"] == pytest.approx(2 / 3)
    assert scores["per_class"][1]["precision"] == 0.5
    assert scores["log_loss"] is None
    assert scores["roc_auc"] is None


def test_means_skip_classes_without_test_images():
    true = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1, 0], [0.8, 0.2, 0], [0.1, 0.9, 0], [0.2, 0.8, 0]])
    scores = score(true, probabilities.argmax(1), probabilities, NAMES)
    assert scores["balanced_accuracy"] == scores["macro_f1"] == scores["roc_auc"] == 1.0
    assert scores["per_class"][2]["support"] == 0


def test_a_constant_prediction_has_no_correlation():
    true = np.repeat([0, 1], [90, 10])
    scores = score(true, np.zeros(100, np.intp), None, ["a", "b"])
    assert (scores["accuracy"], scores["mcc"]) == (0.9, 0.0)
    assert score(true, true, None, ["a", "b"])["mcc"] == 1.0
    assert score(true, 1 - true, None, ["a", "b"])["mcc"] == -1.0


def test_many_counts_are_scored_at_once():
    matrices = np.random.default_rng(0).integers(0, 9, (5, 2, 3, 3)).astype(np.float64)
    counts = np.stack([np.diagonal(matrices, axis1=-2, axis2=-1), matrices.sum(-1), matrices.sum(-2)], axis=-2)
    for metric in METRICS.values():
        if not metric.of_probabilities:
            one_by_one = [[metric.measure(one) for one in row] for row in counts]
            np.testing.assert_allclose(metric.measure(counts), one_by_one, rtol=1e-14, err_msg=metric.name)
    assert matthews(np.zeros((3, 3))) == 0


def test_every_metric_is_documented():
    assert get_args(MetricName) == tuple(METRICS)
    root = Path(embedonce.__file__).parent
    for page in ("docs/RESULTS.md", "docs/howto/ci-gate.md"):
        text = (root / page).read_text("utf-8")
        for name in METRICS:
            assert f"`{name}`" in text, f"{page} does not name {name}"


def errors(counts):
    return 1 - counts[..., 0, :].sum(-1) / counts[..., 1, :].sum(-1)


def test_a_metric_needs_one_entry_of_the_table_only(cache, cache_path, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(
        METRICS, "errors", Metric("errors", "fraction of errors", errors, heading="err", higher_is_better=False)
    )
    command = ["compare", str(cache_path), "--heads", "logreg,dummy", "--split", "random", "--folds", "2"]
    with without_pictures(), pytest.raises(SystemExit) as stopped:
        main([*command, "-o", str(tmp_path / "a"), "--fail-under", "dummy.errors=0.1"])
    assert stopped.value.code == 1
    heading = next(line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("head "))
    assert heading.split()[-6:] == ["AUC", "err", "fit", "s", "predict", "s"]
    results = json.loads((tmp_path / "a" / "results.json").read_text("ascii"))
    for head in results["heads"]:
        assert head["errors"] == pytest.approx(1 - head["accuracy"])
        assert head["rounds"][1]["errors"] == pytest.approx(1 - head["rounds"][1]["accuracy"])
        low, high = head["intervals"]["accuracy"]
        assert head["intervals"]["errors"] == pytest.approx([1 - high, 1 - low], abs=0.05)
    tuned = embedonce.tune(cache, "logreg", metric="errors", split="random", folds=2, space={"C": [1e-9, 1.0]})
    assert tuned.best_parameters == {"C": 1.0}


def test_probabilities_follow_the_class_names():
    aligned = align_probabilities(np.array([[0.3, 0.7]]), np.array(["c", "a"]), NAMES)
    np.testing.assert_array_equal(aligned, [[0.7, 0, 0.3]])


@pytest.mark.parametrize("digits", [1, 2, 16])
def test_areas_are_those_of_scikit_learn(digits):
    generator = np.random.default_rng(digits)
    for images in (2, 3, 40, 700):
        scores = generator.random(images).round(digits)
        positive = generator.random(images) < 0.3
        positive[:2] = True, False
        assert roc_area(positive, scores) == metrics.roc_auc_score(positive, scores)
        assert average_precision(positive, scores) == pytest.approx(metrics.average_precision_score(positive, scores))
