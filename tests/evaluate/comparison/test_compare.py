from __future__ import annotations

import csv
import json

import embedonce
import numpy as np
import pytest
from embedonce.cache import FeatureCache
from embedonce.errors import CacheError, HeadError, HeadParameterError, OutputError
from embedonce.evaluate.comparison.run import compare
from embedonce.heads.registry import make_head
from kept_lines import KeptLines
from sklearn.linear_model import LogisticRegression, Perceptron
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


@pytest.fixture(scope="module")
def comparison(cache_path):
    return compare(cache_path, ["logreg", "softmax", "dummy", "sklearn.linear_model:Perceptron"])


def test_heads_learn(comparison, cache):
    accuracy = {result.name: result.scores["accuracy"] for result in comparison.table}
    assert accuracy["logreg"] >= 0.9
    most = np.bincount(cache.labels[comparison.split.train]).argmax()
    assert accuracy["dummy"] == (cache.labels[comparison.split.test] == most).mean()


def test_the_scores_are_those_of_plain_scikit_learn(comparison, cache):
    split = comparison.split
    plain = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=1000))
    plain.fit(cache.features[split.train], cache.labels[split.train])
    np.testing.assert_array_equal(plain.predict(cache.features[split.test]), comparison.result("logreg").predicted)


def test_the_table_has_the_best_head_first_and_numbers_for_all(comparison):
    accuracies = [result.scores["accuracy"] for result in comparison.table]
    assert accuracies == sorted(accuracies, reverse=True)
    assert {result.name for result in comparison.table} == {
        "logreg",
        "softmax",
        "dummy",
        "sklearn.linear_model:Perceptron",
    }
    for result in comparison.table:
        assert result.fit_seconds > 0
        assert result.predict_seconds > 0


def test_a_head_without_probabilities_is_scored_without_them(comparison):
    result = comparison.result("sklearn.linear_model:Perceptron")
    assert result.probabilities is None
    assert result.scores["log_loss"] is None


def test_the_confusion_matrix_counts_every_test_image(comparison):
    matrix = comparison.confusion("logreg")
    assert matrix.shape == (3, 3)
    assert matrix.sum() == len(comparison.split.test)
    np.testing.assert_array_equal(matrix.sum(axis=1), np.bincount(comparison.cache.labels[comparison.split.test]))


def test_a_head_that_was_not_compared_is_an_error(comparison):
    with pytest.raises(HeadError, match="one of the compared heads .*got 'svm'"):
        comparison.confusion("svm")


def test_the_softmax_head_has_its_curves_with_validation(comparison):
    history = comparison.result("softmax").history
    assert set(history) == {"accuracy", "loss", "val_accuracy", "val_loss"}
    assert len(history["loss"]) == comparison.result("softmax").head.n_iter_


def test_heads_can_be_given_with_parameters_or_ready_made(cache):
    made = compare(cache, {"logreg": {"C": 1e-9}, "mine": Perceptron(random_state=0)})
    assert made.result("logreg").head.C == 1e-9
    assert made.result("mine").scores["accuracy"] > 0.5


def test_a_list_may_hold_instances(cache):
    made = compare(cache, ["dummy", make_head("knn"), Perceptron()], split="random")
    assert [result.name for result in made.results] == ["dummy", "knn", "Perceptron"]
    with pytest.raises(HeadError, match="name each head once, got knn, knn"):
        compare(cache, ["knn", make_head("knn")], split="random")


def test_results_are_frames_and_html(comparison):
    pytest.importorskip("pandas")
    frame = comparison.to_frame()
    assert frame["head"].tolist() == [result.name for result in comparison.table]
    assert len(comparison.differences.to_frame()) == 6
    assert "<td>logreg</td>" in comparison._repr_html_()
    assert "logreg" in comparison.differences._repr_html_()
    assert repr(comparison.differences).splitlines()[0].split()[:3] == ["a", "b", "metric"]
    assert repr(comparison.leakage_gap) == "(no rows)"


def test_an_unknown_head_or_parameter_stops_before_training(cache):
    progress = KeptLines()
    with pytest.raises(HeadError, match="nonsense"):
        compare(cache, ["logreg", "nonsense"], progress=progress)
    with pytest.raises(HeadParameterError, match="depth"):
        compare(cache, {"logreg": {"depth": 3}}, progress=progress)
    with pytest.raises(HeadError, match="name each head once"):
        compare(cache, ["logreg", "logreg"], progress=progress)
    with pytest.raises(HeadError, match="at least one"):
        compare(cache, [], progress=progress)
    assert not progress.lines


def test_an_unknown_calibration_stops_before_tuning(cache):
    progress = KeptLines()
    with pytest.raises(HeadParameterError, match="calibrate of compare must be temperature or sigmoid, got 'isotonic'"):
        compare(cache, ["logreg"], calibrate="isotonic", tune=1, progress=progress)
    assert not progress.lines


def test_a_cache_that_cannot_be_read_is_an_error(tmp_path):
    with pytest.raises(CacheError):
        compare(tmp_path / "none.h5")


def test_random_weights_are_noted(comparison):
    assert any("random weights (random:0)" in note for note in comparison.notes)
    assert "random weights" in str(comparison)


def test_the_first_score_is_printed_with_its_interval(comparison, monkeypatch):
    for name, title in (("accuracy", " accuracy"), ("balanced_accuracy", " balanced")):
        monkeypatch.setattr(type(comparison), "ranked_by", name)
        head, _, first, *_ = str(comparison).splitlines()
        best = comparison.table[0]
        low, high = best.intervals[name]
        assert f"{title}     95 % interval" in head
        assert f"{best.scores[name]:.4f}  {low:.4f} to {high:.4f}" in first


def test_a_repr_is_one_short_line(comparison):
    for shown in (comparison, comparison.results[0], comparison.split):
        assert len(repr(shown)) < 300
        assert "array" not in repr(shown)
    assert f"{len(comparison.split.test)} test images" in repr(comparison)
    assert comparison.results[0].name in repr(comparison.results[0])


@pytest.fixture(scope="module")
def saved(comparison, tmp_path_factory):
    folder = tmp_path_factory.mktemp("results") / "deep" / "er"
    written = comparison.save(folder)
    assert sorted(written) == sorted(folder.iterdir())
    return folder


def test_results_json_has_every_number(saved, comparison):
    results = json.loads((saved / "results.json").read_text())
    assert results["format"] == "embedonce-results"
    assert results["cache"]["fingerprint"] == comparison.cache.fingerprint
    about = {"method": "random", "seed": 0, "train": 57, "test": 15}
    assert {name: results["split"][name] for name in about} == about
    assert results["split"]["groups"]["crossing"] == 0
    entry = next(entry for entry in results["heads"] if entry["head"] == "softmax")
    assert entry["parameters"]["epochs"] == "auto"
    assert entry["history"] == comparison.result("softmax").history
    assert entry["confusion"] == comparison.confusion("softmax").tolist()
    assert results["made"]["versions"]["embedonce"] == embedonce.__version__


def test_predictions_csv_has_every_prediction(saved, comparison):
    rows = list(csv.DictReader((saved / "predictions.csv").open()))
    assert len(rows) == 4 * len(comparison.split.test)
    mine = [row for row in rows if row["head"] == "logreg"]
    right = np.mean([row["true"] == row["predicted"] for row in mine])
    assert right == pytest.approx(comparison.result("logreg").scores["accuracy"])
    for row in mine:
        shares = {name: float(row[f"p_{name}"]) for name in ("ash", "birch", "cedar")}
        assert sum(shares.values()) == pytest.approx(1, abs=1e-4)
        assert max(shares, key=shares.get) == row["predicted"]
        assert row["path"].startswith(row["true"])


def test_the_split_can_be_given_back(saved, comparison):
    again = compare(comparison.cache, ["logreg"], split=saved / "split.csv")
    np.testing.assert_array_equal(again.result("logreg").predicted, comparison.result("logreg").predicted)


def test_figures_are_written_for_every_head(saved):
    names = {path.name for path in saved.iterdir()}
    assert {"confusion.png", "confusion-logreg.png", "confusion-logreg.csv", "curves-softmax.png"} <= names
    assert "confusion-sklearn.linear_model-Perceptron.png" in names
    assert (saved / "confusion-logreg.csv").read_text().splitlines()[0] == "true \\ predicted,ash,birch,cedar"
    assert (saved / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_a_results_folder_that_cannot_be_is_an_error(comparison, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="folder of results"):
        comparison.save(tmp_path / "file")


def test_comparing_scikit_learn_heads_imports_no_tensorflow(cache_path, python, tmp_path):
    code = (
        "import sys, embedonce\n"
        "comparison = embedonce.compare(sys.argv[1], heads=['logreg', 'svm'])\n"
        "comparison.save(sys.argv[2], figures='report')\n"
        "print('tensorflow' in sys.modules)\n"
    )
    assert python(code, cache_path, tmp_path / "results") == "False\n"


def test_a_cache_in_memory_is_compared_as_one_on_disk(cache):
    stored, in_memory = (compare(one, ["knn"], split="random") for one in (cache, cache.select(slice(None))))
    assert stored.result("knn").scores == in_memory.result("knn").scores


def test_a_note_says_that_groups_cannot_be_found(cache):
    labels = cache.label_names
    comparison = compare(FeatureCache.from_arrays(cache.features, labels), ["dummy"])
    assert any("near-duplicates cannot be found. Give the groups" in note for note in comparison.notes)
