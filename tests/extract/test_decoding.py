from __future__ import annotations

import io

import numpy as np
import pytest
from embedonce._keras import import_keras
from embedonce.errors import ImageError
from embedonce.extract import decoding as module
from embedonce.extract.decoding import decode
from embedonce.extract.resizing import resize
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image


@pytest.fixture(scope="module")
def tf():
    import_keras()
    import tensorflow

    return tensorflow


def saved(image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


GENERATOR = np.random.default_rng(0)
PHOTO = Image.fromarray(np.kron(GENERATOR.integers(0, 256, (15, 20, 3)), np.ones((7, 9, 1))).astype(np.uint8))
PALETTE = PHOTO.quantize(16)
GRAY16 = Image.fromarray(GENERATOR.integers(0, 65536, (20, 30)).astype(np.uint16))
RGBA = Image.fromarray(GENERATOR.integers(0, 256, (20, 30, 4), dtype=np.uint8))
LA = Image.fromarray(GENERATOR.integers(0, 256, (20, 30, 2), dtype=np.uint8))
EXTRANEOUS = saved(PHOTO, format="JPEG")[:-2] + bytes(20) + b"\xff\xd9"

SUPPORTED = {
    "jpeg 4:4:4": saved(PHOTO, format="JPEG", subsampling=0),
    "jpeg 4:2:2": saved(PHOTO, format="JPEG", subsampling=1),
    "jpeg 4:2:0": saved(PHOTO, format="JPEG", subsampling=2),
    "jpeg progressive": saved(PHOTO, format="JPEG", progressive=True, quality=60),
    "jpeg gray": saved(PHOTO.convert("L"), format="JPEG"),
    "jpeg cmyk": saved(PHOTO.convert("CMYK"), format="JPEG"),
    "jpeg with trailing bytes": saved(PHOTO, format="JPEG") + b"trailing",
    "jpeg with stray bytes": EXTRANEOUS,
    "png": saved(PHOTO, format="PNG"),
    "png gray": saved(PHOTO.convert("L"), format="PNG"),
    "png 1 bit": saved(PHOTO.convert("1"), format="PNG"),
    "png palette": saved(PALETTE, format="PNG"),
    "png palette 2 bit": saved(PHOTO.quantize(4), format="PNG", bits=2),
    "png palette with transparency": saved(PALETTE, format="PNG", transparency=0),
    "png alpha": saved(RGBA, format="PNG"),
    "png gray alpha": saved(LA, format="PNG"),
    "png 16 bit": saved(GRAY16, format="PNG"),
    "bmp": saved(PHOTO, format="BMP"),
    "bmp gray": saved(PHOTO.convert("L"), format="BMP"),
    "bmp palette": saved(PALETTE, format="BMP"),
    "bmp alpha": saved(RGBA, format="BMP"),
    "gif": saved(PALETTE, format="GIF"),
    "gif with transparency": saved(PALETTE, format="GIF", transparency=3),
    "gif animated": saved(PALETTE, format="GIF", save_all=True, append_images=[PHOTO.rotate(90).quantize(64)]),
}


@pytest.mark.parametrize("name", SUPPORTED)
def test_every_format_is_decoded_to_the_bytes_of_tensorflow(tf, name):
    expected = tf.io.decode_image(SUPPORTED[name], channels=3, expand_animations=False).numpy()
    np.testing.assert_array_equal(decode(SUPPORTED[name]), expected)


@given(height=st.integers(1, 90), width=st.integers(1, 90), size=st.integers(1, 80), seed=st.integers(0, 5))
@settings(max_examples=60)
def test_resizing_gives_the_bits_of_tensorflow(tf, height, width, size, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    resized = resize(pixels, size)
    assert resized.dtype == np.float32
    np.testing.assert_array_equal(resized, tf.image.resize(pixels, (size, size)).numpy())


BAD = {
    "empty": (b"", "empty"),
    "text": (b"hello", "not an image"),
    "html": (b"<!doctype html>", "unsupported format: HTML"),
    "jpeg truncated": (SUPPORTED["jpeg 4:4:4"][:3000], "truncated JPEG"),
    "jpeg without its end": (SUPPORTED["jpeg 4:2:0"][:-2], "truncated JPEG"),
    "jpeg of a header only": (b"\xff\xd8\xff\xe0", "JPEG"),
    "png truncated": (SUPPORTED["png"][:600], "truncated PNG"),
    "png of a header only": (SUPPORTED["png"][:20], "damaged|truncated"),
    "bmp truncated": (SUPPORTED["bmp"][:5000], "truncated BMP"),
    "gif truncated": (SUPPORTED["gif"][:1200], "truncated GIF|damaged GIF"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_whole_image_is_rejected_with_its_reason(name):
    data, reason = BAD[name]
    with pytest.raises(ImageError, match=reason) as caught:
        decode(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["jpeg truncated", "jpeg without its end", "png truncated", "bmp truncated", "text"])
def test_tensorflow_rejects_the_same(tf, name):
    with pytest.raises(tf.errors.InvalidArgumentError):
        tf.io.decode_image(BAD[name][0], channels=3, expand_animations=False)


@given(
    data=st.binary(max_size=300), start=st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"GIF89a"])
)
@settings(max_examples=300)
def test_no_bytes_raise_anything_but_an_image_error(data, start):
    try:
        decode(start + data)
    except ImageError as error:
        assert str(error)


@pytest.mark.parametrize("name", sorted(SUPPORTED))
def test_no_damaged_image_raises_anything_but_an_image_error(name):
    intact = SUPPORTED[name]
    generator = np.random.default_rng(1)
    for _ in range(30):
        damaged = bytearray(intact)
        for place in generator.integers(0, len(intact), 4):
            damaged[place] = generator.integers(0, 256)
        try:
            pixels = decode(bytes(damaged))
            assert pixels.ndim == 3
            assert pixels.dtype == np.uint8
        except ImageError:
            pass


@pytest.mark.parametrize("name", ["jpeg 4:4:4", "png", "gif", "bmp"])
def test_too_many_pixels_are_rejected_before_decoding(monkeypatch, name):
    monkeypatch.setattr(module, "MAX_PIXELS", 100)
    with pytest.raises(ImageError, match="too large: 180 x 105 pixels"):
        decode(SUPPORTED[name])


LARGE = Image.fromarray(np.kron(GENERATOR.integers(0, 256, (48, 48, 3)), np.ones((16, 16, 1))).astype(np.uint8))
LARGE_BYTES = saved(LARGE, format="JPEG", quality=90)


@pytest.mark.parametrize(
    ("side", "least", "ratio"),
    [(768, 224, 2), (448, 224, 2), (896, 224, 4), (895, 224, 2), (1792, 224, 8), (257, 32, 8)],
)
@pytest.mark.parametrize("options", [{"subsampling": 0}, {"subsampling": 2}, {"progressive": True}])
def test_a_large_jpeg_is_reduced_to_the_bytes_of_tensorflow(tf, side, least, ratio, options):
    data = saved(LARGE.resize((side + 75, side), Image.Resampling.BICUBIC), format="JPEG", **options)
    expected = tf.io.decode_jpeg(data, channels=3, ratio=ratio, dct_method="INTEGER_FAST").numpy()
    assert least <= len(expected) <= 2 * least or ratio == 8
    np.testing.assert_array_equal(decode(data, least), expected)


def test_a_jpeg_is_reduced_to_what_it_looks_like():
    data = saved(LARGE.resize((24, 24)).resize((768, 768), Image.Resampling.BICUBIC), format="JPEG", quality=90)
    exact, reduced = decode(data), decode(data, 224)
    assert exact.shape == (768, 768, 3)
    assert reduced.shape == (384, 384, 3)
    means = exact.reshape(384, 2, 384, 2, 3).mean((1, 3))
    assert np.abs(reduced - means).mean() < 2
    assert np.abs(means - means[::-1]).mean() > 20


@pytest.mark.parametrize(
    "image",
    [LARGE.resize((224, 224)), LARGE.resize((447, 768)), LARGE.resize((768, 447)), LARGE.resize((40, 3000))],
    ids=lambda image: f"{image.width} x {image.height}",
)
def test_a_jpeg_that_would_become_too_small_is_decoded_whole(image):
    data = saved(image, format="JPEG")
    np.testing.assert_array_equal(decode(data, 224), decode(data))


@pytest.mark.parametrize("name", sorted(name for name in SUPPORTED if not name.startswith("jpeg")))
def test_other_formats_are_decoded_whole(name):
    np.testing.assert_array_equal(decode(SUPPORTED[name], 1), decode(SUPPORTED[name]))


@pytest.mark.parametrize("name", sorted(name for name in SUPPORTED if name.startswith("jpeg")))
def test_every_kind_of_jpeg_can_be_reduced(name):
    exact, reduced = decode(SUPPORTED[name]), decode(SUPPORTED[name], 50)
    assert exact.shape == (105, 180, 3)
    assert reduced.shape == (53, 90, 3)
    means = exact[:104].reshape(52, 2, 90, 2, 3).mean((1, 3))
    assert np.abs(reduced[:52] - means).mean() < 12  # unlike a photograph: every 7 pixels an edge


@pytest.mark.parametrize("name", [name for name in BAD if name.startswith("jpeg")])
def test_what_is_rejected_is_rejected_reduced_too(name):
    data, reason = BAD[name]
    with pytest.raises(ImageError, match=reason):
        decode(data, 50)


def test_the_limit_is_on_the_size_before_the_reduction(monkeypatch):
    monkeypatch.setattr(module, "MAX_PIXELS", 1000)
    with pytest.raises(ImageError, match="too large: 768 x 768 pixels"):
        decode(LARGE_BYTES, 32)


@pytest.mark.parametrize("least", [8, 50])
def test_a_damaged_jpeg_raises_only_image_errors_reduced(least):
    generator = np.random.default_rng(2)
    for name in sorted(name for name in SUPPORTED if name.startswith("jpeg")):
        for _ in range(15):
            damaged = bytearray(SUPPORTED[name])
            for place in generator.integers(0, len(damaged), 4):
                damaged[place] = generator.integers(0, 256)
            try:
                pixels = decode(bytes(damaged), least)
            except ImageError:
                continue
            assert pixels.ndim == 3
