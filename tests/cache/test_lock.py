from __future__ import annotations

import subprocess
import sys

import pytest
from embedonce.cache.errors import LockedError, OutputError
from embedonce.cache.lock import writer_lock
from embedonce.cache.place import Place

HOLD = """
import sys, time
from embedonce.cache.lock import writer_lock
from embedonce.cache.place import Place
with writer_lock(Place.of(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_writer_fails_at_once_naming_the_first_and_a_killed_one_leaves_no_lock(tmp_path):
    cache = tmp_path / "a.h5"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(cache)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(LockedError, match=f"being written by process {holder.pid} on .* since 20"),
            writer_lock(Place.of(cache)),
        ):
            pytest.fail("two writers")
        holder.kill()
    with writer_lock(Place.of(cache)):
        pass


def test_a_lock_that_cannot_be_made_is_an_output_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write beside"), writer_lock(Place.of(tmp_path / "file" / "a.h5")):
        pytest.fail("locked nothing")
