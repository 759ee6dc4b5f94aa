from __future__ import annotations

import errno
import os

import pytest
from embedonce.errors import OutputError
from embedonce.evaluate.shared import replacing_files


def write(folder, version, names):
    """Write files whose content is the version."""
    with replacing_files(folder, "results", "last.json", [f"{number}.txt" for number in range(5)]) as temporary:
        for name in names:
            (temporary / name).write_text(version)


def content(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.fixture
def folder(tmp_path):
    """A folder with a file of the user and a first result."""
    (tmp_path / "notes.txt").write_text("mine")
    write(tmp_path, "old", ["0.txt", "1.txt", "last.json"])
    return tmp_path


def test_files_of_an_earlier_result_are_removed(folder):
    write(folder, "new", ["1.txt", "2.txt", "last.json"])
    assert content(folder) == {"notes.txt": "mine", "1.txt": "new", "2.txt": "new", "last.json": "new"}


def test_an_error_leaves_the_earlier_files(folder):
    earlier = content(folder)
    with pytest.raises(ZeroDivisionError), replacing_files(folder, "results", "last.json") as temporary:
        (temporary / "1.txt").write_text("new")
        raise ZeroDivisionError
    assert content(folder) == earlier


@pytest.mark.parametrize("step", range(7))
def test_a_folder_with_the_last_file_is_complete(folder, monkeypatch, step):
    calls, earlier = iter(range(100)), content(folder)

    def interruptible(original):
        def call(*arguments, **keywords):
            if next(calls) == step:
                raise KeyboardInterrupt
            return original(*arguments, **keywords)

        return call

    for name in ("replace", "unlink"):
        monkeypatch.setattr(os, name, interruptible(getattr(os, name)))
    new = {"notes.txt": "mine", "1.txt": "new", "2.txt": "new", "last.json": "new"}
    try:
        write(folder, "new", ["1.txt", "2.txt", "last.json"])
    except KeyboardInterrupt:
        monkeypatch.undo()
        found = content(folder)
        assert "last.json" not in found or found in (earlier, new)
        assert found["notes.txt"] == "mine"
        write(folder, "new", ["1.txt", "2.txt", "last.json"])
    assert content(folder) == new


def test_what_a_killed_process_left_is_removed(folder):
    leftover = folder / f".last.json.{'0' * 32}.tmp"
    leftover.mkdir()
    (leftover / "1.txt").write_text("new")
    write(folder, "new", ["last.json"])
    assert content(folder) == {"notes.txt": "mine", "last.json": "new"}


def test_an_error_names_the_file_that_the_user_knows(tmp_path):
    with pytest.raises(OutputError) as caught, replacing_files(tmp_path, "results", "last.json") as temporary:
        raise OutputError(errno.ENOSPC, f"cannot write {temporary / 'a.csv'}: no space")
    assert caught.value.strerror == f"cannot write {tmp_path / 'a.csv'}: no space"
