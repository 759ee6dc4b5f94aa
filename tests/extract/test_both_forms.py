"""A run into one file and a run into a folder of shards do the same."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from embedonce.cache import FeatureCache, publish
from embedonce.cache.format import SIGNATURES
from embedonce.cache.manifest import read_manifest, shard_name, shards_on_disk
from embedonce.cache.packing import pack
from embedonce.cache.place import CacheLocation
from embedonce.cache.writer import write_cache
from embedonce.errors import CacheError, DamagedCacheError, ImageError
from embedonce.extract.run import extract_features


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
    monkeypatch.setattr("embedonce.extract.run.SHARD_ROWS", 8)


@pytest.fixture
def folder(tmp_path, make_images):
    return make_images(tmp_path / "images")


@pytest.fixture(params=["a.h5", "a.cache"])
def target(tmp_path, request):
    return tmp_path / request.param


@pytest.fixture
def run_to(folder, small):
    """Return a function that runs into a path that the test names."""
    return lambda path, **options: extract_features(folder, path, **(small | options))


@pytest.fixture
def run(run_to, target):
    """Return a function that runs into one form and then the other: a test that takes it runs twice."""
    return lambda **options: run_to(target, **options)


def assert_fresh(updated, folder, tmp_path, small):
    """Assert that a cache is what a fresh extraction of the folder gives."""
    (fresh := tmp_path / "fresh.h5").unlink(missing_ok=True)
    expected = extract_features(folder, fresh, **small)
    assert updated.paths == expected.paths
    assert updated.rejects == expected.rejects
    assert updated.class_names == expected.class_names
    np.testing.assert_array_equal(updated.features, expected.features)
    np.testing.assert_array_equal(updated.signatures, expected.signatures)
    np.testing.assert_array_equal(updated.labels, expected.labels)
    np.testing.assert_array_equal(updated.files.hashes, expected.files.hashes)


@pytest.mark.usefixtures("each_engine")
def test_an_update_embeds_only_new_and_changed_images(run, folder, draw, tmp_path, small):
    run()
    draw(1, 50).save(folder / "ash" / "new.png")
    draw(1, 51).save(folder / "birch" / "001.png")
    (folder / "cedar" / "002.jpeg").unlink()
    (folder / "cedar" / "003.bmp").rename(folder / "ash" / "moved.bmp")
    shutil.copy(folder / "cedar" / "005.png", folder / "birch" / "copy.png")
    os.utime(folder / "cedar" / "006.jpeg", (1, 1))
    (folder / "birch" / "bad.jpg").write_bytes(b"")
    updated = run()
    assert (
        updated.report.embedded,
        updated.report.added,
        updated.report.changed,
        updated.report.moved,
        updated.report.removed,
    ) == (2, 3, 1, 1, 1)
    assert (updated.report.copied, updated.report.unchanged) == (3, 21)  # the moved, the copied and the touched one
    assert updated.report.rejected == 1
    assert_fresh(updated, folder, tmp_path, small)
    assert run().report.published is False


def test_a_new_class_and_a_class_that_goes(run, folder, draw, tmp_path, small):
    run()
    (folder / "aspen").mkdir()
    draw(2, 70).save(folder / "aspen" / "1.png")
    shutil.rmtree(folder / "birch")
    updated = run()
    assert (updated.report.embedded, updated.report.removed) == (1, 8)
    assert updated.class_counts == {"ash": 8, "aspen": 1, "cedar": 8}
    assert_fresh(updated, folder, tmp_path, small)


def test_a_renamed_image_folder_embeds_nothing(run, folder, tmp_path, small, target, monkeypatch):
    run()
    shards = set(shards_on_disk(target)) if target.is_dir() else None
    folder.rename(tmp_path / "elsewhere")
    monkeypatch.setattr("embedonce.extract.run.embed_images", None)
    cache = extract_features(tmp_path / "elsewhere", target, **small)
    assert cache.provenance["image_root"] == str(tmp_path / "elsewhere")
    if shards is not None:
        assert set(shards_on_disk(target)) == shards


@pytest.mark.usefixtures("each_engine")
def test_a_folder_of_shards_packs_to_the_bytes_of_a_file(run_to, tmp_path):
    run_to(tmp_path / "a.cache")
    run_to(tmp_path / "a.h5")
    assert len(shards_on_disk(tmp_path / "a.cache")) == 3
    pack(tmp_path / "a.cache", tmp_path / "packed.h5")
    assert (tmp_path / "packed.h5").read_bytes() == (tmp_path / "a.h5").read_bytes()


def test_only_changed_shards_are_written_and_few_stay_small(run_to, folder, draw, tmp_path):
    path = tmp_path / "a.cache"
    run_to(path)
    first = set(shards_on_disk(path))
    for number in range(9):  # nine updates of one image each
        draw(0, 100 + number).save(folder / "cedar" / f"new{number}.png")
        run_to(path)
    manifest = read_manifest(path)
    assert first < set(manifest.shards)
    sizes = sorted(len(shard) for shard in FeatureCache.open(path).shards)
    assert sizes == [1, 4, 4, 8, 8, 8]  # all but one at least half full
    (folder / "ash" / "000.jpg").unlink()
    run_to(path)
    assert len(first - set(read_manifest(path).shards)) == 1
    assert set(shards_on_disk(path)) == set(read_manifest(path).shards)


def test_the_number_of_shards_changes_no_row(run_to, tmp_path, monkeypatch):
    one = run_to(tmp_path / "a.cache")
    monkeypatch.setattr("embedonce.extract.run.SHARD_ROWS", 5)
    two = run_to(tmp_path / "b.cache")
    assert (len(one.shards), len(two.shards)) == (3, 5)
    assert one.paths == two.paths
    np.testing.assert_array_equal(one.features, two.features)
    np.testing.assert_array_equal(one.signatures, two.signatures)


def files_of(target):
    return [target] if target.is_file() else [target / shard_name(digest) for digest in read_manifest(target).shards]


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[bytes(data).index(place)] ^= 1
    path.write_bytes(data)


@pytest.mark.usefixtures("each_engine")
def test_damaged_rows_and_nothing_else_are_embedded_again(run, target, folder, tmp_path, small):
    cache = run()
    rows = [cache.paths.index(name) for name in ("ash/001.png", "ash/005.png")]
    for row in rows:
        flip(files_of(target)[0], cache.features[row].tobytes())
    with pytest.raises(DamagedCacheError, match=r"2 images are damaged \(ash/001\.png, ash/005\.png\)"):
        _ = FeatureCache.open(target).features
    updated = run()
    assert (updated.report.embedded, updated.report.repaired, updated.report.unchanged) == (2, 2, 22)
    assert "the features of 2 images are damaged: ash/001.png, ash/005.png" in updated.report.notes[0]
    assert_fresh(updated, folder, tmp_path, small)
    assert run().report.published is False


def test_rows_with_damaged_signatures_are_embedded_again(run, target, folder, tmp_path, small):
    cache = run()
    row = cache.paths.index("ash/005.png")
    flip(files_of(target)[0], cache.signatures[row].tobytes())
    with pytest.raises(DamagedCacheError, match=r"stored signatures of 1 image are damaged \(ash/005\.png\)"):
        _ = FeatureCache.open(target).signatures
    updated = run()
    assert (updated.report.embedded, updated.report.repaired, updated.report.unchanged) == (1, 1, 23)
    assert "the signatures of 1 image are damaged: ash/005.png" in updated.report.notes[0]
    assert_fresh(updated, folder, tmp_path, small)
    assert run().report.published is False


def forget_signatures(path):
    """Make of a cache what an embedonce without signatures would have written."""
    with FeatureCache.open(path) as cache:
        tables = [
            replace(shard.table, features=shard.rows(range(len(shard))), signatures=None) for shard in cache.shards
        ]
    if path.is_file():
        write_cache(tables[0], path)
    else:
        publish.publish_shards(CacheLocation(path, True), [], tables, read_manifest(path))


def test_an_update_of_a_cache_without_signatures_adds_none(run, target, folder, draw):
    before = run()
    forget_signatures(target)
    assert FeatureCache.open(target).signatures is None
    updated = run()
    assert (updated.report.published, updated.report.unchanged, updated.signatures) == (False, 24, None)
    draw(1, 50).save(folder / "ash" / "new.png")
    shutil.copy(folder / "cedar" / "005.png", folder / "birch" / "copy.png")
    updated = run()
    assert (updated.report.embedded, updated.report.copied, updated.report.unchanged) == (1, 1, 24)
    assert updated.signatures is None
    kept = [updated.paths.index(path) for path in before.paths]
    np.testing.assert_array_equal(updated.features[kept], before.features)
    shutil.rmtree(folder / "birch")
    assert run().signatures is None
    assert run().report.published is False


def test_a_cache_of_which_no_old_row_is_left_has_signatures(run, target, folder, draw):
    run()
    forget_signatures(target)
    for number, image in enumerate(sorted(folder.rglob("*.*"))):
        draw(number % 3, 200 + number).save(image)
    updated = run()
    assert updated.report.embedded == 24
    assert updated.signatures.shape == (24, 784)


def test_shards_of_version_1_pack_to_the_bytes_of_a_file(run_to, folder, draw, tmp_path):
    for name in ("a.cache", "a.h5"):
        run_to(tmp_path / name)
        forget_signatures(tmp_path / name)
    draw(0, 60).save(folder / "cedar" / "new.png")
    for name in ("a.cache", "a.h5"):
        run_to(tmp_path / name)
    with FeatureCache.open(tmp_path / "a.cache") as cache:
        assert {shard.has(SIGNATURES) for shard in cache.shards} == {True, False}
    pack(tmp_path / "a.cache", tmp_path / "packed.h5")
    assert (tmp_path / "packed.h5").read_bytes() == (tmp_path / "a.h5").read_bytes()


def test_a_damaged_file_is_kept_and_its_images_embedded_again(run, target, folder, tmp_path, small):
    cache = run()
    victim = files_of(target)[0]
    images = len(cache.shards[0])
    flip(victim, cache.files.hashes[0].tobytes())
    damaged = victim.read_bytes()
    updated = run()
    assert updated.report.embedded == images == (24 if target.is_file() else 8)
    assert (updated.report.repaired, updated.report.added) == (0, images)  # which they were is lost
    assert victim.name in updated.report.notes[0]
    assert f"{victim.name}.damaged" in updated.report.notes[1]
    assert (victim.parent / f"{victim.name}.damaged").read_bytes() == damaged
    assert_fresh(updated, folder, tmp_path, small)
    assert run().report.published is False


def test_a_damaged_or_missing_manifest_costs_nothing(run_to, folder, tmp_path, small):
    path = tmp_path / "a.cache"
    run_to(path)
    for damage in (lambda: flip(path / "manifest.json", b"provenance"), lambda: (path / "manifest.json").unlink()):
        damage()
        with pytest.raises(CacheError, match=r"manifest\.json"):
            FeatureCache.open(path)
        updated = run_to(path)
        assert (updated.report.embedded, updated.report.unchanged) == (0, 24)
        assert_fresh(updated, folder, tmp_path, small)


def test_a_missing_shard_is_embedded_again(run_to, folder, tmp_path, small):
    path = tmp_path / "a.cache"
    run_to(path)
    files_of(path)[1].unlink()
    updated = run_to(path)
    assert updated.report.embedded == 8
    assert_fresh(updated, folder, tmp_path, small)


def test_a_file_of_a_later_version_is_never_repaired(run, target):
    import h5py

    run()
    with h5py.File(files_of(target)[0], "a") as file:
        file.attrs["format_version"] = np.int64(99)
    before = files_of(target)[0].read_bytes()
    with pytest.raises(CacheError, match="Upgrade embedonce"):
        run()
    assert files_of(target)[0].read_bytes() == before


def test_an_unfinished_run_is_resumed(run, folder, target):
    (folder / "ash" / "bad.jpg").write_bytes(b"")
    with pytest.raises(ImageError):
        run(strict=True)
    if target.suffix == ".cache":
        with pytest.raises(CacheError, match="is not finished"):
            FeatureCache.open(target)
    (folder / "ash" / "bad.jpg").unlink()
    report = run(strict=True).report
    assert (report.embedded, report.resumed) == (0, 24)


def test_what_a_killed_writer_left_is_removed_and_nothing_else(run, target, tmp_path):
    run()
    home = target if target.is_dir() else tmp_path
    name = "manifest.json" if target.is_dir() else target.name
    (home / f".{name}.{'0' * 32}.tmp").write_bytes(b"half")
    others = [home / ".mine.tmp", tmp_path / f".other.h5.{'0' * 32}.tmp"]
    for other in others:
        other.write_bytes(b"mine")
    run()
    assert not (home / f".{name}.{'0' * 32}.tmp").exists()
    assert all(other.read_bytes() == b"mine" for other in others)


def test_unknown_files_among_unfinished_work_stay(run, target, folder):
    (folder / "ash" / "bad.jpg").write_bytes(b"")
    with pytest.raises(ImageError):
        run(strict=True)
    partial = target / "partial" if target.is_dir() else target.with_name(f"{target.name}.partial")
    (partial / "notes.txt").write_text("mine")
    run()
    assert os.listdir(partial) == ["notes.txt"]


def test_a_file_that_could_not_be_read_is_tried_again(run, folder, monkeypatch):
    from embedonce.extract import embed

    real = embed.read_image

    def denied(root, image):
        if image.path == b"ash/000.jpg":
            raise ImageError("cannot be read: Permission denied")
        return real(root, image)

    with monkeypatch.context() as patch:
        patch.setattr(embed, "read_image", denied)
        assert run().rejects == [("ash/000.jpg", "cannot be read: Permission denied")]
    report = run().report
    assert (report.embedded, report.rejected) == (1, 0)
