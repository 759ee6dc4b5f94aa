"""Temporary files: those of killed processes are removed, those in use and those of users are not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading

import pytest
from embedonce.cache import make_folder, refuse_input_as_output, temporary_folder, write_atomically
from embedonce.errors import OutputError

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has other locks")

TOKEN = "0123456789abcdef" * 2
WRITER = """
import sys, time
from embedonce.cache import write_atomically
def parts():
    yield b"half"
    print("writing", flush=True)
    time.sleep(60)
write_atomically(sys.argv[1], parts())
"""
FOLDER = """
import sys, time
from pathlib import Path
from embedonce.cache import temporary_folder
with temporary_folder(sys.argv[1], "results.json") as folder:
    (folder / "half.csv").write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def start():
    """Return a function that runs code in a child process until it has written half; it is killed at the end."""
    children = []

    def run(code, path):
        child = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
        children.append(child)
        assert child.stdout.readline() == "writing\n"
        return child

    yield run
    for child in children:
        child.kill()
        child.wait()
        child.stdout.close()


def kill(child):
    child.send_signal(signal.SIGKILL)
    child.wait()


def test_a_file_of_a_killed_writer_is_removed(tmp_path, start):
    kill(start(WRITER, tmp_path / "a.png"))
    assert len(os.listdir(tmp_path)) == 1
    write_atomically(tmp_path / "b.png", b"other")
    assert len(os.listdir(tmp_path)) == 2
    write_atomically(tmp_path / "a.png", b"whole")
    assert sorted(os.listdir(tmp_path)) == ["a.png", "b.png"]


def test_a_file_of_a_living_writer_stays(tmp_path, start):
    start(WRITER, tmp_path / "a.png")
    (name,) = os.listdir(tmp_path)
    write_atomically(tmp_path / "a.png", b"whole")
    assert sorted(os.listdir(tmp_path)) == [name, "a.png"]


def test_a_folder_of_a_killed_process_is_removed(tmp_path, start):
    living, killed = start(FOLDER, tmp_path), start(FOLDER, tmp_path)
    assert len(os.listdir(tmp_path)) == 2
    kill(killed)
    with temporary_folder(tmp_path, "results.json"):
        assert len(os.listdir(tmp_path)) == 2
    assert len(os.listdir(tmp_path)) == 1
    kill(living)
    with temporary_folder(tmp_path, "results.json"):
        pass
    assert os.listdir(tmp_path) == []


def test_what_only_looks_alike_stays(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    home = tmp_path / "home"
    home.mkdir()
    (home / f".a.png.{TOKEN}.tmp").symlink_to(tmp_path / "mine")
    (home / f".a.png.{TOKEN[::-1]}.tmp").symlink_to(tmp_path / "mine" / "notes.txt")
    for name in (".a.png.tmp", f".b.a.png.{TOKEN}.tmp", f"a.png.{TOKEN}.tmp", f".a.png.{TOKEN}.tmp.txt"):
        (home / name).write_text("mine")
    os.mkfifo(home / f".a.png.{TOKEN[1:]}0.tmp")
    before = sorted(os.listdir(home))
    write_atomically(home / "a.png", b"whole")
    with temporary_folder(home, "a.png"):
        pass
    assert sorted(os.listdir(home)) == sorted([*before, "a.png"])
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"


def test_many_writers_of_one_name_all_succeed(tmp_path):
    errors = []

    def write(number):
        try:
            for _ in range(40):
                write_atomically(tmp_path / "a", bytes([number]) * 1000)
                with temporary_folder(tmp_path, "a") as folder:
                    (folder / "b").write_bytes(b"b")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert os.listdir(tmp_path) == ["a"]
    assert len(set((tmp_path / "a").read_bytes())) == 1


def test_without_a_temporary_folder_there_is_one_line(monkeypatch):
    def gettempdir():
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", gettempdir)
    with (
        pytest.raises(OutputError, match="cannot create a temporary folder: No usable .* Set TMPDIR"),
        temporary_folder(),
    ):
        pass


@pytest.mark.parametrize("name", ["a.png", "link.png", "hard.png", "folder/../a.png"])
def test_an_output_that_is_an_input_is_refused(tmp_path, name):
    (tmp_path / "a.png").write_bytes(b"mine")
    (tmp_path / "link.png").symlink_to("a.png")
    os.link(tmp_path / "a.png", tmp_path / "hard.png")
    make_folder(tmp_path / "folder", "the test")
    with pytest.raises(OutputError, match="it is an input of this run"):
        refuse_input_as_output(tmp_path / name, None, tmp_path / "gone", tmp_path / "a.png")
    refuse_input_as_output(tmp_path / "new.png", None, tmp_path / "a.png", "random:0", object())
