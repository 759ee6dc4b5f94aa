from __future__ import annotations

import errno
import os
import stat

import pytest
from embedonce.cache.files import make_folder, write_atomically
from embedonce.errors import OutputError


def test_a_file_is_written_whole_and_nothing_else_stays(tmp_path):
    write_atomically(tmp_path / "a", b"one")
    write_atomically(tmp_path / "a", memoryview(b"two"))
    assert (tmp_path / "a").read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_when_a_system_call_fails_the_old_file_stays(tmp_path, monkeypatch, call, number):
    write_atomically(tmp_path / "a", b"old")

    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OutputError, match=r"cannot write .*a: .*\. Choose another place") as caught:
        write_atomically(tmp_path / "a", b"new")
    assert caught.value.errno == number
    assert (tmp_path / "a").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_short_writes_are_continued(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    write_atomically(tmp_path / "a", b"0123456789")
    assert (tmp_path / "a").read_bytes() == b"0123456789"


def test_data_are_synced_before_the_name_and_folder(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, real=real, name=name: (calls.append(name), real(*a))[1])
    write_atomically(tmp_path / "a", b"x")
    assert calls == ["fsync", "replace", "fsync"]


def test_a_file_system_that_syncs_no_folders_will_do(tmp_path, monkeypatch):
    real = os.fsync

    def files_only(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", files_only)
    write_atomically(make_folder(tmp_path / "a", "x") / "b", b"data")
    assert (tmp_path / "a" / "b").read_bytes() == b"data"


def test_the_name_of_an_existing_folder_is_synced(tmp_path, monkeypatch):
    synced = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, *rest: (synced.append(str(path)), real(path, *rest))[1])
    make_folder(tmp_path / "a" / "b", "x")
    assert synced == [str(tmp_path.parent), str(tmp_path), str(tmp_path / "a")]
    synced.clear()
    make_folder(tmp_path / "a" / "b", "x")
    assert synced == [str(tmp_path / "a")]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"folder of results, .*file/x"):
        make_folder(tmp_path / "file" / "x", "results")
