"""Images that are odd and not damaged, and images whose damage is hidden: TensorFlow decides."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from embedonce._keras import import_keras
from embedonce.errors import ImageError
from embedonce.extract import decoding as module
from embedonce.extract import embed
from embedonce.extract.decoding import decode, ignores_palette
from embedonce.extract.jpeg_header import frame_size
from embedonce.extract.recipe import ImageDecoder
from embedonce.extract.run import extract_features
from PIL import Image


@pytest.fixture(scope="module")
def reference():
    """Return a function to TensorFlow's pixels, None for what it refuses."""
    import_keras()
    import tensorflow as tf

    def read(data: bytes):
        try:
            return tf.io.decode_image(data, channels=3, expand_animations=False).numpy()
        except tf.errors.InvalidArgumentError:
            return None

    return read


def saved(image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


PHOTO = Image.fromarray(
    np.kron(np.random.default_rng(3).integers(0, 256, (6, 8, 3)), np.ones((9, 7, 1))).astype(np.uint8)
)
JPEG = saved(PHOTO, format="JPEG", subsampling=0)
PROGRESSIVE = saved(PHOTO, format="JPEG", progressive=True)
CMYK = saved(PHOTO.convert("CMYK"), format="JPEG")
PNG = saved(PHOTO, format="PNG")
GIF = saved(PHOTO.quantize(16), format="GIF")


def with_segment(data: bytes, marker: int, content: bytes) -> bytes:
    return data[:2] + bytes([255, marker]) + struct.pack(">H", len(content) + 2) + content + data[2:]


def before(data: bytes, marker: bytes, inserted: bytes) -> bytes:
    place = data.index(marker)
    return data[:place] + inserted + data[place:]


def with_sampling(data: bytes, factors: tuple[int, int, int]) -> bytes:
    """Return a JPEG file that claims other sampling factors; its scan then holds too little or too much."""
    place = data.index(b"\xff\xc0") + 11
    return (
        data[:place]
        + b"".join(
            data[place + 3 * k : place + 3 * k + 1].replace(data[place + 3 * k : place + 3 * k + 1], bytes([factor]))
            + data[place + 3 * k + 1 : place + 3 * k + 3]
            for k, factor in enumerate(factors)
        )
        + data[place + 9 :]
    )


def without_last_scans(data: bytes, count: int) -> bytes:
    scans = [place for place in range(len(data)) if data[place : place + 2] == b"\xff\xda"]
    return data[: scans[-count]] + b"\xff\xd9"


def chunk(name: bytes, content: bytes, crc: int | None = None) -> bytes:
    check = zlib.crc32(name + content) if crc is None else crc
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)


SCAN = JPEG.index(b"\xff\xda")
ODD = {
    "jpeg: 4:4:1": with_sampling(JPEG, (0x14, 0x11, 0x11)),
    "jpeg: stray bytes before a table": before(JPEG, b"\xff\xdb", bytes(4)),
    "jpeg: stray bytes before the scan": before(JPEG, b"\xff\xda", b"\x01\xff\x00\x02"),
    "jpeg: broken profile": with_segment(JPEG, 0xE2, b"ICC_PROFILE\0\0\0"),
    "jpeg: empty segment": JPEG[:2] + b"\xff\xe5\0\0" + JPEG[2:],
    "jpeg: unknown version of JFIF": with_segment(JPEG, 0xE0, b"JFIF\0\x09\0\0\0\x01\0\x01\0\0"),
    "jpeg: unknown transform of Adobe": with_segment(JPEG, 0xEE, b"Adobe\0\x64\0\0\0\0\x07"),
    "jpeg: parameters of the scan": JPEG[: SCAN + 11] + b"\0\0" + JPEG[SCAN + 13 :],
    "jpeg: without the last scans": without_last_scans(PROGRESSIVE, 2),
    "jpeg: CMYK with stray bytes": before(CMYK, b"\xff\xdb", b"\x01\x02"),
    "jpeg: end after half of the scan": JPEG[: len(JPEG) // 2] + b"\xff\xd9",
    "png: text with a wrong checksum": before(PNG, PNG[33:41], chunk(b"tEXt", b"a\0b", 1)),
    "png: profile of 3 MB": before(PNG, PNG[33:41], chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(3 << 20)))),
    "png: short pHYs": before(PNG, PNG[33:41], chunk(b"pHYs", b"\0")),
    "png: animation without control": before(PNG, PNG[33:41], chunk(b"acTL", bytes(8))),
    "bmp: palette of 8 bits": saved(PHOTO.quantize(16), format="BMP"),
    "gif: smaller than its screen": GIF[:6] + struct.pack("<HH", 100, 90) + GIF[10:],
    "gif: larger later frame": saved(
        PHOTO.quantize(4), format="GIF", save_all=True, append_images=[PHOTO.rotate(90).quantize(9)]
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_what_tensorflow_reads_is_read_with_its_bits(reference, name):
    np.testing.assert_array_equal(decode(ODD[name]), reference(ODD[name]))


DAMAGED = {
    "png: checksum of the pixels": PNG[:-17] + bytes([PNG[-17] ^ 1]) + PNG[-16:],
    "png: no end": PNG[:-12],
    "png: checksum of the end": PNG[:-1] + b"\0",
    "jpeg: no end after a warning": before(JPEG, b"\xff\xdb", bytes(4))[:-2],
    "jpeg: half a segment": with_segment(JPEG, 0xE1, bytes(9000))[:5000],
    "gif: half a frame": GIF[: len(GIF) // 2],
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_tensorflow_refuses_as_damaged_is_rejected(reference, name):
    assert reference(DAMAGED[name]) is None
    with pytest.raises(ImageError, match="truncated|damaged"):
        decode(DAMAGED[name])


@pytest.mark.parametrize("data", [JPEG, PROGRESSIVE, before(JPEG, b"\xff\xda", bytes(3)), CMYK])
def test_a_cut_jpeg_is_refused_where_tensorflow_refuses_it(reference, data):
    for end in range(3, len(data), max(1, len(data) // 60)):
        expected = reference(data[:end])
        try:
            pixels = decode(data[:end])
        except ImageError:
            pixels = None
        assert (pixels is None) == (expected is None), end


def test_a_jpeg_of_unreadable_sampling_is_rejected_by_name():
    with pytest.raises(ImageError, match="unusual sampling factors"):
        decode(with_sampling(JPEG, (0x42, 0x11, 0x11)))


@pytest.mark.parametrize("bits", [1, 4])
def test_palettes_unknown_to_tensorflow_give_their_colours(reference, bits):
    indexed = PHOTO.quantize(2 if bits == 1 else 16)
    rows = np.asarray(indexed)
    size = 4 * -(-rows.shape[1] * bits // 32)
    unpacked = np.zeros((rows.shape[0], 8 * size // bits), np.uint8)
    unpacked[:, : rows.shape[1]] = rows
    packed = np.packbits(unpacked, axis=1) if bits == 1 else unpacked[:, ::2] << 4 | unpacked[:, 1::2]
    colours = np.array(indexed.getpalette()[: 3 << bits], np.uint8).reshape(-1, 3)
    palette = np.zeros((1 << bits, 4), np.uint8)
    palette[: len(colours), :3] = colours[:, ::-1]
    header = struct.pack("<IiiHHIIIIII", 40, rows.shape[1], rows.shape[0], 1, bits, 0, 0, 0, 0, 1 << bits, 0)
    offset = 54 + palette.size
    data = b"BM" + struct.pack("<IHHI", offset + packed.size, 0, 0, offset) + header + palette.tobytes()
    data += packed[::-1].tobytes()
    assert reference(data) is None
    np.testing.assert_array_equal(decode(data), np.asarray(indexed.convert("RGB")))


def test_an_ignored_palette_is_told_from_one_of_grays():
    assert ignores_palette(ODD["bmp: palette of 8 bits"])
    assert not ignores_palette(saved(PHOTO.convert("L"), format="BMP"))
    assert not ignores_palette(saved(PHOTO, format="BMP"))
    assert not ignores_palette(JPEG)


def test_the_size_is_read_from_the_header():
    assert frame_size(JPEG) == (54, 56, 3)
    assert frame_size(JPEG[:30]) == (0, 0, 0)
    assert frame_size(before(CMYK, b"\xff\xdb", b"\xff\x00\xff\xd0")) == (54, 56, 4)


@pytest.mark.parametrize("error", [KeyError(6), ZeroDivisionError("x"), RuntimeError("a\nb")])
def test_whatever_a_decoder_raises_is_the_reason_of_one_image(monkeypatch, error):
    def odd(*args, **options):
        raise error

    monkeypatch.setattr(module.simplejpeg, "decode_jpeg", odd)
    with pytest.raises(ImageError, match="damaged JPEG: ."):
        decode(JPEG)


def extracted(folder, small, images):
    for name in ("ash", "birch"):
        (folder / "images" / name).mkdir(parents=True)
        for number, data in enumerate(images):
            (folder / "images" / name / f"{number}.bmp").write_bytes(data(number, name))
    return extract_features(folder / "images", folder / "a.h5", **small)


def test_ignored_palettes_and_dark_images_are_counted(tmp_path, small):
    def dark(number, name):
        values = np.random.default_rng(number + len(name)).integers(0, 4096, (40, 40)).astype(np.uint16)
        return saved(Image.fromarray(values), format="PNG")

    cache = extracted(tmp_path, small, [dark, dark, lambda number, name: ODD["bmp: palette of 8 bits"]])
    notes = "\n".join(cache.report.notes)
    assert "BMP images have a palette that is ignored" in notes
    assert "images embedded now are nearly black or of one colour" in notes


def test_an_odd_error_rejects_its_image_alone(tmp_path, small, monkeypatch):
    real = ImageDecoder.resize_into

    def odd(decoder, out, pixels):
        if pixels.shape == (54, 56, 3):
            raise KeyError("odd")
        real(decoder, out, pixels)

    monkeypatch.setattr(ImageDecoder, "resize_into", odd)
    other = saved(PHOTO.resize((40, 40)), format="PNG")
    cache = extracted(tmp_path, small, [lambda number, name: PNG, lambda number, name: other])
    assert cache.rejects == [(f"{name}/0.bmp", "cannot be embedded: 'odd'") for name in ("ash", "birch")]
    assert len(cache) == 2


class Fragile:
    """A session that fails for images of some mean."""

    batch_size = 4

    def __init__(self, fails):
        self.fails, self.slots = fails, np.zeros((4, 2, 2, 3), np.float32)

    def slot(self, position):
        return self.slots[position]

    def run(self, count):
        means = self.slots[:count].mean((1, 2, 3))
        if any(self.fails(mean) for mean in means):
            raise RuntimeError("no luck")
        return means[:, None].copy()


def test_an_engine_that_fails_for_one_image_rejects_it():
    session = Fragile(lambda mean: mean == 2)
    for position, value in enumerate((1, 2, 3)):
        session.slot(position)[:] = value
    first, second, third = embed._run(session, 3)
    assert (float(first[0]), str(second), float(third[0])) == (1, "no luck", 3)


def test_an_engine_that_is_broken_ends_the_run():
    with pytest.raises(RuntimeError, match="no luck"):
        embed._run(Fragile(lambda mean: True), 3)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "GIF"])
def test_an_image_above_the_limit_is_called_too_large(monkeypatch, form):
    data = saved(Image.new("RGB", (40, 30)), format=form)
    monkeypatch.setattr(module, "MAX_PIXELS", 10)
    with pytest.raises(ImageError, match="^too large: 40 x 30 pixels"):
        decode(data)
