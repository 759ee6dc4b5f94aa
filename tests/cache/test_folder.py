from __future__ import annotations

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import xxhash
from cache_tables import about, by_path, make_table, take
from embedonce.cache import FeatureCache, shards
from embedonce.cache.format import canonical_json
from embedonce.cache.manifest import read_manifest, shard_name, shards_on_disk
from embedonce.cache.place import CacheLocation
from embedonce.cache.publish import publish_shards
from embedonce.cache.writer import write_cache, write_shard
from embedonce.errors import CacheError, DamagedCacheError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


def publish(folder, whole, parts, kept=()):
    folder.mkdir(exist_ok=True)
    publish_shards(CacheLocation(folder, True), list(kept), parts, about(whole))
    return FeatureCache.open(folder)


@pytest.fixture
def whole():
    return by_path(make_table(n=150, d=6, m=5))


@pytest.fixture
def folder(tmp_path, whole):
    publish(tmp_path / "a.cache", whole, [take(whole, range(100), [0, 1]), take(whole, range(100, 150), [2, 3, 4])])
    return tmp_path / "a.cache"


def assert_same(cache, table):
    assert [os.fsencode(path) for path in cache.paths] == table.files.paths
    np.testing.assert_array_equal(cache.features, table.features)
    np.testing.assert_array_equal(cache.signatures, table.signatures)
    np.testing.assert_array_equal(cache.labels, table.labels)
    np.testing.assert_array_equal(cache.files.hashes, table.files.hashes)
    np.testing.assert_array_equal(cache.files.sizes, table.files.sizes)
    np.testing.assert_array_equal(cache.table.rejects.mtimes, table.rejects.mtimes)
    assert cache.rejects == list(zip(map(os.fsdecode, table.rejects.paths), table.reasons, strict=True))
    assert cache.class_names == [name.decode() for name in table.class_names]


@given(n=st.integers(0, 200), shards=st.integers(1, 5), m=st.integers(0, 6), seed=st.integers(0, 99))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_division_into_shards_gives_the_same_cache(tmp_path_factory, n, shards, m, seed):
    table = by_path(make_table(n, 3, m, seed))
    generator = np.random.default_rng(seed)
    rows, rejects = generator.integers(0, shards, n), generator.integers(0, shards, m)
    parts = [take(table, np.flatnonzero(rows == k), np.flatnonzero(rejects == k)) for k in range(shards)]
    cache = publish(tmp_path_factory.mktemp("x") / "a.cache", table, parts)
    assert_same(cache, table)
    assert cache.shape == (n, 3)


def test_a_shard_from_a_time_with_other_classes_is_translated(tmp_path, whole):
    later = replace(whole, class_names=[b"aardvark", b"class0", b"class1"], labels=whole.labels + 1)
    cache = publish(tmp_path / "a.cache", later, [take(whole, range(80), range(5)), take(later, range(80, 150))])
    np.testing.assert_array_equal(cache.labels, later.labels)
    assert cache.class_counts == {"aardvark": 0, "class0": 75, "class1": 75}


def test_an_open_folder_keeps_its_generation(folder, whole):
    old = FeatureCache.open(folder)
    changed = replace(whole, features=whole.features + 1)
    publish(folder, changed, [changed])
    assert len(shards_on_disk(folder)) == 1
    np.testing.assert_array_equal(old.features, whole.features)
    np.testing.assert_array_equal(FeatureCache.open(folder).features, changed.features)


def test_reader_overtaken_by_a_writer_opens_the_new_generation(folder, whole, monkeypatch):
    changed = replace(whole, features=whole.features + 1)
    real, calls = shards.open_shard, []

    def overtaken(*arguments):
        calls.append(arguments)
        if len(calls) == 2:  # the first shard of the old generation is open, the second is gone
            publish_shards(CacheLocation(folder, True), [], [changed], about(changed))
        return real(*arguments)

    monkeypatch.setattr(shards, "open_shard", overtaken)
    np.testing.assert_array_equal(FeatureCache.open(folder).features, changed.features)
    assert len(calls) == 3


def test_shards_that_are_not_of_the_generation_are_ignored(folder, whole):
    write_shard(take(replace(whole, features=whole.features * 2), range(10)), folder)
    assert_same(FeatureCache.open(folder), whole)


@pytest.mark.parametrize("without", [range(80), range(0)])
def test_a_folder_has_signatures_only_when_every_row_has_one(tmp_path, whole, without):
    parts = [take(whole, range(80, 150), range(5)), replace(take(whole, without), signatures=None)]
    cache = publish(tmp_path / "a.cache", whole, parts)
    assert (cache.signatures is None) == bool(without)
    np.testing.assert_array_equal(cache.features, whole.features[80 - len(without) :])


def test_a_shard_that_is_kept_is_not_written_again(folder, whole):
    first, second = read_manifest(folder).shards
    before = (folder / shard_name(first)).stat()
    more = take(whole, range(100, 120), [2, 3, 4])
    cache = publish(folder, whole, [more], kept=[first])
    assert (folder / shard_name(first)).stat().st_ino == before.st_ino
    assert second not in shards_on_disk(folder)
    assert len(cache) == 120


def test_a_missing_shard_is_named(folder):
    name = shard_name(read_manifest(folder).shards[1])
    (folder / name).unlink()
    with pytest.raises(DamagedCacheError, match=f"{name} is missing. Run embedonce extract"):
        FeatureCache.open(folder)


def test_a_damaged_shard_is_named_and_so_is_the_image(folder, whole):
    path = folder / shard_name(read_manifest(folder).shards[1])
    data = bytearray(path.read_bytes())
    data[bytes(data).index(whole.features[120].tobytes()) + 3] ^= 16
    path.write_bytes(data)
    image = whole.files.paths[120].decode()
    with pytest.raises(DamagedCacheError, match=rf"{path.name}: the stored features of 1 image .* \({image}\)"):
        _ = FeatureCache.open(folder).features


def test_a_shard_under_a_wrong_name_is_refused(folder):
    first, second = read_manifest(folder).shards
    (folder / shard_name(second)).write_bytes((folder / shard_name(first)).read_bytes())
    with pytest.raises(DamagedCacheError, match="holds another shard than its name says"):
        FeatureCache.open(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda part: replace(part, fingerprint={"alpha": 2.0}), "another fingerprint than its folder"),
        (lambda part: replace(part, features=part.features[:, :3]), "differ in the number of features"),
        (lambda part: replace(part, class_names=[b"class0", b"other"]), "the class other is not one of its folder's"),
        (
            lambda part: replace(part, files=replace(part.files, paths=[b"class0/0000.jpg"] * 50)),
            "in two of its shards",
        ),
    ],
)
def test_shards_that_do_not_fit_together_are_refused(tmp_path, whole, change, message):
    with pytest.raises(CacheError, match=message):
        publish(tmp_path / "a.cache", whole, [take(whole, range(100)), change(take(whole, range(100, 150)))])


def rewrite_manifest(folder, change):
    document = json.loads((folder / "manifest.json").read_bytes())
    document.pop("digest")
    change(document)
    document["digest"] = xxhash.xxh3_128_hexdigest(canonical_json(document))
    (folder / "manifest.json").write_bytes(canonical_json(document))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 9}, "version is 9, this embedonce reads 1. Upgrade"),
        ({"format": "other"}, "not the manifest of a feature cache"),
        ({"shards": ["../../etc/passwd"]}, "cannot be the digest of a shard"),
        ({"shards": [1]}, "must be lists of strings"),
        ({"shards": "0" * 32}, "must be lists of strings"),
        ({"class_names": {"a": 1}}, "must be lists of strings"),
        ({"class_names": ["\ud800"]}, "a class name is not a file name"),
        ({"fingerprint": []}, "must be JSON objects"),
    ],
)
def test_a_foreign_manifest_is_refused(folder, change, message):
    rewrite_manifest(folder, lambda document: document.update(change))
    with pytest.raises(CacheError, match=message) as caught:
        FeatureCache.open(folder)
    assert "manifest.json" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"null", b"[" * 100_000, b'{"format": NaN}', b"\xff\xfe", b"{}" * 50])
def test_a_manifest_that_is_no_manifest_is_refused(folder, content):
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(CacheError, match=r"manifest\.json"):
        FeatureCache.open(folder)


def test_a_number_that_json_does_not_have_is_damage(folder):
    intact = (folder / "manifest.json").read_bytes()
    (folder / "manifest.json").write_bytes(intact.replace(b'"alpha":1.0', b'"alpha":1e999'))
    with pytest.raises(DamagedCacheError, match=r"manifest\.json: damaged: its checksum does not match"):
        FeatureCache.open(folder)


def test_every_flipped_byte_of_the_manifest_is_noticed(folder, whole):
    intact = (folder / "manifest.json").read_bytes()
    for position in range(len(intact)):
        damaged = bytearray(intact)
        damaged[position] ^= 1 << (position % 8)
        (folder / "manifest.json").write_bytes(damaged)
        with pytest.raises(CacheError, match=r"manifest\.json"):
            FeatureCache.open(folder)


def test_a_folder_without_a_manifest_says_what_it_is(tmp_path, folder):
    (tmp_path / "b.cache" / "partial").mkdir(parents=True)
    with pytest.raises(CacheError, match="is not finished. Wait for it or run embedonce extract again"):
        FeatureCache.open(tmp_path / "b.cache")
    (tmp_path / "photos").mkdir()
    with pytest.raises(CacheError, match="photos is not a feature cache. Make one with"):
        FeatureCache.open(tmp_path / "photos")
    (folder / "manifest.json").unlink()
    with pytest.raises(DamagedCacheError, match="is missing next to its shards"):
        FeatureCache.open(folder)
    (folder / "partial").mkdir()  # while a first generation is published
    with pytest.raises(DamagedCacheError, match="is not finished. Wait for it or run embedonce extract again"):
        FeatureCache.open(folder)


def test_features_of_a_closed_folder_are_refused(folder):
    with FeatureCache.open(folder) as cache:
        pass
    with pytest.raises(CacheError, match="closed before"):
        _ = cache.features


def test_a_file_and_a_shard_of_one_table_have_equal_bytes(tmp_path, whole):
    write_cache(whole, tmp_path / "a.h5")
    digest = write_shard(whole, tmp_path)
    assert (tmp_path / shard_name(digest)).read_bytes() == (tmp_path / "a.h5").read_bytes()
