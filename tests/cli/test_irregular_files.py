"""Pipes, devices and looping links in place of files are refused and not waited for."""

from __future__ import annotations

import os

import pytest
from click.testing import CliRunner
from embedonce.cli.app import main

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")


@pytest.fixture(params=["pipe", "device", "loop"])
def odd(request, tmp_path):
    """Return a function that makes an odd file of a name."""

    def make(name):
        path = tmp_path / name
        if request.param == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to("/dev/zero" if request.param == "device" else path)
        return str(path)

    return make


@pytest.mark.parametrize(
    "command",
    [
        ["info", "{odd.h5}"],
        ["verify", "{odd.h5}"],
        ["extract", "{images}", "{odd.h5}"],
        ["train", "{cache}", "--head", "knn", "-o", "{tmp}/a.npz", "--groups", "{odd.csv}"],
        ["train", "{cache}", "--head", "knn", "-o", "{tmp}/a.npz", "--split", "{odd.csv}"],
        ["compare", "{cache}", "-o", "{tmp}/a", "--config", "{odd.toml}"],
        ["evaluate", "{odd.npz}", "{cache}"],
        ["predict", "{odd.keras}", "{images}"],
        ["predict", "{odd.skops}", "{images}"],
        ["extract", "{images}", "{tmp}/a.h5", "--weights", "{odd.weights.h5}"],
        ["diff", "{tmp}", "{tmp}"],
    ],
)
def test_an_odd_file_is_refused(odd, command, cache_path, images, tmp_path):
    known = {"cache": str(cache_path), "images": str(images), "tmp": str(tmp_path)}
    if command[0] == "diff":
        odd("results.json")
    words = []
    for word in command:
        name = word[1:-1]
        words.append(odd(name) if word.startswith("{odd") else word.format(**known) if "{" in word else word)
    result = CliRunner().invoke(main, words)
    assert result.exit_code in (1, 2), result.output
    assert isinstance(result.exception, SystemExit)
    *earlier, last = result.stderr.splitlines()
    assert last.startswith("Error: ")
    assert all(line.startswith(("training", "prepar")) for line in earlier)
