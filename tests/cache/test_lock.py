from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading

import pytest
from embedonce.cache import lock
from embedonce.cache.lock import writer_lock
from embedonce.cache.place import CacheLocation
from embedonce.errors import LockedError, OutputError

HOLD = """
import sys, time
from embedonce.cache.lock import writer_lock
from embedonce.cache.place import CacheLocation
with writer_lock(CacheLocation.of(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_second_writer_fails_and_a_killed_one_leaves_no_lock(tmp_path):
    cache = tmp_path / "a.h5"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(cache)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(LockedError, match=f"being written by process {holder.pid} on .* since 20"),
            writer_lock(CacheLocation.of(cache)),
        ):
            pytest.fail("two writers")
        holder.kill()
    with writer_lock(CacheLocation.of(cache)):
        pass


def test_a_lock_that_cannot_be_made_is_an_output_error(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OutputError, match="cannot write next to"),
        writer_lock(CacheLocation.of(tmp_path / "file" / "a.h5")),
    ):
        pytest.fail("locked nothing")


@pytest.mark.parametrize(
    "note",
    [
        None,
        "",
        "[1]",
        '{"host": "%s", "pid": 999999999, "since": "2001"}',
        '{"host": "%s", "pid": 999999999999999999999, "since": "2001"}',
    ],
)
def test_a_missing_or_stale_note_names_no_process(tmp_path, monkeypatch, note):
    monkeypatch.setattr(lock, "_PATIENCE", 0.05)
    place = CacheLocation.of(tmp_path / "a.h5")
    with writer_lock(place):
        if note is None:
            place.holder.unlink()
        else:
            place.holder.write_text(note.replace("%s", socket.gethostname()))
        with pytest.raises(LockedError, match="being written by another process. Wait for it"), writer_lock(place):
            pytest.fail("two writers")


def test_a_holder_on_another_machine_is_believed(tmp_path):
    place = CacheLocation.of(tmp_path / "a.h5")
    with writer_lock(place):
        place.holder.write_text(r'{"host": "else\u001bwhere", "pid": 999999999, "since": "2001"}')
        with (
            pytest.raises(LockedError, match=r"process 999999999 on else\\x1bwhere since 2001"),
            writer_lock(place),
        ):
            pytest.fail("two writers")


def test_second_writer_waits_for_the_note_of_the_first(tmp_path):
    place = CacheLocation.of(tmp_path / "a.h5")
    with writer_lock(place):
        note = place.holder.read_text()
        place.holder.unlink()
        threading.Timer(0.1, lambda: place.holder.write_text(note)).start()
        with pytest.raises(LockedError, match=f"process {os.getpid()} on "), writer_lock(place):
            pytest.fail("two writers")


@pytest.mark.skipif(os.name == "nt", reason="needs links")
@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_planted_links_change_no_other_file(tmp_path, link):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    place = CacheLocation.of(tmp_path / "a.h5")
    link(victim, place.holder)
    with writer_lock(place):
        assert place.holder.read_text().startswith("{")
    assert victim.read_text() == "mine"
    os.symlink(victim, place.lock.with_name("b"))
    place.lock.unlink(missing_ok=True)
    os.symlink(victim, place.lock)
    with pytest.raises(OutputError, match="cannot write next to"), writer_lock(place):
        pass
    assert victim.read_text() == "mine"
