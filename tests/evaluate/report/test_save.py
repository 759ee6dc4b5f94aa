"""The files of a comparison appear together or not at all."""

from __future__ import annotations

import json

import pytest
from embedonce.errors import ParameterError
from embedonce.evaluate.comparison.run import compare
from embedonce.evaluate.report import html
from embedonce.evaluate.report.run_diff import diff
from embedonce.evaluate.shared import plots
from saving import with_empty_pictures, without_pictures
from sklearn.dummy import DummyClassifier


@pytest.fixture
def comparison(cache):
    return compare(cache, ["knn", "dummy"], split="random")


def save(comparison, folder):
    with without_pictures():
        return comparison.save(folder)


def test_results_list_all_files(comparison, tmp_path):
    with with_empty_pictures():
        written = comparison.save(tmp_path)
    results = json.loads((tmp_path / "results.json").read_bytes())
    assert results["files"] == [path.name for path in written]
    assert sorted(path.name for path in tmp_path.iterdir()) == results["files"]


def test_a_second_run_removes_the_files_of_the_first(cache, comparison, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    save(comparison, tmp_path)
    assert (tmp_path / "confusion-dummy.csv").exists()
    save(compare(cache, ["knn"], split="random"), tmp_path)
    assert (tmp_path / "confusion-knn.csv").exists()
    assert not (tmp_path / "confusion-dummy.csv").exists()
    assert (tmp_path / "notes.txt").exists()


@pytest.mark.parametrize("results", [b"{", b"[]", b'{"format": "embedonce-results", "files": ["../a", "/", "..", 1]}'])
def test_results_of_others_remove_nothing(comparison, tmp_path, results):
    folder = tmp_path / "run"
    folder.mkdir()
    (tmp_path / "a").write_text("mine")
    (folder / "results.json").write_bytes(results)
    save(comparison, folder)
    assert (tmp_path / "a").read_text() == "mine"


def test_a_figure_that_fails_costs_nothing_else(comparison, tmp_path):
    def fail(figure, *paths):
        for path in paths:
            path.touch()
        if paths[0].name == "roc.png":
            raise RuntimeError("<no font>")

    with with_empty_pictures(), pytest.MonkeyPatch.context() as patch:  # undone in this order, unlike `monkeypatch`
        patch.setattr(plots, "save_figure", fail)
        names = {path.name for path in comparison.save(tmp_path)}
    assert {"results.json", "report.html", "coverage.png"} <= names
    assert not {"roc.png", "roc.svg"} & names
    note = "roc.png and roc.svg could not be drawn (RuntimeError: <no font>)"
    assert note in json.loads((tmp_path / "results.json").read_bytes())["notes"]
    assert "could not be drawn (RuntimeError: &lt;no font&gt;)" in (tmp_path / "report.html").read_text("utf-8")


@pytest.mark.parametrize(("figures", "drawn"), [("none", 0), ("report", 6), ("all", 6)])
def test_figures_are_drawn_where_they_are_asked_for(comparison, tmp_path, figures, drawn):
    with with_empty_pictures():
        names = {path.name for path in comparison.save(tmp_path, figures=figures)}
    assert any(name.endswith((".png", ".svg")) for name in names) == (figures == "all")
    assert {"confusion-knn.csv", "results.json", "report.html"} <= names
    page = (tmp_path / "report.html").read_text("utf-8")
    assert page.count("<svg") == page.count("<figure>") == drawn
    assert 'aria-label="Calibration"' in page


def test_other_figures_are_an_error(comparison, tmp_path):
    with pytest.raises(ParameterError, match="figures of Comparison.save must be one of none, report, all, got 'png'"):
        comparison.save(tmp_path / "new", figures="png")
    assert not (tmp_path / "new").exists()


def test_a_report_that_fails_costs_nothing_else(comparison, tmp_path):
    with without_pictures(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(html, "write_report", lambda *arguments, **keywords: 1 / 0)
        comparison.save(tmp_path)
    results = json.loads((tmp_path / "results.json").read_bytes())
    assert "report.html could not be written (ZeroDivisionError: division by zero)" in results["notes"]
    assert "report.html" not in results["files"]


def test_a_run_killed_while_drawing_is_refused(comparison, tmp_path, monkeypatch):
    def killed(figure, *paths):
        raise KeyboardInterrupt

    monkeypatch.setattr(plots, "save_figure", killed)
    with pytest.raises(KeyboardInterrupt):
        comparison.save(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ParameterError, match=r"results\.json, which is written last: No such file or directory"):
        diff(tmp_path, tmp_path)


def test_a_missing_file_of_results_is_refused(comparison, tmp_path):
    save(comparison, tmp_path)
    (tmp_path / "predictions.csv").unlink()
    with pytest.raises(ParameterError, match=r"must hold predictions\.csv, which its results\.json lists"):
        diff(tmp_path, tmp_path)


def test_heads_of_alike_names_have_their_own_files(cache, tmp_path):
    heads = {name: DummyClassifier() for name in ("a:b", "a-b", "A-b")}
    save(compare(cache, heads, split="random"), tmp_path)
    for name in ("a-b", "a-b-2", "A-b-2"):
        assert (tmp_path / f"confusion-{name}.csv").exists() == (name != "A-b-2")
    assert (tmp_path / "confusion-A-b-3.csv").exists()
