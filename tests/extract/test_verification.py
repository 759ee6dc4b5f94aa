from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from embedonce.cache import FeatureCache
from embedonce.errors import CacheError, FingerprintError, ImageFolderError, WeightsError
from embedonce.extract import verification as module
from embedonce.extract.progress import Progress
from embedonce.extract.run import extract_features
from embedonce.extract.verification import verify


@pytest.fixture
def folder(tmp_path, make_images):
    images = make_images(tmp_path / "images")
    (images / "ash" / "bad.jpg").write_bytes(b"")
    return images


@pytest.fixture(params=["a.h5", "a.cache"])
def path(tmp_path, folder, small, request, monkeypatch):
    monkeypatch.setattr("embedonce.extract.run.SHARD_ROWS", 10)
    extract_features(folder, tmp_path / request.param, **small)
    return tmp_path / request.param


def test_an_intact_cache_of_unchanged_images_is_ok(path, folder):
    done = verify(path, folder)
    assert done.ok
    assert (done.rows, done.unchanged, done.sampled, done.identical) == (24, 25, 16, 16)
    assert done.files == (1 if path.is_file() else 3)
    assert done.largest_difference == 0 < done.allowed_difference < 0.1
    assert done.to_dict()["ok"] is True


def test_without_images_only_the_checksums_are_looked_at(path):
    done = verify(path)
    assert done.ok
    assert (done.rows, done.images, done.sampled) == (24, None, 0)


def test_every_kind_of_change_is_named(path, folder, draw):
    draw(0, 99).save(folder / "ash" / "new.png")
    draw(0, 98).save(folder / "birch" / "001.png")
    (folder / "cedar" / "000.jpg").unlink()
    (folder / "cedar" / "001.png").rename(folder / "ash" / "moved.png")
    os.utime(folder / "cedar" / "002.jpeg", (1, 1))  # the same content, so the same image
    done = verify(path, folder)
    assert not done.ok
    assert done.intact
    assert done.added == ["ash/new.png"]
    assert done.changed == ["birch/001.png"]
    assert done.removed == ["cedar/000.jpg"]
    assert done.moved == [("cedar/001.png", "ash/moved.png")]
    assert done.unchanged == 22
    assert not done.differing


def test_a_change_that_kept_size_and_time_is_found(path, folder):
    image = folder / "ash" / "001.png"
    status = image.stat()
    data = bytearray(image.read_bytes())
    data[-20] ^= 1
    image.write_bytes(data)
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert verify(path, folder).changed == ["ash/001.png"]


def test_a_copy_of_a_known_image_is_an_added_one(path, folder):
    shutil.copy(folder / "ash" / "001.png", folder / "cedar" / "copy.png")
    done = verify(path, folder)
    assert (done.added, done.moved) == (["cedar/copy.png"], [])


def test_damage_is_named_and_the_rest_is_still_compared(path, folder, small):
    cache = FeatureCache.open(path)
    row = cache.paths.index("cedar/004.jpg")
    features = cache.features
    for file in [path] if path.is_file() else path.glob("shard-*.h5"):
        data = bytearray(file.read_bytes())
        place = bytes(data).find(features[row].tobytes())
        if place >= 0:
            data[place] ^= 1
            file.write_bytes(data)
    done = verify(path, folder, sample=100)
    assert not done.ok
    assert done.damaged == ["cedar/004.jpg"]
    assert "cedar/004.jpg" in done.problems[0]
    assert (done.unchanged, done.sampled, done.matches) == (24, 23, True)
    extract_features(folder, path, **small)
    assert verify(path, folder).ok


def test_a_damaged_image_that_is_gone_is_removed(path, folder):
    cache = FeatureCache.open(path)
    place = cache.features[0].tobytes()
    for file in [path] if path.is_file() else path.glob("shard-*.h5"):
        data = file.read_bytes()
        if place in data:
            file.write_bytes(data.replace(place, bytes(len(place))))
    (folder / cache.paths[0]).unlink()
    assert verify(path, folder).removed == [cache.paths[0]]


@pytest.fixture
def drifting(monkeypatch):
    """Let engines lose their precision."""
    real = module.make_engine

    class Drifting:
        def __init__(self, session):
            self.slot = session.slot
            self._run = session.run

        def run(self, count):
            return self._run(count) * np.float32(1.01)

    def make_engine(name, recipe):
        engine = real(name, recipe)
        session = engine.session
        engine.session = lambda: Drifting(session())
        return engine

    monkeypatch.setattr(module, "make_engine", make_engine)


@pytest.mark.usefixtures("drifting")
def test_features_that_this_machine_does_not_give_are_found(path, folder):
    done = verify(path, folder, sample=5)
    assert not done.ok
    assert (done.intact, done.matches, len(done.differing), done.identical) == (True, True, 5, 0)
    assert done.largest_difference > done.allowed_difference


@pytest.mark.usefixtures("drifting")
def test_the_sample_is_chosen_by_the_seed(cache_path, images):
    first, again, other = (verify(cache_path, images, sample=4, seed=seed).differing for seed in (0, 0, 1))
    assert len(first) == 4
    assert first == again != other


def test_the_engines_agree_within_the_tolerance(cache_path, images):
    done = verify(cache_path, images, sample=3, engine="keras")
    assert done.ok
    assert done.sampled == 3


def test_an_image_removed_during_verification_is_no_problem(path, folder):
    class Removing(Progress):
        def close(self):
            (folder / "ash" / "001.png").unlink()

    done = verify(path, folder, sample=100, progress=Removing())
    assert done.ok
    assert done.sampled == done.identical == 23


def test_other_weights_are_refused(path, folder):
    with pytest.raises(FingerprintError, match="weights_sha256"):
        verify(path, folder, weights="random:1")


def test_without_weights_only_the_sample_fails(path, folder, tmp_path, monkeypatch):
    def gone(*_):
        raise WeightsError("the weights file is gone; give it with --weights FILE")

    monkeypatch.setattr(module, "recipe_of", gone)
    with pytest.raises(WeightsError, match="--weights FILE"):
        verify(path, folder)
    assert verify(path, folder, sample=0).ok


def test_what_cannot_be_verified_is_an_error(path, tmp_path):
    with pytest.raises(ImageFolderError, match="does not exist"):
        verify(path, tmp_path / "none")
    with pytest.raises(CacheError, match=r"none\.h5"):
        verify(tmp_path / "none.h5")


def test_nothing_is_written(path, folder, tmp_path):
    def state():
        return {str(file): file.stat().st_mtime_ns for file in tmp_path.rglob("*")}

    before = state()
    verify(path, folder)
    assert state() == before
