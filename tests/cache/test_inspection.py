from __future__ import annotations

import errno
import os

import pytest
from cache_tables import about, by_path, make_table, take
from embedonce.cache import inspection
from embedonce.cache.format import FEATURES, SIGNATURES
from embedonce.cache.inspection import inspect_cache
from embedonce.cache.manifest import read_manifest, shard_name
from embedonce.cache.place import CacheLocation
from embedonce.cache.publish import publish_shards
from embedonce.cache.writer import write_cache
from embedonce.errors import CacheError


@pytest.fixture
def whole():
    return by_path(make_table(n=150, d=6, m=5))


@pytest.fixture(params=["a.h5", "a.cache"])
def path(tmp_path, whole, request):
    path = tmp_path / request.param
    if path.suffix == ".h5":
        write_cache(whole, path)
    else:
        path.mkdir()
        publish_shards(
            CacheLocation(path, True),
            [],
            [take(whole, range(100), range(5)), take(whole, range(100, 150))],
            about(whole),
        )
    return path


def files_of(path):
    return [path] if path.is_file() else [path / shard_name(digest) for digest in read_manifest(path).shards]


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[place if isinstance(place, int) else bytes(data).index(place)] ^= 1
    path.write_bytes(data)


def test_an_intact_cache_has_no_problems(path):
    found = inspect_cache(path)
    assert found.intact
    assert sum(map(len, found.readable)) == 150
    assert len(found.cache().features) == 150


def test_damaged_rows_are_named_and_the_others_are_still_given(path, whole):
    for row in (3, 70, 71, 72, 73):
        flip(files_of(path)[0], whole.features[row].tobytes())
    found = inspect_cache(path)
    state = found.shards[0]
    assert state.damaged_rows.tolist() == [3, 70, 71, 72, 73]
    assert state.damaged_paths == [whole.files.paths[row] for row in (3, 70, 71, 72, 73)]
    (problem,) = found.problems
    assert "the features of 5 images are damaged: class0/0006.jpg" in problem
    assert "and 2 more" in problem
    assert (state.shard.rows([69, 74]) == whole.features[[69, 74]]).all()
    everything_else = [row for row in range(100) if row not in state.damaged_rows]
    assert (state.shard.rows(everything_else) == whole.features[everything_else]).all()
    for wanted in ([71], list(range(100))):
        with pytest.raises(CacheError, match="damaged"):
            state.shard.rows(wanted)


def test_rows_with_damaged_signatures_are_damaged_rows(path, whole):
    first = files_of(path)[0]
    flip(first, whole.signatures[70].tobytes())
    flip(first, whole.signatures[3].tobytes())
    flip(first, whole.features[5].tobytes())
    found = inspect_cache(path)
    assert found.shards[0].damaged_rows.tolist() == [3, 5, 70]
    (problem,) = found.problems
    assert "the features of 1 image are damaged: class0/0010.jpg" in problem
    assert "the signatures of 2 images are damaged: class0/0006.jpg" in problem
    shard = found.shards[0].shard
    assert (shard.rows([3], FEATURES) == whole.features[[3]]).all()
    with pytest.raises(CacheError, match="the stored signatures of 1"):
        shard.rows([3], SIGNATURES)


@pytest.mark.parametrize("damage", ["flip", "truncate"])
def test_a_damaged_file_is_named_and_the_others_are_still_given(path, whole, damage):
    victim = files_of(path)[-1]
    if damage == "flip":
        flip(victim, whole.files.hashes[149].tobytes())
    else:
        victim.write_bytes(victim.read_bytes()[:3000])
    found = inspect_cache(path)
    assert found.shards[-1].shard is None
    assert len(found.readable) == len(found.shards) - 1
    assert victim.name in found.problems[0]


def test_a_damaged_manifest_leaves_its_shards(tmp_path, whole):
    folder = tmp_path / "a.cache"
    folder.mkdir()
    publish_shards(
        CacheLocation(folder, True), [], [take(whole, range(100)), take(whole, range(100, 150))], about(whole)
    )
    for damage in (lambda: flip(folder / "manifest.json", 100), lambda: (folder / "manifest.json").unlink()):
        damage()
        found = inspect_cache(folder)
        assert "manifest.json" in found.problems[0]
        assert sum(map(len, found.readable)) == 150
        assert found.about.fingerprint == whole.fingerprint


def test_what_is_no_cache_is_an_error(tmp_path):
    (tmp_path / "text").write_text("thesis")
    (tmp_path / "folder").mkdir()
    for name in ("text", "folder", "none"):
        with pytest.raises(CacheError, match=name):
            inspect_cache(tmp_path / name)


def test_a_replaced_generation_is_not_called_damaged(tmp_path, whole, monkeypatch):
    folder = tmp_path / "a.cache"
    folder.mkdir()
    publish_shards(
        CacheLocation(folder, True), [], [take(whole, range(100)), take(whole, range(100, 150))], about(whole)
    )
    real, calls = inspection.open_shard, []

    def overtaken(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            publish_shards(CacheLocation(folder, True), [], [whole], about(whole))
        return real(*arguments)

    monkeypatch.setattr(inspection, "open_shard", overtaken)
    found = inspect_cache(folder)
    assert found.intact
    assert len(found.shards) == 1


@pytest.mark.skipif(not hasattr(os, "preadv"), reason="reads in another way")
def test_a_disk_that_fails_once_is_no_damage(path, monkeypatch):
    preadv, calls = os.preadv, []

    def fail_at(step):
        calls.clear()

        def read(*arguments):
            calls.append(arguments)
            if len(calls) == step:
                raise OSError(errno.EIO, "Input/output error")
            return preadv(*arguments)

        monkeypatch.setattr(os, "preadv", read)
        return inspect_cache(path)

    assert fail_at(0).intact
    for step in range(1, len(calls) + 1):
        assert fail_at(step).intact, step
