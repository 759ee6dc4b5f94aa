"""The scripts and the notebook of examples/ run."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from embedonce import FeatureCache
from saving import without_pictures

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Return a function that runs a script without pictures and returns its output."""
    monkeypatch.chdir(tmp_path)

    def script(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        with without_pictures():
            runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return script


@pytest.mark.slow
def test_custom_head_is_compared(run, cache_path, tmp_path):
    output = run("own_head.py", cache_path)
    assert output.startswith("direction  accuracy")
    assert (tmp_path / "runs" / "own-head" / "results.json").is_file()


def test_custom_head_is_a_classifier(cache_path):
    head = runpy.run_path(str(EXAMPLES / "own_head.py"))["DirectionHead"]()
    cache = FeatureCache.open(cache_path)
    head.fit(cache.features, cache.label_names)
    assert head.score(cache.features, cache.label_names) > 0.5
    np.testing.assert_allclose(head.predict_proba(cache.features).sum(axis=1), 1)


@pytest.mark.slow
def test_notebook_runs(images, small, tmp_path, monkeypatch):
    notebook = json.loads((EXAMPLES / "from_folder_to_report.ipynb").read_text(encoding="utf-8"))
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for cell in notebook["cells"]:
        assert not cell.get("outputs")
        if cell["cell_type"] == "code":
            source = "".join(cell["source"])
            source = source.replace('Path("photos")', f"Path({str(images)!r})").replace(
                "OPTIONS = {}", f"OPTIONS = {small!r}"
            )
            exec(compile(source, cell["id"], "exec"), names)
    assert (tmp_path / "runs" / "notebook" / "report" / "report.html").is_file()
    assert (tmp_path / "runs" / "notebook" / "logreg.npz").is_file()
