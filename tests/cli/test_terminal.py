"""What each command leaves on a terminal of 80 columns."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import unicodedata

import pytest

pty, termios = (pytest.importorskip(name, reason="there is no pseudo-terminal") for name in ("pty", "termios"))

WIDTH = 80
RUN = """
import sys
from embedonce.evaluate.shared import plots
from embedonce.cli.app import main
plots.save_figure = lambda figure, path: path.touch()  # drawing takes most of the time
for command in sys.argv[1:]:
    try:
        main(command.split())
    except SystemExit as end:
        assert end.code in (0, 1, 2)
    print("\\f", flush=True)
"""
SMALL = "--weights random:0 --alpha 0.35 --image-size 64"
COMMANDS = [
    f"extract images a.h5 {SMALL}",
    f"extract images shards/ {SMALL}",
    "label a.h5 --labels labels.csv",
    "info a.h5",
    "verify a.h5 --images images --sample 2",
    f"doctor {SMALL}",
    "pack shards/ packed.h5",
    "convert packed.h5 -o a.csv",
    "groups packed.h5 -o packed.h5.groups.csv",
    "groups a.h5 --suggest",
    "train packed.h5 --head softmax -p epochs=2 -o softmax.npz",
    "train packed.h5 --head logreg -o m.npz",
    "tune packed.h5 --head knn --trials 2 --folds 2 -o tuned",
    "compare packed.h5 --heads logreg,svm,softmax,knn -p softmax.epochs=1 -o run",
    "compare packed.h5 --heads logreg,svm --folds 2 -o folds",
    "diff run folds",
    "card run -o card.md",
    "leaderboard run folds",
    "init run.toml",
    "evaluate m.npz packed.h5 -o scored",
    "predict m.npz images/ash",
    "explain m.npz images/ash/000.jpg -o map.png",
    "compare absent.h5",
    "train packed.h5 --head logreg -p C=-1 -o b.npz",
]
UNTESTED = {"demo", "export", "finetune"}  # minutes, or TensorFlow


def screen(output):
    """Return the lines that a terminal shows, of which too long ones are not broken."""
    lines, row, column = [[]], 0, 0
    for code, final, character in re.findall(r"\x1b\[([0-9;?]*)([A-Za-z])|([^\x1b])", output):
        if final == "A":
            row = max(0, row - int(code or 1))
        elif final == "K":
            lines[row] = [] if code == "2" else lines[row][:column]
        elif character == "\n":
            row += 1
        elif character == "\r":
            column = 0
        elif character:
            lines[row] = [*lines[row][:column], character, *lines[row][column + 1 :]]
            column += 1
        lines += [[] for _ in range(row + 1 - len(lines))]
    return ["".join(line).rstrip() for line in lines]


def width(line):
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in line)


@pytest.fixture(scope="module")
def terminal(tmp_path_factory, images):
    """Return the lines that each command shows on a terminal."""
    folder = tmp_path_factory.mktemp("terminal")
    for path in sorted(images.glob("*/00*")):
        (folder / "images" / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / "images" / path.parent.name)
    (folder / "images" / "cedar" / "broken.jpg").write_bytes(b"no image")
    (folder / "labels.csv").write_text("path,label\nash/000.jpg,birch\n")

    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (50, WIDTH))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    with subprocess.Popen(
        [sys.executable, "-c", RUN, *COMMANDS],
        cwd=folder,
        env=environment | {"TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        data = bytearray()
        while part := _read(ours):
            data += part
    os.close(ours)
    assert process.returncode == 0, data.decode()
    return dict(zip(COMMANDS, map(screen, data.decode().split("\f")), strict=False))


def _read(terminal):
    try:
        return os.read(terminal, 65536)
    except OSError:  # on Linux, the end
        return b""


def test_no_line_is_cut_or_longer_than_the_terminal(terminal):
    assert list(terminal) == COMMANDS
    for command, lines in terminal.items():
        assert any(lines), command
        assert not any("Traceback" in line for line in lines), lines
        for line in lines:
            words = line.split()
            assert width(line) <= WIDTH or len(words) == 1 or line.startswith("Next: "), (command, line)
            assert not re.search(r"\d…", line), (command, line)
            assert words[:1] != ["%"], (command, line)


def test_every_command_is_shown_on_a_terminal(python):
    names = python("from embedonce.cli.app import main; print(*main.commands)").split()
    assert set(names) == {command.split()[0] for command in COMMANDS} | UNTESTED
