from __future__ import annotations

import json
import shutil

import embedonce as eo
import numpy as np
import pytest
from click.testing import CliRunner
from embedonce.cli.app import main
from embedonce.errors import HeadError, ParameterError


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three runs: two on the same split, with another parameter, and one on another split."""
    folder = tmp_path_factory.mktemp("runs")
    generator = np.random.default_rng(0)
    X = generator.normal(size=(90, 8)) + 2 * np.repeat(np.eye(3, 8), 30, axis=0)
    cache = eo.FeatureCache.from_arrays(X, np.repeat(["ash", "birch", "cedar"], 30))
    for name, C, seed in (("small", 0.01, 0), ("large", 10.0, 0), ("other", 10.0, 1)):
        comparison = eo.compare(cache, {"logreg": {"C": C}, "knn": {}}, split="random", seed=seed)
        comparison.save(folder / name, figures="none")
    return folder


def test_rows_of_other_test_images_have_another_letter(runs):
    board = eo.leaderboard(runs)
    assert {(row.run, row.tested) for row in board.rows} == {("small", "A"), ("large", "A"), ("other", "B")}
    scores = [row.score for row in board.rows if row.tested == "A"]
    assert scores == sorted(scores, reverse=True)
    assert "not comparable" in board.notes[0]
    assert "split: seed: 0; 1." in board.notes
    assert "logreg: C: 0.01; 10.0." in board.notes or "logreg: C: 10.0; 0.01." in board.notes
    assert board.table().titles[:2] == ["run", "tested"]


def test_runs_of_the_same_test_images_have_no_letters(runs):
    board = eo.leaderboard([runs / "small", runs / "large", runs / "small"])
    assert len(board.rows) == 4
    assert board.notes[0].startswith("All scores are of the same ")
    assert "tested" not in board.table().titles


def test_rows_are_chosen_by_value(runs):
    assert {row.head for row in eo.leaderboard(runs, where=["head=knn"]).rows} == {"knn"}
    assert {row.run for row in eo.leaderboard(runs, where={"C": 0.01}).rows} == {"small"}
    assert {row.run for row in eo.leaderboard(runs, where={"seed": 1, "head": "logreg"}).rows} == {"other"}
    assert eo.leaderboard(runs, where=["head=svm"]).notes == ["No row has these values."]
    with pytest.raises(ParameterError, match="must name run, head, tested, .*, got 'colour'"):
        eo.leaderboard(runs, where=["colour=red"])
    with pytest.raises(ParameterError, match='must be texts such as "head=svm", got'):
        eo.leaderboard(runs, where=["red"])


def test_log_loss_is_ordered_from_below(runs):
    scores = [row.score for row in eo.leaderboard([runs / "small", runs / "large"], metric="log_loss").rows]
    assert scores == sorted(scores)


def test_folders_without_results_are_errors(tmp_path):
    with pytest.raises(ParameterError, match=r"with results.json"):
        eo.leaderboard(tmp_path)
    with pytest.raises(ParameterError, match="must have at least one folder"):
        eo.leaderboard([])


def test_tables_are_written_as_csv_json_and_page(runs, tmp_path):
    board = eo.leaderboard(runs)
    frame = board.to_frame()
    assert {"run", "head", "score", "split: seed", "logreg: C"} <= set(frame)
    lines = board.save(tmp_path / "a.csv").read_text().splitlines()
    assert len(lines) == 7
    assert len(json.loads(board.save(tmp_path / "a.json").read_text())["rows"]) == 6
    page = board.save(runs / "a.html").read_text()
    assert 'href="small/report.html"' in page
    with pytest.raises(ParameterError, match=r"must end in .csv, .json, .html"):
        board.save(tmp_path / "a.txt")


def test_command_prints_table_and_notes(runs):
    done = CliRunner().invoke(main, ["leaderboard", str(runs), "--where", "head=knn"])
    assert done.exit_code == 0
    assert done.output.count("knn") == 3
    printed = CliRunner().invoke(main, ["leaderboard", str(runs), "--json"])
    assert len(json.loads(printed.output)["rows"]) == 6


def test_results_are_read_back(runs):
    results = eo.load_results(runs / "large")
    assert results.ranked_by == "accuracy"
    assert [row.head for row in results.table] == [row.head for row in results.scores("accuracy")]
    assert results.confusion("knn").shape == (3, 3)
    assert results.table[0].score >= results.table[1].score
    with pytest.raises(HeadError, match=r"must be one of the compared heads \(logreg, knn\), got 'svm'"):
        results.confusion("svm")


def test_results_of_an_earlier_version_are_told_apart(runs, tmp_path):
    for name in ("small", "other"):
        shutil.copytree(runs / name, tmp_path / name)
        path = tmp_path / name / "results.json"
        content = json.loads(path.read_text())
        del content["split"]["test_digest"]
        path.write_text(json.dumps(content))
    assert len({row.tested for row in eo.leaderboard(tmp_path).rows}) == 2
