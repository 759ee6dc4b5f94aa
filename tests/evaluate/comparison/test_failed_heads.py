"""Comparisons in which heads fail, wholly or for a class."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from embedonce.cli.app import main
from embedonce.evaluate.comparison.run import compare
from embedonce.extract import Progress
from saving import without_pictures
from sklearn.neighbors import KNeighborsClassifier


class Sometimes(KNeighborsClassifier):
    """Fails on training parts of the sizes that it is told."""

    def __init__(self, smallest=0, largest=np.inf):
        super().__init__(n_neighbors=1)
        self.smallest, self.largest = smallest, largest

    def fit(self, X, y):
        if not self.smallest <= len(X) <= self.largest:
            raise ValueError(f"{len(X)} rows")
        return super().fit(X, y)


class Never(Sometimes):
    def fit(self, X, y):
        raise ValueError("never")


def test_a_head_that_fails_in_one_fold_is_left_out(cache):
    folds = [
        (np.arange(0, 60), np.arange(60, 72)),
        (np.arange(12, 72), np.arange(12)),
        (np.arange(40), np.arange(40, 60)),
    ]
    comparison = compare(cache, {"some": Sometimes(smallest=50), "knn": {}}, split=folds)
    assert [result.name for result in comparison.results] == ["knn"]
    assert str(comparison.failed["some"]) == "head 'some' (fold 3 of 3) failed: ValueError: 40 rows"


def test_a_head_that_fails_on_the_random_split_is_kept(cache, in_pairs):
    whole = compare(cache, ["knn"], groups=in_pairs)
    sizes = [len(plan.split.train) for plan in (whole, whole.leaky)]
    assert sizes[0] != sizes[1]
    comparison = compare(cache, {"some": Sometimes(sizes[0], sizes[0]), "knn": {}}, groups=in_pairs)
    assert [result.name for result in comparison.results] == ["some", "knn"]
    assert [result.name for result in comparison.leaky.results] == ["knn"]
    assert [row.head for row in comparison.leakage_gap] == ["knn"]
    assert "(random)" in str(comparison.failed["some"])


def test_a_search_that_fails_leaves_the_other_heads(cache, monkeypatch):
    from embedonce.heads.neighbors import KNNHead

    def fail(self, X, y):
        raise ValueError("no luck")

    monkeypatch.setattr(KNNHead, "fit", fail)
    comparison = compare(cache, ["knn", "logreg"], split="random", tune=0)
    assert [result.name for result in comparison.results] == ["logreg"]
    assert "no candidate of head 'knn' could be scored" in str(comparison.failed["knn"])
    assert not any("knn was not tuned" in note for note in comparison.notes)


def test_a_learning_curve_lacks_the_points_that_fail(cache):
    comparison = compare(cache, {"some": Sometimes(smallest=50), "knn": {}}, split="random", learning_curve=True)
    points = {name: [row for row in comparison.learning_curve if row.head == name] for name in ("some", "knn")}
    assert 0 < len(points["some"]) < len(points["knn"])
    assert any(
        note.startswith("the learning curve of some lacks points, because head 'some' on") for note in comparison.notes
    )
    assert not comparison.failed


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupted_comparison_leaves_finished_scores(cache_path, tmp_path, jobs):
    class Interrupting(Progress):
        def now(self, text):
            if "last" in text:
                raise KeyboardInterrupt

    path = tmp_path / "partial.json"
    heads = {"knn": {}, "never": Never(), "dummy": {}, "last": {"head": "knn"}}
    with pytest.raises(KeyboardInterrupt):
        compare(cache_path, heads, split="random", jobs=jobs, partial_results=path, progress=Interrupting())
    partial = json.loads(path.read_bytes())
    names = [row["head"] for row in partial["finished"] + partial["failed"]]
    assert set(names) <= {"knn", "never", "dummy"}
    assert len(names) >= 4 - jobs
    (expected,) = compare(cache_path, ["knn"], split="random").results
    for row in partial["finished"]:
        if row["head"] == "knn":
            assert row["accuracy"] == expected.scores["accuracy"]


@pytest.fixture
def run(cache_path, tmp_path):
    """Return a function that runs compare with a head that fails, and returns its result and the folder."""

    def call(*options):
        command = ["compare", cache_path, "--heads", "knn,sklearn.naive_bayes:CategoricalNB", "--split", "random"]
        with without_pictures():
            result = CliRunner().invoke(main, [*map(str, command), "-o", str(tmp_path / "run"), *options])
        return result, tmp_path / "run"

    return call


def test_the_command_reports_a_failed_head_with_status_1(run):
    result, folder = run("--json")
    assert result.exit_code == 1
    results = json.loads(result.stdout)
    assert [head["head"] for head in results["heads"]] == ["knn"]
    (failed,) = results["failed"]
    assert failed["head"] == "sklearn.naive_bayes:CategoricalNB"
    assert f"Error: {failed['error']}" in result.stderr.splitlines()
    assert json.loads((folder / "results.json").read_bytes()) == results
    assert not (folder / "results.partial.json").exists()


def test_debug_shows_the_traceback_of_a_failed_head(run):
    result, _ = run("--debug")
    assert result.exit_code == 1
    assert "Traceback" in result.stderr


def test_a_gate_of_a_failed_head_is_not_reached(run):
    result, _ = run("--fail-under", "sklearn.naive_bayes:CategoricalNB.accuracy=0.5", "--fail-under", "accuracy=0")
    assert result.exit_code == 1
    assert "Not reached: accuracy must be at least 0.5, sklearn.naive_bayes:CategoricalNB has none." in result.stderr


def without_class(cache, name):
    """Return a pair of rows whose training part lacks a class, of which the test part has four images."""
    rows = np.arange(len(cache))
    of_class = cache.label_names == name
    train = rows[~of_class][::2]
    return train, np.setdiff1d(rows, np.r_[train, rows[of_class][4:]])


def test_a_class_that_was_not_trained_is_the_first_note(cache):
    comparison = compare(cache, ["knn", "logreg"], split=without_class(cache, "birch"))
    assert comparison.notes[0] == (
        "class birch has 4 test images and no training image, so no head can predict it and every score is too low"
    )
    assert comparison.score_table().rows
    assert [row.verdict for row in comparison.differences] == ["undecided"]


def test_a_class_that_one_fold_does_not_train_is_noted(cache):
    train, test = without_class(cache, "birch")
    comparison = compare(cache, ["knn"], split=[(train, test[:20]), (test, train[:5])])
    birch = int((cache.label_names[test[:20]] == "birch").sum())
    assert comparison.notes[0].startswith(f"class birch has {birch} test images and no training image")


def test_probabilities_that_are_not_calibrated_are_noted(cache):
    rows = np.arange(len(cache))
    train = np.r_[rows[cache.label_names != "birch"][::2], rows[cache.label_names == "birch"][:1]]
    comparison = compare(cache, ["linear-svm", "knn"], split=(train, np.setdiff1d(rows, train)), calibrate="sigmoid")
    for name in ("linear-svm", "knn"):
        note = f"the probabilities of {name} are not calibrated for class birch, because there are too few training"
        assert any(text.startswith(note) for text in comparison.notes)
