from __future__ import annotations

import os

import pytest
from embedonce.cache import FeatureCache
from embedonce.cache.inspection import inspect_cache
from embedonce.cache.lock import writer_lock
from embedonce.cache.place import CacheLocation
from embedonce.errors import CacheError, OutputError


@pytest.mark.parametrize(
    ("name", "sharded"),
    [("a.h5", False), ("a", False), ("a.cache", True), ("a.h5/", True), ("a.cache/", True), ("x/a.cache", True)],
)
def test_the_name_decides_on_the_form_of_a_new_cache(tmp_path, name, sharded):
    place = CacheLocation.of(os.path.join(tmp_path, name))
    assert place.sharded is sharded
    assert place.path == tmp_path / name


def test_what_is_there_decides_on_the_form_of_an_old_cache(tmp_path):
    (tmp_path / "a.cache").write_bytes(b"")
    assert not CacheLocation.of(tmp_path / "a.cache").sharded
    (tmp_path / "b.h5" / "partial").mkdir(parents=True)
    assert CacheLocation.of(tmp_path / "b.h5").sharded


def test_writer_files_are_next_to_a_file_and_in_a_folder(tmp_path):
    file, folder = CacheLocation.of(tmp_path / "a.h5"), CacheLocation.of(tmp_path / "a.cache")
    assert [path.relative_to(tmp_path).as_posix() for path in (file.partial, file.lock, file.holder)] == [
        "a.h5.partial",
        ".a.h5.lock",
        ".a.h5.writer.json",
    ]
    assert [path.relative_to(tmp_path).as_posix() for path in (folder.partial, folder.lock, folder.holder)] == [
        "a.cache/partial",
        "a.cache/.lock",
        "a.cache/.writer.json",
    ]


def test_a_link_to_a_cache_has_the_lock_of_the_cache(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.h5").write_bytes(b"")
    (tmp_path / "link.h5").symlink_to(tmp_path / "real" / "a.h5")
    assert CacheLocation.of(tmp_path / "link.h5") == CacheLocation.of(tmp_path / "real" / "a.h5")


def test_a_folder_of_other_things_is_no_place_for_a_cache(tmp_path):
    (tmp_path / "thesis.txt").write_text("")
    with pytest.raises(OutputError, match=r"is a folder with other things in it \(thesis\.txt\)"):
        CacheLocation.of(tmp_path)


def test_a_name_that_is_too_long_is_an_error(tmp_path):
    path = tmp_path / ("x" * 300 + ".h5")
    assert not CacheLocation.of(path).exists()
    with pytest.raises(CacheError, match="cannot open the cache .*: File name too long"):
        FeatureCache.open(path)
    with pytest.raises(CacheError, match="cannot open the cache .*: File name too long"):
        inspect_cache(path)
    with (
        pytest.raises(OutputError, match="File name too long. Choose another place or name"),
        writer_lock(CacheLocation.of(path)),
    ):
        pytest.fail("locked nothing")


def test_a_cache_needs_a_name():
    with pytest.raises(CacheError, match="needs a name"):
        CacheLocation.of("")
