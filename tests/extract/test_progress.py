"""Progress on a terminal, in a log, and switched off."""

from __future__ import annotations

import io
import logging
import os
import re
import subprocess
import sys

import pytest
from embedonce.extract import progress
from embedonce.extract.progress import Lines, Progress, Timed, make_progress

TEXT = "preparing MobileNetV2 for the weights imagenet, once …"

WORKING = """
import sys, time
from embedonce._keras import quiet_native_output
from embedonce.extract.progress import make_progress

with make_progress(True).working(sys.argv[1], "prepared"), quiet_native_output():
    print("TensorFlow says much", flush=True)
    print("about the processor", file=sys.stderr, flush=True)
    time.sleep(1.1)
    if len(sys.argv) > 2:
        raise SystemExit(3)
print("the run continues", file=sys.stderr)
"""


def on_a_terminal(*arguments):
    """Run WORKING with a terminal for standard error; return its exit status and what the terminal got."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", WORKING, *arguments]
    with subprocess.Popen(command, stderr=theirs, stdout=theirs, env=os.environ | {"TERM": "xterm"}) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # Linux's way to say that the other side is closed
                break
            if not part:
                break
            shown += part
    os.close(ours)
    return process.returncode, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())


def flat(text):
    return " ".join(text.split())  # terminals break lines


def test_a_terminal_gets_a_spinner_and_then_the_seconds():
    status, shown = on_a_terminal(TEXT)
    assert status == 0
    # drawn again and again, although standard error is turned away meanwhile
    assert len(re.findall("[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]", shown)) >= 3
    assert re.search(r"once … prepared in \d\.\d s", flat(shown))
    assert "TensorFlow" not in shown
    assert "processor" not in shown
    assert flat(shown).endswith("the run continues")


def test_work_that_fails_is_not_called_done():
    status, shown = on_a_terminal(TEXT, "fail")
    assert status == 3
    assert "once …" in flat(shown)
    assert "prepared in" not in flat(shown)


def test_brackets_in_a_name_are_shown_as_they_are():
    assert "the weights [/my]" in flat(on_a_terminal("the weights [/my] …")[1])


def test_a_log_gets_a_line_at_the_beginning_and_one_at_the_end(monkeypatch):
    monkeypatch.setattr(progress, "SHORT", 0)
    stream = io.StringIO()
    with Lines(stream).working(TEXT, "prepared"):
        assert stream.getvalue() == TEXT + "\n"
    assert re.fullmatch(re.escape(TEXT) + r" prepared in \d+\.\d s", stream.getvalue().splitlines()[1])


def test_short_work_leaves_no_line_of_its_end():
    stream = io.StringIO()
    with Lines(stream).working(TEXT, "prepared"):
        pass
    assert stream.getvalue() == TEXT + "\n"


def test_a_log_gets_a_line_in_ten_seconds_of_many_steps(monkeypatch):
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    stream = io.StringIO()
    lines = Lines(stream)
    for step in range(31):
        lines.now(f"fit {step}")
        now += 1
    assert stream.getvalue().split("\n") == ["fit 0", "fit 10", "fit 20", "fit 30", ""]


def test_work_is_recorded_by_the_logger_of_the_package(caplog):
    with caplog.at_level(logging.INFO, "embedonce"):
        shown = Progress()
        shown.say("embedded\x1b[2J")
        shown.now("training")
        shown.start(1234, "reading")
    assert [record.getMessage() for record in caplog.records] == [
        "embedded\\x1b[2J", "training", "reading: 1,234 images",
    ]  # fmt: skip


def test_a_log_gets_no_end_of_work_that_failed():
    stream = io.StringIO()
    with pytest.raises(ZeroDivisionError), Lines(stream).working(TEXT, "prepared"):
        _ = 1 / 0
    assert stream.getvalue() == TEXT + "\n"


def test_silence_is_silent(capsys):
    with Progress().working(TEXT, "prepared"), make_progress(False).working(TEXT, "prepared"):
        pass
    assert capsys.readouterr() == ("", "")


def test_timings_are_of_each_phase(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr("embedonce.extract.progress.time.perf_counter", lambda: float(next(clock)))
    timed = Timed(Progress(), "start")
    for text in ("training a (fold 1 of 2) …", "training a (fold 2 of 2) …", "fit 3 of 80, about 2 s left"):
        timed.now(text)
    with timed.working("computing …", "computed"):
        timed.advance(1)
    timed.start(10, "classifying")
    timed.close()
    assert timed.seconds == {"start": 1, "training a": 2, "fit": 1, "computing": 1, "classifying": 1}
