"""Comparisons in an MLflow tracking store; the tests that need its client are skipped without it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import embedonce as eo
import numpy as np
import pytest
from click.testing import CliRunner
from embedonce.cli import main
from embedonce.errors import MissingPackageError, OutputError, ParameterError
from embedonce.evaluate.report.mlflow_store import LoggedRun, MlflowStore
from saving import without_pictures

LABELS = ["ash", "birch"] * 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    X = np.random.default_rng(0).normal(size=(60, 8)) + np.arange(60)[:, None] % 2
    heads = {"knn": {}, "softmax": {"epochs": 3}}
    made = eo.compare(eo.FeatureCache.from_arrays(X, LABELS), heads, groups=[f"g{row // 4}" for row in range(60)])
    run = tmp_path_factory.mktemp("runs") / "first"
    with without_pictures():
        made.save(run, figures="none")
    return run


@pytest.fixture
def uri(tmp_path, monkeypatch):
    pytest.importorskip("mlflow", exc_type=ImportError)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a database takes seconds to create
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "trees")
    monkeypatch.chdir(tmp_path)
    return (tmp_path / "store").as_uri()


def runs_of(uri):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    found = client.search_runs([client.get_experiment_by_name("trees").experiment_id])
    return client, {run.info.run_name: run for run in found}


def test_a_comparison_is_a_run_and_its_heads_are_child_runs(folder, uri):
    logged = eo.log_to_mlflow(folder, uri)
    results = json.loads((folder / "results.json").read_text())
    client, runs = runs_of(uri)
    assert logged == LoggedRun(runs["first"].info.run_id, "trees", 2, False)
    assert set(runs) == {"first", "knn", "softmax"}
    parent = runs["first"]
    assert parent.info.status == "FINISHED"
    assert parent.data.params["split.method"] == "grouped"
    assert parent.data.params["images"] == "60"
    assert parent.data.metrics["best_expected"] == results["best"]["expected"]
    assert parent.data.tags["test_digest"] == results["split"]["test_digest"]
    assert "Not for diagnosis" in parent.data.tags["mlflow.note.content"]
    files = {entry.path for entry in client.list_artifacts(logged.run_id)}
    assert files == set(results["files"])
    for head in results["heads"]:
        run = runs[head["head"]]
        assert run.data.tags["mlflow.parentRunId"] == logged.run_id
        assert run.data.metrics["accuracy"] == head["accuracy"]
        assert run.data.metrics["accuracy_low"] == head["intervals"]["accuracy"][0]
        assert run.data.params.keys() == head["parameters"].keys()
    curve = client.get_metric_history(runs["softmax"].info.run_id, "history.loss")
    assert [(point.step, point.value) for point in curve] == list(enumerate(results["heads"][1]["history"]["loss"], 1))


def test_results_are_logged_once(folder, uri):
    first, second = eo.log_to_mlflow(folder, uri), eo.log_to_mlflow(folder, uri)
    assert (second.run_id, second.found) == (first.run_id, True)
    assert len(runs_of(uri)[1]) == 3
    assert not eo.log_to_mlflow(folder, uri, experiment="others").found


def test_a_run_that_fails_is_marked_and_logged_again(folder, uri, monkeypatch):
    from mlflow import MlflowClient

    def fail(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_artifact", fail)
        with pytest.raises(OutputError, match="cannot log .*first to MLflow: .*No space left"):
            eo.log_to_mlflow(folder, uri)
    assert runs_of(uri)[1]["first"].info.status == "FAILED"
    assert not eo.log_to_mlflow(folder, uri).found


def test_a_store_that_cannot_be_opened_is_one_error(folder, uri):
    with pytest.raises(OutputError, match="cannot open the MLflow store nonsense://here"):
        eo.log_to_mlflow(folder, "nonsense://here")
    assert "MLFLOW_DISABLE_TELEMETRY" not in os.environ


def test_addresses_and_folders_are_checked_before_mlflow_is_imported(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingPackageError, match=r"Install it with: pip install 'embedonce\[mlflow\]'"):
        eo.log_to_mlflow(folder, "http://localhost:5000")
    with pytest.raises(ParameterError, match="must have no password. Set MLFLOW_TRACKING_USERNAME"):
        eo.log_to_mlflow(folder, "http://me:secret@localhost:5000")
    with pytest.raises(ParameterError, match="must be the address of a tracking store, .* got 5"):
        eo.log_to_mlflow(folder, 5)
    with pytest.raises(ParameterError, match="must be a folder that embedonce compare wrote"):
        eo.log_to_mlflow(tmp_path, "http://localhost:5000")


class Store:
    """A store that keeps the names of folders, and fails for one of them."""

    experiment = "trees"

    def __init__(self, failing=""):
        self.failing, self.folders = failing, []

    def log(self, folder):
        if Path(folder).name == self.failing:
            raise OutputError("cannot log this folder")
        self.folders.append(Path(folder).name)
        return LoggedRun("12ab", "trees", 1, len(self.folders) > 1)


@pytest.fixture
def command(cache_path, tmp_path, monkeypatch):
    def run(store, *arguments):
        monkeypatch.setattr(MlflowStore, "open", lambda uri: store)
        words = ["compare", str(cache_path), "--split", "random", "--figures", "none", "--mlflow", "http://localhost"]
        with without_pictures():
            return CliRunner().invoke(main, [*words, "-o", str(tmp_path / "out"), *arguments])

    return run


def test_the_command_logs_what_it_saved(command, tmp_path):
    store = Store()
    shown = command(store, "--heads", "knn", "--json")
    assert json.loads(shown.stdout)["heads"][0]["head"] == "knn"
    assert "Logged to MLflow: run 12ab of the experiment trees." in shown.stderr
    assert store.folders == ["out"]
    failed = command(Store("out"), "--heads", "knn")
    assert failed.exit_code == 1
    assert "Error: cannot log this folder" in failed.stderr
    assert (tmp_path / "out" / "results.json").is_file()


def test_a_grid_logs_every_comparison(command, tmp_path):
    (tmp_path / "a.toml").write_text("[heads.knn]\n[grid]\nseed = [1, 2]\n")
    store = Store()
    shown = command(store, "--config", str(tmp_path / "a.toml"))
    assert store.folders == ["seed=1", "seed=2"]
    assert "2 comparisons of the experiment trees, 1 of them from earlier." in shown.stderr
