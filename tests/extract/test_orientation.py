"""The EXIF orientation of photographs: ignored with a notice, or applied."""

from __future__ import annotations

import io

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from embedonce import compare, extract_features, predict, train, verify
from embedonce.cli.app import main
from embedonce.errors import FingerprintError
from embedonce.extract.decoding import decode
from embedonce.extract.orientation import orientation_of, tiff_number, upright
from embedonce.extract.recipe import decoder_of, recipe_of
from PIL import Image, ImageOps


def photo(orientation, kind="JPEG", **options):
    image, exif = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)), Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    exif[0x010E] = "a description"
    buffer = io.BytesIO()
    image.save(buffer, kind, exif=exif, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(9))
def test_images_are_turned_as_pillow_turns_them(kind, orientation):
    data = photo(orientation, kind)
    stored = decode(data)
    by_pillow = Image.fromarray(stored)
    if orientation:
        by_pillow.getexif()[0x0112] = orientation
    assert orientation_of(data) == max(orientation, 1)
    np.testing.assert_array_equal(upright(stored, orientation_of(data)), ImageOps.exif_transpose(by_pillow))
    np.testing.assert_array_equal(decoder_of({"orientation": "exif"})(data), ImageOps.exif_transpose(by_pillow))
    np.testing.assert_array_equal(decoder_of({})(data), stored)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_damaged_exif_data_are_no_orientation(kind):
    data, generator = photo(6, kind), np.random.default_rng(0)
    for end in range(0, len(data), max(1, len(data) // 300)):
        assert orientation_of(data[:end]) in range(1, 9)
    for _ in range(2000):
        changed = bytearray(data)
        changed[int(generator.integers(2, min(len(data), 200)))] ^= int(generator.integers(1, 256))
        assert orientation_of(bytes(changed)) in range(1, 9)
    assert tiff_number(b"II*\0\x08\0\0\0", 1) == 0


@pytest.fixture
def folder(tmp_path, make_images):
    folder = make_images(tmp_path / "images", ("ash", "birch"), per_class=3)
    image = Image.open(folder / "ash" / "000.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    image.rotate(90, expand=True).save(folder / "ash" / "phone.png", exif=exif)
    image.save(folder / "ash" / "upright.png")
    return folder


def rows(cache):
    return dict(zip(cache.paths, cache.features, strict=True))


def test_a_notice_counts_turned_images(folder, tmp_path, small):
    cache = extract_features(folder, tmp_path / "a.h5", **small)
    assert any(
        note.startswith("1 image has an EXIF orientation") and "ash/phone.png." in note for note in cache.report.notes
    )
    assert "orientation" not in cache.fingerprint
    assert not np.allclose(rows(cache)["ash/phone.png"], rows(cache)["ash/upright.png"], atol=1e-3)


def test_exif_orientation_turns_them_everywhere(folder, tmp_path, small):
    cache = extract_features(folder, tmp_path / "a.h5", orientation="exif", **small)
    assert not any("EXIF" in note for note in cache.report.notes)
    assert cache.fingerprint["orientation"] == "exif"
    assert recipe_of(cache).images.orientation == "exif"
    np.testing.assert_allclose(rows(cache)["ash/phone.png"], rows(cache)["ash/upright.png"], atol=1e-5)
    assert verify(tmp_path / "a.h5", folder).ok
    with pytest.raises(FingerprintError, match="orientation is exif there, None here"):
        extract_features(folder, tmp_path / "a.h5", **small)
    train(cache, "logreg", tmp_path / "m.npz", split="random")
    one, other = predict(tmp_path / "m.npz", [folder / "ash" / "phone.png", folder / "ash" / "upright.png"])
    assert one.classes == other.classes


def test_a_notice_counts_dark_images_of_16_bits(tmp_path, make_images, small):
    folder = make_images(tmp_path / "images", ("ash", "birch"), per_class=2)
    values = np.random.default_rng(0).integers(200, 4200, (40, 40)).astype(np.uint16)
    for name, factor in (("x.png", 1), ("y.tif", 1), ("bright.png", 15)):
        Image.fromarray(values * factor).save(folder / "ash" / name)
    notes = extract_features(folder, tmp_path / "a.h5", **small).report.notes
    assert any(
        note.startswith("2 images of 16 bits use less than a quarter") and "ash/x.png, …" in note for note in notes
    )


def test_predict_counts_images_whose_orientation_it_ignores(folder, tmp_path, small):
    cache = extract_features(folder, tmp_path / "a.h5", **small)
    train(cache, "logreg", tmp_path / "m.npz", split="random")
    Image.fromarray(np.full((40, 40), 900, np.uint16)).save(folder / "ash" / "dark.png")
    for options in ([], ["--json"], ["--csv"], ["--cache", str(cache.path)]):
        done = CliRunner().invoke(main, ["predict", str(tmp_path / "m.npz"), str(folder), *options])
        used, first, second = done.stderr.splitlines()
        assert "used in training" in used
        assert first.startswith("Note: 1 image has an EXIF orientation, which is ignored")
        assert "phone.png. Turn them upright, or train on a cache that was extracted with --orientation exif." in first
        assert second.startswith("Note: 1 image of 16 bits uses less than a quarter of its range")
        assert "Note" not in done.stdout
    Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save(folder / "new.png")
    assert not predict(tmp_path / "m.npz", folder / "new.png").notes


@pytest.mark.parametrize("name", ["a.h5", "a.cache"])
def test_compare_counts_the_turned_images_of_the_cache(folder, tmp_path, small, name):
    def turned(cache):
        notes = compare(cache, "logreg", split="random").notes
        return [note.partition(".")[0] for note in notes if "EXIF orientation" in note]

    path = tmp_path / name
    (folder / "birch" / "copy.png").write_bytes((folder / "ash" / "phone.png").read_bytes())
    cache = extract_features(folder, path, **small)
    assert cache.files.oddities.sum() == 4  # bit 1 of two images
    assert [note[:8] for note in turned(cache)] == ["2 images"]
    (folder / "ash" / "phone.png").rename(folder / "ash" / "moved.png")
    (folder / "birch" / "copy.png").unlink()
    (folder / "birch" / "new.png").write_bytes((folder / "ash" / "upright.png").read_bytes())
    (note,) = turned(extract_features(folder, path, **small))
    assert note.startswith("1 image")
    assert note.endswith("ash/moved")
    (folder / "ash" / "moved.png").unlink()
    assert turned(extract_features(folder, path, **small)) == []


def test_caches_of_usual_images_have_no_oddities(folder, tmp_path, small):
    assert "oddities" in h5py.File(extract_features(folder, tmp_path / "a.h5", **small).path)
    (folder / "ash" / "phone.png").unlink()
    assert "oddities" not in h5py.File(extract_features(folder, tmp_path / "a.h5", **small).path)
