from __future__ import annotations

import os
from dataclasses import replace

import pytest
from cache_tables import about, by_path, make_table, take
from embedonce.cache.lock import writer_lock
from embedonce.cache.manifest import read_manifest, shard_name
from embedonce.cache.packing import pack
from embedonce.cache.place import CacheLocation
from embedonce.cache.publish import publish_shards
from embedonce.cache.writer import write_cache
from embedonce.errors import CacheError, DamagedCacheError, LockedError, OutputError


@pytest.fixture
def whole():
    return by_path(make_table(n=150, d=6, m=5))


@pytest.fixture
def folder(tmp_path, whole):
    folder = tmp_path / "a.cache"
    folder.mkdir()
    parts = [take(whole, range(0, 150, 2), [0, 3]), take(whole, range(1, 150, 2), [1, 2, 4])]
    publish_shards(CacheLocation(folder, True), [], parts, about(whole))
    return folder


def test_a_packed_folder_has_the_bytes_of_a_file(folder, whole, tmp_path):
    write_cache(whole, tmp_path / "file.h5")
    packed = pack(folder, tmp_path / "new" / "packed.h5")
    assert (tmp_path / "new" / "packed.h5").read_bytes() == (tmp_path / "file.h5").read_bytes()
    assert len(packed) == 150


def test_folder_with_a_shard_without_signatures_is_packed(tmp_path, whole):
    plain = replace(whole, signatures=None)
    parts = [take(whole, range(0, 150, 2), [0, 3]), take(plain, range(1, 150, 2), [1, 2, 4])]
    (tmp_path / "b.cache").mkdir()
    publish_shards(CacheLocation(tmp_path / "b.cache", True), [], parts, about(whole))
    write_cache(plain, tmp_path / "file.h5")
    assert pack(tmp_path / "b.cache", tmp_path / "packed.h5").signatures is None
    assert (tmp_path / "packed.h5").read_bytes() == (tmp_path / "file.h5").read_bytes()


def test_nothing_is_ever_overwritten(folder, tmp_path):
    (tmp_path / "thesis.h5").write_text("mine")
    with pytest.raises(OutputError, match=r"thesis\.h5 exists\. Choose another name"):
        pack(folder, tmp_path / "thesis.h5")
    assert (tmp_path / "thesis.h5").read_text() == "mine"


def test_what_a_killed_packer_left_is_removed(folder, tmp_path):
    leftover = tmp_path / f".b.h5.{'0' * 32}.tmp"
    leftover.write_bytes(b"half")
    pack(folder, tmp_path / "b.h5")
    assert not leftover.exists()
    leftover.write_bytes(b"half")
    with pytest.raises(OutputError, match="exists"):
        pack(folder, tmp_path / "b.h5")
    assert not leftover.exists()


def test_what_cannot_be_packed_is_named(folder, whole, tmp_path):
    write_cache(whole, tmp_path / "file.h5")
    with pytest.raises(CacheError, match="is one file already. Copy it"):
        pack(tmp_path / "file.h5", tmp_path / "b.h5")
    with pytest.raises(OutputError, match="is a folder. Give the path of a file"):
        pack(folder, os.path.join(tmp_path, "b/"))
    with pytest.raises(CacheError, match="No such file"):
        pack(tmp_path / "none", tmp_path / "b.h5")


def test_a_damaged_folder_is_not_packed(folder, whole, tmp_path):
    path = folder / shard_name(read_manifest(folder).shards[0])
    data = bytearray(path.read_bytes())
    data[bytes(data).index(whole.features[10].tobytes())] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedCacheError, match=path.name):
        pack(folder, tmp_path / "b.h5")
    assert not (tmp_path / "b.h5").exists()


def test_a_target_that_is_being_written_is_refused(folder, tmp_path):
    with writer_lock(CacheLocation.of(tmp_path / "b.h5")), pytest.raises(LockedError, match="being written by process"):
        pack(folder, tmp_path / "b.h5")
