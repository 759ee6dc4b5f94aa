from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from embedonce.cache import FeatureCache
from embedonce.cache.lock import writer_lock
from embedonce.cache.place import CacheLocation
from embedonce.errors import (
    CacheError,
    FingerprintError,
    ImageError,
    ImageFolderError,
    LockedError,
    OutputError,
    ParameterError,
    WeightsError,
)
from embedonce.extract import embed
from embedonce.extract.progress import Progress
from embedonce.extract.recipe import Recipe
from embedonce.extract.run import extract_features


@pytest.fixture
def folder(tmp_path, make_images):
    return make_images(tmp_path / "images")


@pytest.fixture
def run(folder, tmp_path, small):
    def update(images=folder, **options):
        return extract_features(images, tmp_path / "a.h5", **(small | options))

    return update


@pytest.mark.usefixtures("each_engine")
def test_a_first_run_embeds_everything(run):
    updated = run()
    assert (updated.report.embedded, updated.report.added, updated.report.published) == (24, 24, True)
    assert len(updated) == 24
    assert updated.class_counts == {"ash": 8, "birch": 8, "cedar": 8}
    assert updated.report.images_per_second > 0


def test_a_second_run_embeds_and_writes_nothing(run, tmp_path):
    run()
    before = (tmp_path / "a.h5").stat()
    report = run().report
    assert (report.embedded, report.unchanged, report.published) == (0, 24, False)
    assert (tmp_path / "a.h5").stat().st_ino == before.st_ino


def test_a_second_run_imports_no_tensorflow(run, folder, tmp_path, python):
    run()
    code = (
        "import sys, embedonce\n"
        "embedonce.extract_features(sys.argv[1], sys.argv[2], weights='random:0', alpha=0.35, image_size=64, engine=sys.argv[3])\n"
        "print('tensorflow' in sys.modules)\n"
    )
    for engine in ("auto", "keras"):
        assert python(code, folder, tmp_path / "a.h5", engine) == "False\n"


@pytest.mark.usefixtures("each_engine")
def test_embedding_new_images_imports_no_tensorflow(run, folder, tmp_path, python, draw):
    run()
    draw(0, 99).save(folder / "ash" / "new.png")
    code = (
        "import sys, embedonce\n"
        "cache = embedonce.extract_features(sys.argv[1], sys.argv[2], weights='random:0', alpha=0.35, image_size=64)\n"
        "print(len(cache), 'tensorflow' in sys.modules)\n"
    )
    assert python(code, folder, tmp_path / "a.h5") == "25 False\n"


@pytest.mark.usefixtures("each_engine")
def test_rejects_are_listed_and_not_tried_again(run, folder, monkeypatch):
    (folder / "ash" / "bad.jpg").write_bytes(b"")
    (folder / "birch" / "half.png").write_bytes((folder / "birch" / "001.png").read_bytes()[:500])
    updated = run()
    assert updated.report.rejected == 2
    rejects = dict(updated.rejects)
    assert rejects["ash/bad.jpg"] == "the file is empty"
    assert "truncated" in rejects["birch/half.png"]
    assert len(updated) == 24
    monkeypatch.setattr(embed, "read_image", None)  # a second look would fail
    assert run().report.rejected == 2


def test_a_repaired_image_is_embedded(run, folder, draw):
    (folder / "ash" / "bad.jpg").write_bytes(b"")
    run()
    draw(0, 77).save(folder / "ash" / "bad.jpg")
    report = run().report
    assert (report.embedded, report.rejected) == (1, 0)


@pytest.mark.usefixtures("each_engine")
def test_strict_fails_naming_the_images_and_keeps_the_work(run, folder, tmp_path):
    (folder / "ash" / "bad.jpg").write_bytes(b"nonsense")
    with pytest.raises(ImageError, match=r"1 image cannot be embedded \(--strict\): ash/bad\.jpg: not an image"):
        run(strict=True)
    assert not (tmp_path / "a.h5").exists()
    (folder / "ash" / "bad.jpg").unlink()
    report = run(strict=True).report
    assert (report.embedded, report.resumed) == (0, 24)
    (folder / "ash" / "bad.jpg").write_bytes(b"nonsense")
    run()
    with pytest.raises(ImageError, match="strict"):  # also when nothing is left to do
        run(strict=True)


def test_without_any_image_the_first_reason_is_given(tmp_path, small):
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "images" / name / "1.jpg").write_bytes(b"text")
    with pytest.raises(ImageFolderError, match=r"none of the 2 images.*a/1\.jpg: not an image"):
        extract_features(tmp_path / "images", tmp_path / "a.h5", **small)
    assert not (tmp_path / "a.h5").exists()


@pytest.mark.parametrize(
    ("options", "field"),
    [({"alpha": 0.5}, "alpha"), ({"image_size": 96}, "image_size"), ({"weights": "random:1"}, "weights")],
)
def test_another_fingerprint_is_refused_with_the_field(run, tmp_path, options, field):
    run()
    before = (tmp_path / "a.h5").read_bytes()
    with pytest.raises(FingerprintError, match=f"{field}.* there, .* here"):
        run(**options)
    assert (tmp_path / "a.h5").read_bytes() == before


def test_a_file_that_is_not_a_cache_is_never_overwritten(run, tmp_path):
    (tmp_path / "a.h5").write_text("my thesis")
    with pytest.raises(CacheError, match="not a readable feature cache"):
        run()
    assert (tmp_path / "a.h5").read_text() == "my thesis"


def test_a_second_writer_fails_at_once(run, tmp_path):
    with writer_lock(CacheLocation.of(tmp_path / "a.h5")), pytest.raises(LockedError, match="being written by process"):
        run()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"engine": "warp"},
            ParameterError,
            "parameter engine of extract must be one of auto, native, litert, keras, got 'warp'",
        ),
        ({"workers": 0}, ParameterError, "parameter workers of extract must be an integer of at least 1, got 0"),
        ({"alpha": -1.0}, ParameterError, "parameter alpha of extract"),
        ({"image_size": 8}, ParameterError, "parameter image_size of extract"),
    ],
)
def test_wrong_parameters_are_named(run, options, error, message):
    with pytest.raises(error, match=message):
        run(**options)


def test_a_cache_path_that_is_a_folder_or_cannot_be_is_named(folder, tmp_path, small):
    with pytest.raises(OutputError, match="is a folder"):
        extract_features(folder, tmp_path, **small)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="folder of the cache"):
        extract_features(folder, tmp_path / "file" / "a.h5", **small)


def test_images_outside_class_folders_are_noted(run, folder, draw):
    draw(0, 0).save(folder / "stray.png")
    assert any("1 image outside the class folders" in note for note in run().report.notes)


def test_what_was_left_out_of_the_folder_is_noted(run, folder):
    (folder / "none").mkdir()
    (folder / "ash" / "photo.PSD").write_bytes(b"")
    notes = run().report.notes
    assert any("left out: 1 .psd. Convert them to JPEG or PNG" in note for note in notes)
    assert "folders without images are not classes: none" in notes
    assert not any("parts of a split" in note for note in notes)


def test_parts_of_a_split_that_became_classes_are_noted(run, tmp_path, draw):
    for part in ("Train", "test"):
        (tmp_path / "parts" / part / "ash").mkdir(parents=True)
        draw(0, len(part)).save(tmp_path / "parts" / part / "ash" / "1.png")
    notes = run(tmp_path / "parts").report.notes
    assert any("the folders Train, test became the classes. If they are the parts" in note for note in notes)


@pytest.mark.usefixtures("each_engine")
def test_missing_weights_name_those_of_the_cache(run, tmp_path, keras_home, monkeypatch):
    weights = tmp_path / "kept.weights.h5"
    shutil.copy(next((keras_home / "models").iterdir()), weights)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "none"))
    monkeypatch.setattr("embedonce.extract.backbone.resolve._URL", "file:///nowhere/")
    with pytest.raises(WeightsError, match=r"or give --weights FILE$"):
        run(weights="imagenet", alpha=1.0)
    run(weights=weights, alpha=1.0)
    with pytest.raises(WeightsError, match=rf"a\.h5 was made with --weights {weights}$"):
        run(weights="imagenet", alpha=1.0)


KILLED = """
import os, signal, sys
from embedonce.cache.partial import PartialRun
from embedonce.extract import embed
import embedonce

embed.SEGMENT_ROWS = 5
embed.SLICE_IMAGES = 1
commit, commits = PartialRun.commit, 0

def counting(self, table):
    global commits
    if sys.argv[4] == "before" and commits == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    commit(self, table)
    commits += 1
    if sys.argv[4] == "after" and commits == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

PartialRun.commit = counting
embedonce.extract_features(sys.argv[1], sys.argv[2], weights="random:0", alpha=0.35, image_size=64)
"""


@pytest.mark.usefixtures("each_engine")
@pytest.mark.parametrize(("commits", "moment"), [(1, "after"), (2, "before"), (3, "after"), (5, "after")])
def test_a_killed_run_is_resumed_to_the_same_bytes(folder, tmp_path, small, run, commits, moment):
    extract_features(folder, tmp_path / "whole.h5", **small)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, folder, tmp_path / "a.h5", str(commits), moment], timeout=120, check=False
    )
    assert killed.returncode == -9
    assert not (tmp_path / "a.h5").exists()
    report = run().report
    assert report.resumed >= min(5 * commits, 24)
    assert report.embedded == 24 - report.resumed
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()
    assert not (tmp_path / "a.h5.partial").exists()


@pytest.mark.usefixtures("each_engine")
def test_an_interrupt_keeps_what_was_embedded(run, monkeypatch):
    monkeypatch.setattr(embed, "SEGMENT_ROWS", 4)
    monkeypatch.setattr(embed, "SLICE_IMAGES", 1)

    class Interrupting(Progress):
        done = 0

        def advance(self, count):
            self.done += count
            if self.done == 10:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(progress=Interrupting())
    report = run().report
    assert report.resumed >= 10
    assert report.embedded == 24 - report.resumed


def test_an_interrupt_does_not_wait_for_a_slow_image(run, monkeypatch):
    released = threading.Event()
    decode, others = Recipe.decode_into, []

    def slow(recipe, out, data):
        if len(others) == 10:
            released.wait(30)
        others.append(data)
        return decode(recipe, out, data)

    class Interrupting(Progress):
        def advance(self, count):
            if len(others) >= 10:
                self.since = time.monotonic()
                raise KeyboardInterrupt

    monkeypatch.setattr(embed, "SLICE_IMAGES", 1)
    progress = Interrupting()
    with monkeypatch.context() as patch:
        patch.setattr(Recipe, "decode_into", slow)
        with pytest.raises(KeyboardInterrupt):
            run(progress=progress, engine="native", workers=1)
        assert time.monotonic() - progress.since < 2
        released.set()
    assert run().report.resumed == 10


def test_a_full_disk_keeps_what_was_committed(run, monkeypatch, tmp_path):
    monkeypatch.setattr(embed, "SEGMENT_ROWS", 5)
    monkeypatch.setattr(embed, "SLICE_IMAGES", 1)
    real, calls = os.write, []

    def full(descriptor, data):
        if 20_000 < len(data) < 100_000:  # the features of a segment
            calls.append(len(data))
        if len(calls) > 2 and len(data) > 4_000:  # from then on, nothing but notes finds room
            raise OSError(28, "No space left on device")
        return real(descriptor, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OutputError, match=r"cannot write .*segment.*No space left"):
            run()
    report = run().report
    assert report.resumed == 10
    assert report.embedded == 14


def test_unfinished_work_of_another_fingerprint_is_kept(run, monkeypatch, folder, tmp_path):
    (folder / "ash" / "bad.jpg").write_bytes(b"")
    with pytest.raises(ImageError):
        run(strict=True)
    with pytest.raises(FingerprintError, match=r"unfinished run .*a\.h5\.partial.*alpha"):
        run(alpha=0.5)
    assert run().report.resumed == 25  # the reject as well


def test_a_damaged_segment_is_dropped_and_said(run, folder, tmp_path):
    (folder / "ash" / "bad.jpg").write_bytes(b"")
    with pytest.raises(ImageError):
        run(strict=True)
    (segment,) = (tmp_path / "a.h5.partial").glob("segment-*.h5")
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 255
    segment.write_bytes(data)
    report = run().report
    assert report.embedded == 24
    assert any("damaged unfinished work" in note for note in report.notes)


def test_missing_special_and_changing_files_are_rejected(folder, monkeypatch):
    from embedonce.extract.scan import ImageFile

    with pytest.raises(ImageError, match="cannot be read: No such file"):
        embed.read_image(folder, ImageFile(b"ash/none.jpg", 1, 1))
    os.mkfifo(folder / "ash" / "pipe.jpg")
    with pytest.raises(ImageError, match="not a regular file"):
        embed.read_image(folder, ImageFile(b"ash/pipe.jpg", 1, 1))
    real = os.fstat
    ticks = iter(range(100))

    def restless(descriptor):
        status = real(descriptor)
        return os.stat_result((*status[:6], next(ticks), *status[7:]))

    monkeypatch.setattr(os, "fstat", restless)
    with pytest.raises(ImageError, match="changes while it is read"):
        embed.read_image(folder, ImageFile(b"ash/000.jpg", 1, 1))


def test_the_python_api_returns_an_open_cache(folder, tmp_path, small):
    cache = extract_features(folder, tmp_path / "a.h5", **small)
    assert isinstance(cache, FeatureCache)
    assert cache.features.dtype == np.float32
    assert cache.fingerprint["alpha"] == 0.35
    assert repr(cache).endswith("24 images x 1280 features, 3 classes>")
