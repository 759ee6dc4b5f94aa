"""The README's snippet runs, and the README names every command and head."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from embedonce.cli.app import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture
def desk(tmp_path, monkeypatch, make_images, keras_home):
    """A folder to work in, as the README assumes it: with photos and with ImageNet weights."""
    make_images(tmp_path / "photos", ("cats", "dogs"), per_class=12)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_HOME", str(keras_home))
    return tmp_path


@pytest.mark.slow
def test_the_python_snippet_runs(desk):
    (snippet,) = [block for kind, block in BLOCKS if kind == "python"]
    exec(compile(snippet, "README.md", "exec"), {})
    assert (desk / "runs" / "photos" / "results.json").is_file()
    assert (desk / "models" / "logreg.npz").is_file()


def test_every_command_is_in_the_readme():
    for command in main.commands:
        assert f"embedonce {command}" in README


def test_every_head_is_in_the_readme():
    from embedonce.heads.registry import HEADS

    for name in HEADS:
        assert f"`{name}`" in README
