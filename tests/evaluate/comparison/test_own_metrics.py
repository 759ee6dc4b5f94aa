from __future__ import annotations

import json

import embedonce as eo
import numpy as np
import pytest
from embedonce.evaluate.comparison.fail_under import failed_gates, read_gates
from embedonce.evaluate.metrics import read_metrics
from embedonce.evaluate.report.html import page_content
from saving import without_pictures
from sklearn.metrics import cohen_kappa_score, log_loss, make_scorer

HEADS = ["logreg", "knn", "sklearn.linear_model:Perceptron"]


def oak_cost(true, predicted):
    return np.mean(np.where(true == predicted, 0, np.where(true == "oak", 10, 1)))


METRICS = {
    "kappa": cohen_kappa_score,
    "oak_cost": oak_cost,
    "certain": make_scorer(log_loss, greater_is_better=False, response_method="predict_proba"),
}


@pytest.fixture(scope="module")
def made():
    generator = np.random.default_rng(0)
    labels = np.tile(["ash", "birch", "oak"], 60)
    X = generator.normal(size=(180, 6))
    X[np.arange(180), np.tile([0, 1, 2], 60)] += 1.5
    return eo.FeatureCache.from_arrays(X, labels, metadata={"site": np.repeat(["a", "b"], 90)})


@pytest.fixture(scope="module")
def comparison(made):
    return eo.compare(made, HEADS, split="random", groups=np.arange(180) // 3, metrics=METRICS, by="@site")


def names(comparison, predicted=None):
    codes = comparison.cache.labels[comparison.split.test] if predicted is None else predicted
    return np.array(comparison.cache.class_names)[codes]


def test_every_head_has_the_metric_with_its_interval(comparison):
    for result in comparison.results:
        predicted = names(comparison, result.predicted)
        assert result.scores["kappa"] == cohen_kappa_score(names(comparison), predicted)
        assert result.scores["oak_cost"] == oak_cost(names(comparison), predicted)
        low, high = result.intervals["oak_cost"]
        assert low <= result.scores["oak_cost"] <= high
    logreg = comparison.result("logreg")
    assert logreg.scores["certain"] == pytest.approx(-logreg.scores["log_loss"])
    assert np.allclose(logreg.intervals["certain"], [-end for end in logreg.intervals["log_loss"][::-1]], atol=0.15)


def test_a_head_without_probabilities_has_a_note(comparison):
    assert comparison.result("sklearn.linear_model:Perceptron").scores["certain"] is None
    text = "certain of sklearn.linear_model:Perceptron has no value, because the head has no probabilities"
    assert text in comparison.notes
    assert len(comparison.own_metrics["certain"].differences) == 1
    assert len(comparison.own_metrics["kappa"].differences) == 3


def test_tables_results_and_report_have_it(comparison, tmp_path):
    assert "kappa" in comparison.score_table().titles
    assert comparison.table.to_dict()[0]["kappa"] == comparison.table[0].scores["kappa"]
    with without_pictures():
        comparison.save(tmp_path)
    saved = json.loads((tmp_path / "results.json").read_text())
    assert saved["heads"][0]["kappa"] == comparison.results[0].scores["kappa"]
    assert len(saved["heads"][0]["intervals"]["kappa"]) == 2
    assert [(one["name"], one["higher_is_better"]) for one in saved["own_metrics"]] == [
        ("kappa", True),
        ("oak_cost", False),
        ("certain", True),
    ]
    assert saved["own_metrics"][0]["differences"][0]["metric"] == "kappa"
    about, table, sentences = page_content(comparison, thumbnails=False, drawn={})["own_metrics"][1]
    assert about.startswith("Less is better")
    assert table.titles == ["head", "oak_cost", "95 % interval"]
    costs = [float(row[1]) for row in table.rows]
    assert costs == sorted(costs)
    assert len(sentences) == 3


def test_subgroups_have_it(comparison):
    assert all(isinstance(row.scores["oak_cost"], float) for row in comparison.subgroups)


def test_gates_take_it(comparison):
    own = read_metrics(METRICS, comparison.cache.class_names, "compare")
    gates = read_gates(["logreg.kappa>=-1", "oak_cost<=0.001", "kappa>=0.99@lower"], HEADS, own)
    failed = failed_gates(comparison, gates)
    assert [text.split(" must")[0] for text in failed] == ["oak_cost", "the lower end of kappa"]
    with pytest.raises(eo.errors.ParameterError, match="must be oak_cost<=VALUE"):
        read_gates(["oak_cost>=0.5"], HEADS, own)


def test_the_best_head_is_that_of_the_metric(comparison):
    best = comparison.best("oak_cost")
    assert best.score == min(result.scores["oak_cost"] for result in comparison.results)
    assert best.low <= best.score <= best.expected <= best.high


def test_folds_have_it(made):
    comparison = eo.compare(made, ["logreg", "knn"], split="random", folds=3, repeats=2, metrics=oak_cost)
    result = comparison.results[0]
    of_folds = [fold.scores["oak_cost"] for fold in result.folds]
    assert len(of_folds) == 6
    assert np.mean(of_folds) == pytest.approx(result.scores["oak_cost"], abs=0.02)
    (row,) = comparison.own_metrics["oak_cost"].differences
    assert row.test == "corrected resampled t and t test and interval of the jackknife"
    assert row.low <= row.difference <= row.high


def test_a_metric_that_fails_later_costs_nothing(made):
    def fragile(true, predicted):
        if len(true) > 10:
            raise KeyError("oak")
        return 1.0

    comparison = eo.compare(made, ["knn"], split="random", metrics=fragile)
    assert comparison.results[0].scores["fragile"] is None
    assert "fragile of knn has no value, because it fails with KeyError: 'oak'" in comparison.notes
    assert comparison.best("fragile") is None
    assert comparison.own_metrics["fragile"].differences == ()


def test_a_metric_without_a_number_is_a_note(made):
    comparison = eo.compare(made, ["knn"], split="random", metrics={"rate": lambda true, predicted: float("nan")})
    assert "rate of knn has no value, because it returns nan" in comparison.notes


def test_a_trained_model_is_scored_by_it(made, tmp_path):
    model = eo.train(made, "logreg", tmp_path / "logreg.npz", split="random")
    evaluation = eo.evaluate_model(model.path, made, metrics=METRICS)
    assert evaluation.result.scores["kappa"] > 0
    assert set(METRICS) <= set(evaluation.result.intervals)
    assert evaluation.to_dict()["scores"]["oak_cost"] == evaluation.result.scores["oak_cost"]


def test_saved_runs_are_ordered_by_it(made, comparison, tmp_path):
    with without_pictures():
        comparison.save(tmp_path / "own")
        eo.compare(made, ["knn"], split="random").save(tmp_path / "plain")
    saved = eo.load_results(tmp_path / "own")
    costs = [row.score for row in saved.scores("oak_cost")]
    assert costs == sorted(costs)
    board = eo.leaderboard(tmp_path, metric="oak_cost")
    assert [row.score for row in board.rows] == costs
    assert "Without oak_cost, and not shown: plain." in board.notes
    with pytest.raises(eo.errors.ParameterError, match="metric of leaderboard must be one of accuracy, .*oak_cost"):
        eo.leaderboard(tmp_path, metric="ash_cost")
