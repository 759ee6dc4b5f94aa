"""Names and texts that others wrote reach the terminal and the figures as they are, and without effect."""

from __future__ import annotations

import io
from dataclasses import replace
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from cache_tables import make_table
from click.testing import CliRunner
from embedonce.cache.writer import write_cache
from embedonce.cli import model_commands
from embedonce.cli.app import main
from embedonce.evaluate.shared.plots import confusion_figure, default_style
from embedonce.extract.progress import Bar
from saving import without_pictures

NAMES = ["[tabby] cat", "[siamese] cat", "[b]x", "[link=a]b", "$5$ \x1b[31mred", "a\rb\x07\x9b\u202e"]
SMALL = ["--weights", "random:0", "--alpha", "0.35", "--image-size", "64"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory, make_images):
    return make_images(tmp_path_factory.mktemp("hostile") / "\x1b[1mphotos", tuple(NAMES), per_class=6)


@pytest.fixture(scope="module")
def output(photos):
    """What all commands print."""
    folder = photos.parent
    cache, image = folder / "\x1b[2Jc.h5", next((photos / NAMES[4]).iterdir())
    commands = [
        ["extract", photos, cache, *SMALL],
        ["info", cache],
        ["verify", cache, "--images", photos, "--sample", "2"],
        ["groups", cache, "-o", folder / "\x1b[3mg.csv"],
        ["train", cache, "--head", "logreg", "--split", "random", "-o", folder / "\x1b[4mm.npz"],
        ["evaluate", folder / "\x1b[4mm.npz", cache],
        ["predict", folder / "\x1b[4mm.npz", photos / NAMES[0], photos / NAMES[1], "--top", "9"],
        ["predict", folder / "\x1b[4mm.npz", photos, "--csv"],
        ["explain", folder / "\x1b[4mm.npz", image, "-o", folder / "\x1b[5me.png"],
        ["tune", cache, "--head", "knn", "--space", "n_neighbors=1", "--folds", "2", "-o", folder / "\x1b[6mt"],
        ["compare", cache, "--heads", "knn,dummy", "--split", "random", "-o", folder / "\x1b[7ma"],
        ["compare", cache, "--heads", "knn", "--seed", "1", "--split", "random", "-o", folder / "\x1b[7mb"],
        ["diff", folder / "\x1b[7ma", folder / "\x1b[7mb"],
        ["evaluate", folder / "\x1b[4mm.npz", folder / "\x1b[8mnothing.h5"],
        ["predict", folder / "\x1b[4mm.npz", folder / "\x1b[8mnothing.jpg"],
        ["init", folder / "\x1b[9mheads.toml"],
    ]
    printed = {}
    terminal = SimpleNamespace(stdout=SimpleNamespace(isatty=lambda: True))  # CSV files have the names as they are
    with without_pictures(), mock.patch.object(model_commands, "sys", terminal):
        for number, command in enumerate(commands):
            result = CliRunner().invoke(main, list(map(str, command)))
            assert result.exception is None or isinstance(result.exception, SystemExit), (command, result.exception)
            printed[f"{number} {command[0]}"] = result.output
    return printed


def test_no_command_prints_control_characters(output):
    for command, text in output.items():
        assert text
        raw = [character for character in text if not character.isprintable() and character != "\n"]
        assert not raw, (command, text)


def test_no_part_of_a_name_is_lost(output):
    for command in ("1 info", "5 evaluate", "6 predict"):
        for name in NAMES[:4]:
            assert name in output[command], command
        assert r"$5$ \x1b[31mred" in output[command]


def test_a_forged_cache_prints_no_control_characters(tmp_path):
    evil = "\x1b]0;title\x07"
    table = replace(
        make_table(),
        fingerprint={"architecture": evil, "alpha": evil, evil: 1},
        provenance={"weights": evil, "versions": {evil: evil}, "engines": {evil: {}}, "image_root": evil},
        reasons=[evil, evil],
    )
    write_cache(table, tmp_path / "a.h5")
    runner = CliRunner()
    for command in (["info"], ["verify"], ["evaluate", str(tmp_path / "a.npz")], ["extract", str(tmp_path)]):
        result = runner.invoke(main, [*command, str(tmp_path / "a.h5")])
        assert "\x1b" not in result.output
        assert "\x07" not in result.output


def test_progress_shows_names_as_they_are(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    bar = Bar(stream)
    bar.say("training [tabby] cat \x1b]0;a\x07")
    bar.start(2, "classifying by [siamese] cat x[/b] \x1b]0;b\x07")
    bar.advance(2)
    bar.close()
    text = stream.getvalue()
    assert "[tabby] cat" in text
    assert "[siamese] cat x[/b]" in text
    assert "\x1b]0" not in text


def test_a_dollar_in_a_figure_is_a_dollar():
    with default_style():
        figure = confusion_figure({"$a$": np.eye(2, dtype=int)}, ["$5$", "$\\frac$"], {})
        figure.canvas.draw()
    assert not any(text.get_parse_math() for ax in figure.axes for text in (ax.title, *ax.get_xticklabels()))
