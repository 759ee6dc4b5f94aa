"""Large JPEG files: only the pixels that the resize reads are decoded, with the same bits and little memory."""

from __future__ import annotations

import io

import numpy as np
import pytest
import simplejpeg
from embedonce.errors import ImageError
from embedonce.extract import jpeg_pixels as module
from embedonce.extract import large_jpeg
from embedonce.extract.decoding import decode
from embedonce.extract.jpeg_pixels import jpeg_pixels
from embedonce.extract.options import ImageOptions
from embedonce.extract.recipe import ImageDecoder
from embedonce.extract.views import VIEW_TRANSFORMS
from PIL import Image

pytestmark = pytest.mark.skipif(module._library() is None, reason="the function was not compiled")


def picture(height, width, seed=0):
    generator = np.random.default_rng(seed)
    small = generator.integers(0, 256, (height // 7 + 1, width // 7 + 1, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))
    return np.clip(smooth + generator.normal(0, 15, smooth.shape), 0, 255).astype(np.uint8)


def jpeg(pixels, mode="RGB", **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def same(data):
    """Return whether all pixels, and some in another order, are those of libjpeg; None if it must decode the file."""
    height, width = simplejpeg.decode_jpeg_header(data)[:2]
    generator = np.random.default_rng(1)
    some = [generator.integers(0, size, 9) for size in (height, width)]
    for rows, columns in ((np.arange(height), np.arange(width)), some):
        if (pixels := jpeg_pixels(data, rows, columns)) is None:
            return None
        if not np.array_equal(pixels, decode(data)[rows][:, columns]):
            return False
    return True


@pytest.mark.parametrize("sampling", ["444", "422", "420", "440"])
@pytest.mark.parametrize("quality", [10, 75, 100])
def test_all_sizes_have_the_pixels_of_libjpeg(sampling, quality):
    for height, width in ((1, 5), (8, 8), (16, 17), (33, 6), (50, 71), (7, 130), (129, 64)):
        pixels = picture(height, width)
        assert same(simplejpeg.encode_jpeg(pixels, quality=quality, colorsubsampling=sampling)), (height, width)


@pytest.mark.parametrize(
    "options",
    [
        {"optimize": True},
        {"restart_marker_blocks": 1},
        {"restart_marker_blocks": 5, "subsampling": 1},
        {"restart_marker_rows": 1, "subsampling": 0},
        {"mode": "L"},
        {"mode": "L", "restart_marker_blocks": 3, "quality": 98},
        {"comment": "a comment", "exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"},
    ],
)
def test_all_usual_files_have_the_pixels_of_libjpeg(options):
    assert same(jpeg(picture(61, 75), **options))
    assert same(jpeg(picture(61, 75), **options) + b"what a telephone writes behind the image")


def test_extreme_coefficients_have_the_pixels_of_libjpeg():
    checks = np.kron(np.indices((20, 20)).sum(0) % 2, np.ones((3, 3)))[..., None] * np.full(3, 255)
    for quality in (1, 30, 100):
        assert same(jpeg(checks.astype(np.uint8), quality=quality, subsampling=0))
    data = bytearray(jpeg(picture(64, 64), quality=100))
    start = data.index(b"\xff\xdb") + 5
    data[start : start + 64] = bytes([255]) * 64
    assert same(bytes(data))


def changed(data, marker, offset, value):
    place = data.index(bytes((255, marker))) + offset
    return data[:place] + bytes((value,)) + data[place + 1 :]


USUAL = jpeg(picture(40, 52), quality=60)
RESTARTS = jpeg(picture(40, 52), quality=60, restart_marker_blocks=2)
UNUSUAL = {
    "progressive": jpeg(picture(40, 52), progressive=True),
    "CMYK": jpeg(picture(40, 52), "CMYK"),
    "4:1:1": simplejpeg.encode_jpeg(picture(40, 52), colorsubsampling="411"),
    "2 columns of colour": jpeg(picture(40, 4)),
    "RGB": jpeg(picture(40, 52), keep_rgb=True),
    "12 bits": changed(USUAL, 0xC0, 4, 12),
    "arithmetic": changed(USUAL, 0xC0, 1, 0xC9),
    "JFIF 2": changed(USUAL, 0xE0, 9, 2),
    "odd sampling": changed(USUAL, 0xC0, 11, 0x23),
    "spectral selection": changed(USUAL, 0xDA, 11, 1),
    "no table": changed(USUAL, 0xDA, 6, 0x33),
    "no height": changed(changed(USUAL, 0xC0, 6, 0), 0xC0, 5, 0),
    "too high": changed(USUAL, 0xC0, 6, 90),
    "not as high": changed(USUAL, 0xC0, 6, 20),
    "without its end": USUAL[:-2],
    "stray bytes": USUAL[:-2] + b"\0\0\0" + USUAL[-2:],
    "another restart": RESTARTS.replace(b"\xff\xd1", b"\xff\xd2", 1),
    "a restart too many": USUAL[:-2] + b"\xff\xd0" + USUAL[-2:],
    "a marker in the data": USUAL[:-40] + b"\xff\xc4" + USUAL[-38:],
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_other_files_are_left_to_libjpeg(name):
    assert jpeg_pixels(UNUSUAL[name], np.arange(3), np.arange(3)) is None


@pytest.mark.parametrize("data", [USUAL, RESTARTS, jpeg(picture(20, 30), "L", quality=95)])
def test_damaged_files_are_left_to_libjpeg(data):
    rows = columns = np.arange(20)
    assert jpeg_pixels(data, rows, columns) is not None
    assert not any(jpeg_pixels(data[:end], rows, columns) is not None for end in range(len(data)))
    generator = np.random.default_rng(0)
    answers = 0
    for _ in range(400):
        damaged = bytearray(data)
        for place in generator.integers(2, len(data), generator.integers(1, 4)):
            damaged[place] = generator.integers(0, 256)
        parsed = module._parsed(bytes(damaged))
        if parsed is None or min(parsed[0].height, parsed[0].width) < 20:
            continue
        pixels = jpeg_pixels(bytes(damaged), rows, columns)
        if pixels is not None:  # libjpeg accepts it without a warning
            answers += 1
            whole = simplejpeg.decode_jpeg(bytes(damaged), fastdct=True)
            np.testing.assert_array_equal(pixels, whole[:20, :20])
    assert answers


@pytest.fixture
def always(monkeypatch):
    monkeypatch.setattr(large_jpeg, "LARGE", 0)
    monkeypatch.setattr(large_jpeg, "FEWEST", 0)


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize(("height", "width"), [(90, 130), (131, 70), (300, 20)])
def test_options_and_views_have_the_same_bits(always, resize, height, width):
    exif = Image.Exif()
    for orientation in (1, 2, 4, 5, 6, 7, 8):
        exif[0x0112] = orientation
        data = jpeg(picture(height, width), exif=exif)
        decoder = ImageDecoder(32, ImageOptions(orientation="exif", resize=resize))
        for view, transform in VIEW_TRANSFORMS.items():
            out = np.empty((32, 32, 3), np.float32)
            assert decoder.decode_into(out, data, view) is None
            expected = decoder.resize(np.ascontiguousarray(transform(decoder(data))))
            assert out.tobytes() == expected.tobytes(), (orientation, view)


@pytest.mark.parametrize(
    ("options", "side"), [({"decoding": "reduced"}, 340), ({"antialias": True}, 340), ({}, 330)], ids=str
)
def test_other_options_and_small_images_decode_all_pixels(options, side):
    data, out = jpeg(picture(side, side)), np.empty((32, 32, 3), np.float32)
    decoder = ImageDecoder(32, ImageOptions(**options))
    np.testing.assert_array_equal(decoder.decode_into(out, data), decoder(data))
    np.testing.assert_array_equal(out, decoder.resize(decoder(data)))


def test_damage_has_the_usual_message(always):
    with pytest.raises(ImageError, match="truncated JPEG"):
        ImageDecoder(32).decode_into(np.empty((32, 32, 3), np.float32), USUAL[:900])


def test_without_the_compiled_function_all_pixels_are_decoded(monkeypatch):
    data, out, other = jpeg(picture(340, 340)), *np.empty((2, 32, 32, 3), np.float32)
    assert ImageDecoder(32).decode_into(out, data) is None
    monkeypatch.setattr(module, "_library", lambda: None)
    assert ImageDecoder(32).decode_into(other, data) is not None
    assert out.tobytes() == other.tobytes()


def test_a_photograph_of_12_megapixels_takes_little_memory(python, tmp_path):
    tile = picture(504, 672)
    path = tmp_path / "photo.jpg"
    path.write_bytes(simplejpeg.encode_jpeg(np.tile(tile, (6, 6, 1)), quality=85, colorsubsampling="420"))
    code = """
import resource, sys
import numpy as np
from embedonce.extract.recipe import ImageDecoder
out = np.zeros((224, 224, 3), np.float32)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert ImageDecoder(224).decode_into(out, open(sys.argv[1], "rb").read()) is None
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    assert int(python(code, path)) * 1024 < 20e6
