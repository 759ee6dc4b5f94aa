"""Resizing by cropping, padding and with antialiasing: the bits of TensorFlow, everywhere where images are resized."""

from __future__ import annotations

import numpy as np
import pytest
from embedonce import explain, extract_features, predict, train, verify
from embedonce._keras import import_keras
from embedonce.errors import FingerprintError, ParameterError
from embedonce.extract.options import RESIZES
from embedonce.extract.recipe import decoder_of, image_options_of, recipe_of
from embedonce.extract.resizing import framed, resize, resize_into
from PIL import Image

SHAPES = [(40, 60), (90, 61), (1, 30), (30, 1), (1, 1), (5, 7), (33, 32), (32, 32), (64, 64), (501, 333), (37, 700)]


def drawn(height, width):
    return np.random.default_rng(height + 1000 * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def tf():
    import_keras()
    import tensorflow

    return tensorflow


@pytest.fixture(scope="module")
def keras_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    for kind in ("a", "b"):
        (folder / kind).mkdir()
    for height, width in SHAPES:
        Image.fromarray(drawn(height, width)).save(folder / "a" / f"{height:04d}x{width:04d}.png")
        Image.fromarray(drawn(height, width)).save(folder / "b" / f"{height:04d}x{width:04d}.jpg", quality=90)
    return folder


@pytest.mark.parametrize("size", [32, 45, 224])
@pytest.mark.parametrize("how", ["stretch", "crop", "pad"])
def test_images_are_resized_to_the_bits_of_keras(keras_folder, how, size):
    keras = import_keras()
    data = keras.utils.image_dataset_from_directory(
        keras_folder,
        image_size=(size, size),
        batch_size=None,
        shuffle=False,
        crop_to_aspect_ratio=how == "crop",
        pad_to_aspect_ratio=how == "pad",
        verbose=False,
    )
    decoder = decoder_of({"image_size": size, "resize": RESIZES[how, False]})
    for (expected, _), file in zip(data, sorted(keras_folder.rglob("*.*")), strict=True):
        np.testing.assert_array_equal(decoder.resize(decoder(file.read_bytes())), expected.numpy(), err_msg=file.name)


@pytest.mark.parametrize("size", [32, 45, 224])
def test_antialiasing_gives_the_bits_of_tensorflow(tf, size):
    for height, width in SHAPES:
        pixels = drawn(height, width)
        expected = {
            "stretch": tf.image.resize(pixels, (size, size), antialias=True),
            "pad": tf.image.resize_with_pad(pixels, size, size, antialias=True),
        }
        side, start = min(height, width), abs(height - width) // 2
        square = pixels[start : start + side] if height > width else pixels[:, start : start + side]
        expected["crop"] = tf.image.resize(square, (size, size), antialias=True)
        for how, image in expected.items():
            np.testing.assert_array_equal(resize(pixels, size, how, antialias=True), image.numpy(), err_msg=how)


def test_large_images_are_antialiased_in_parts(monkeypatch):
    pixels = drawn(90, 700)
    whole = resize(pixels, 32, antialias=True)
    monkeypatch.setattr("embedonce.extract.resizing.STRIP_PIXELS", 3000)
    np.testing.assert_array_equal(resize(pixels, 32, antialias=True), whole)


def test_a_narrow_image_keeps_one_pixel_when_it_is_padded():
    pixels = np.full((2, 500, 3), 200, np.uint8)
    for antialias in (False, True):
        padded = resize(pixels, 32, "pad", antialias)
        np.testing.assert_allclose(padded[15], 200, rtol=1e-6)
        assert not np.delete(padded, 15, axis=0).any()


def test_images_of_the_right_size_are_not_changed():
    pixels, out = drawn(32, 32), np.empty((32, 32, 3), np.float32)
    for how, antialias in RESIZES:
        np.testing.assert_array_equal(resize(pixels, 32, how, antialias), pixels)
        resize_into(out, pixels, how, antialias)
        np.testing.assert_array_equal(out, pixels)


def test_shown_images_are_cropped_or_padded_as_for_the_backbone():
    pixels = drawn(40, 60)
    np.testing.assert_array_equal(framed(pixels, 32, "stretch"), pixels)
    np.testing.assert_array_equal(framed(pixels, 32, "crop"), pixels[:, 10:50])
    np.testing.assert_array_equal(framed(pixels, 32, "pad"), np.pad(pixels, ((10, 10), (0, 0), (0, 0))))
    assert framed(drawn(3, 5000), 32, "pad").shape == (1024, 1024, 3)


@pytest.fixture(scope="module")
def wide(tmp_path_factory, draw):
    """Two classes of images that are not square, and one image with its own crop and padding."""
    folder = tmp_path_factory.mktemp("wide") / "images"
    for kind, name in enumerate(("ash", "birch")):
        (folder / name).mkdir(parents=True)
        for number in range(4):
            draw(kind, number, 100, 200).save(folder / name / f"{number}.png")
    image = np.asarray(Image.open(folder / "ash" / "0.png"))
    Image.fromarray(image[:, 50:150]).save(folder / "ash" / "crop.png")
    Image.fromarray(resize(image, 64, "pad").astype(np.uint8)).save(folder / "ash" / "pad.png")
    return folder


def features(cache):
    return dict(zip(cache.paths, cache.features, strict=True))


def test_the_default_fingerprint_is_the_old_one():
    assert RESIZES["stretch", False] == "bilinear, no antialiasing"
    assert len(set(RESIZES.values())) == 6
    for (how, antialias), text in RESIZES.items():
        options = image_options_of({"resize": text})
        assert (options.resize, options.antialias) == (how, antialias)
    assert image_options_of({"resize": "of a later version"}) == image_options_of({})


@pytest.mark.parametrize("how", ["crop", "pad"])
def test_models_remember_how_images_become_square(wide, tmp_path, small, how):
    cache = extract_features(wide, tmp_path / "a.h5", resize=how, **small)
    rows = features(cache)
    assert cache.fingerprint["resize"] == RESIZES[how, False]
    np.testing.assert_allclose(rows["ash/0.png"], rows[f"ash/{how}.png"], atol=0.02 if how == "pad" else 1e-6)
    assert verify(tmp_path / "a.h5", wide).identical == 10
    with pytest.raises(
        FingerprintError, match=f"resize is {RESIZES[how, False]} there, bilinear, no antialiasing here"
    ):
        extract_features(wide, tmp_path / "a.h5", **small)
    train(cache, "logreg", tmp_path / "m.npz", split="random")
    image = wide / "birch" / "1.png"
    (by_cache,) = predict(tmp_path / "m.npz", image, cache=cache)
    (by_image,) = predict(tmp_path / "m.npz", image)
    assert by_image.classes == by_cache.classes
    shown = explain(tmp_path / "m.npz", image).pixels
    assert shown.shape == {"crop": (100, 100, 3), "pad": (200, 200, 3)}[how]


def test_antialiased_features_differ_and_are_verified(wide, tmp_path, small):
    plain = extract_features(wide, tmp_path / "a.h5", **small)
    smooth = extract_features(wide, tmp_path / "b.h5", antialias=True, **small)
    assert smooth.fingerprint == plain.fingerprint | {"resize": "bilinear, antialiasing"}
    assert recipe_of(smooth).images.antialias
    assert np.abs(smooth.features - plain.features).max() > 1e-3
    assert verify(tmp_path / "b.h5", wide).identical == 10


def test_unknown_options_are_refused(wide, tmp_path, small):
    with pytest.raises(ParameterError, match="parameter resize of extract must be one of stretch, crop, pad, got"):
        extract_features(wide, tmp_path / "a.h5", resize="squash", **small)
    with pytest.raises(ParameterError, match="parameter antialias of extract must be"):
        extract_features(wide, tmp_path / "a.h5", antialias="yes", **small)
