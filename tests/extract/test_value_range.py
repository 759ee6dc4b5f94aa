"""Images of 16 bits: their high byte, or their values stretched to 0 to 255."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from embedonce import extract_features, predict, train, verify
from embedonce.errors import FingerprintError, ImageError
from embedonce.extract import decoding
from embedonce.extract.decoding import decode
from embedonce.extract.recipe import decoder_of, recipe_of
from embedonce.extract.value_range import has_16_bits
from PIL import Image

SHAPE = (23, 31)
GENERATOR = np.random.default_rng(0)
GRAY = GENERATOR.integers(200, 4200, SHAPE).astype(np.uint16)
COLOUR = GENERATOR.integers(200, 4200, (*SHAPE, 3)).astype(np.uint16)
ALPHA = GENERATOR.integers(0, 65536, (*SHAPE, 1)).astype(np.uint16)


def expected(values):
    low, high = int(values.min()), int(values.max())
    levels = np.rint((values - float(low)) * 255 / (high - low)).astype(np.uint8)
    return levels if levels.ndim == 3 else np.repeat(levels[..., None], 3, axis=2)


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(values, interlaced=False):
    """Return a PNG file of 16 bits, whose rows have all five filters, interlaced or not."""
    height, width, channels = values.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    parts = [values[top::down, left::right] for top, left, down, right in passes] if interlaced else [values]
    data = b"".join(filtered(part, 2 * channels) for part in parts if part.size)
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, int(interlaced))
    return as_png([(b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b"")])


def as_png(chunks):
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )


def filtered(values, step):
    rows = values.astype(">u2").reshape(len(values), -1).view(np.uint8).astype(int)
    lines, above = [], np.zeros_like(rows[0])
    for number, row in enumerate(rows):
        left, corner = (np.concatenate([np.zeros(step, int), line])[: len(row)] for line in (row, above))
        guess = left + above - corner
        near = np.select(
            [
                (abs(guess - left) <= abs(guess - above)) & (abs(guess - left) <= abs(guess - corner)),
                abs(guess - above) <= abs(guess - corner),
            ],
            [left, above],
            corner,
        )
        predicted = [0, left, above, (left + above) // 2, near][number % 5]
        lines.append(bytes([number % 5]) + ((row - predicted) % 256).astype(np.uint8).tobytes())
        above = row
    return b"".join(lines)


def tiff(values, order="<", deflated=False):
    """Return a TIFF file of 16 bits."""
    height, width, channels = values.shape
    data = values.astype(f"{order}u2").tobytes()
    data = zlib.compress(data) if deflated else data
    place = 8 + len(data)  # of the numbers of bits, if there are several
    bits = struct.pack(f"{order}HHI", 258, 3, channels)
    bits += struct.pack(f"{order}HH", 16, 0) if channels == 1 else struct.pack(f"{order}I", place)
    tags = {256: width, 257: height, 259: 8 if deflated else 1, 262: 1 if channels == 1 else 2, 273: 8, 277: channels}
    tags |= {278: height, 279: len(data)} | ({338: 2} if channels == 4 else {})
    entries = {258: bits} | {tag: struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags.items()}
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", place + 2 * channels)
    several = struct.pack(f"{order}{channels}H", *[16] * channels)
    directory = struct.pack(f"{order}H", len(entries)) + b"".join(entry for _, entry in sorted(entries.items()))
    return start + data + several + directory + bytes(4)


def pnm(values, maximum=65535, comment=b""):
    kind = b"P5" if values.ndim == 2 else b"P6"
    header = kind + b"\n" + comment + b"%d %d\n%d\n" % (values.shape[1], values.shape[0], maximum)
    return header + values.astype(">u2").tobytes()


FILES = {
    "PNG gray": (png(GRAY[..., None]), GRAY),
    "PNG gray, interlaced": (png(GRAY[..., None], True), GRAY),
    "PNG gray, alpha": (png(np.concatenate([GRAY[..., None], ALPHA], 2)), GRAY),
    "PNG gray, alpha, interlaced": (png(np.concatenate([GRAY[..., None], ALPHA], 2), True), GRAY),
    "PNG colour": (png(COLOUR), COLOUR),
    "PNG colour, interlaced": (png(COLOUR, True), COLOUR),
    "PNG colour, alpha": (png(np.concatenate([COLOUR, ALPHA], 2)), COLOUR),
    "TIFF gray": (saved(Image.fromarray(GRAY), "TIFF"), GRAY),
    "TIFF gray, LZW": (saved(Image.fromarray(GRAY), "TIFF", compression="tiff_lzw"), GRAY),
    "TIFF gray, deflate": (saved(Image.fromarray(GRAY), "TIFF", compression="tiff_adobe_deflate"), GRAY),
    "TIFF gray, BigTIFF": (saved(Image.fromarray(GRAY), "TIFF", big_tiff=True), GRAY),
    "TIFF gray, big-endian": (tiff(GRAY[..., None], ">"), GRAY),
    "TIFF colour": (tiff(COLOUR), COLOUR),
    "TIFF colour, big-endian": (tiff(COLOUR, ">"), COLOUR),
    "TIFF colour, alpha": (tiff(np.concatenate([COLOUR, ALPHA], 2)), COLOUR),
    "TIFF colour, deflate": (tiff(COLOUR, deflated=True), COLOUR),
    "TIFF colour, big-endian, deflate": (tiff(COLOUR, ">", deflated=True), COLOUR),
    "PGM": (pnm(GRAY), GRAY),
    "PGM of 12 bits": (pnm(GRAY, 4200, b"# 12 bits\n"), GRAY),
    "PPM": (pnm(COLOUR, 65535, b"#a\n#b\n"), COLOUR),
}


@pytest.mark.parametrize("name", FILES)
def test_values_of_16_bits_are_stretched(monkeypatch, name):
    data, values = FILES[name]
    assert has_16_bits(data)
    np.testing.assert_array_equal(decode(data, stretch=True), expected(values))
    np.testing.assert_array_equal(decoder_of({"range": "stretch"})(data), expected(values))
    assert decode(data).max() < 64 or "4200" in str(data[:40])
    monkeypatch.setattr(decoding, "STRIP_PIXELS", 70)
    np.testing.assert_array_equal(decode(data, stretch=True), expected(values))


def test_gray_jpeg_2000_files_are_stretched():
    data = saved(Image.fromarray(GRAY), "JPEG2000")
    np.testing.assert_array_equal(decode(data, stretch=True), expected(GRAY))


def test_a_constant_image_becomes_black():
    assert not decode(png(np.full((3, 4, 3), 4000)), stretch=True).any()
    assert decode(png(np.full((3, 4, 3), 4000))).any()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM", "JPEG", "BMP", "GIF", "WEBP", "JPEG2000"])
def test_images_of_8_bits_stay_as_they_are(kind):
    data = saved(Image.fromarray((COLOUR // 256 * 7 + 20).astype(np.uint8)), kind)
    assert not has_16_bits(data)
    np.testing.assert_array_equal(decode(data, stretch=True), decode(data))


@pytest.mark.slow
def test_stretching_the_largest_image_takes_less_than_600_megabytes(python, tmp_path):
    header = struct.pack(">IIBBBBB", 8300, 6000, 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(6000 * (1 + 6 * 8300)), 1)), (b"IEND", b"")]
    (tmp_path / "large.png").write_bytes(as_png(chunks))
    code = """
import resource, sys
from embedonce.extract.decoding import decode
from PIL import Image, PngImagePlugin
data = open(sys.argv[1], "rb").read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
decode(data, stretch=True)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    assert int(python(code, tmp_path / "large.png")) < 600_000


@pytest.mark.filterwarnings("ignore:::PIL")
@pytest.mark.parametrize("name", FILES)
def test_damaged_files_are_errors_of_the_image(name):
    data = FILES[name][0]
    generator = np.random.default_rng(0)
    with pytest.raises(ImageError):
        decode(data[: len(data) // 2], stretch=True)
    for _ in range(150):
        changed = bytearray(data)
        for place in generator.integers(0, len(data), 3):
            changed[place] = int(generator.integers(0, 256))
        try:
            assert decode(bytes(changed), stretch=True).dtype == np.uint8
        except ImageError:
            continue


@pytest.fixture
def folder(tmp_path, make_images):
    """Two classes with an image of 12 bits in 16, and the same image stretched to 8."""
    folder = make_images(tmp_path / "images", ("ash", "birch"), per_class=3)
    values = np.random.default_rng(0).integers(200, 4200, (40, 40)).astype(np.uint16)
    Image.fromarray(values).save(folder / "ash" / "deep.png")
    Image.fromarray(expected(values)).save(folder / "ash" / "shown.png")
    return folder


def test_stretched_images_are_stretched_everywhere(folder, tmp_path, small):
    cache = extract_features(folder, tmp_path / "a.h5", value_range="stretch", **small)
    rows = dict(zip(cache.paths, cache.features, strict=True))
    np.testing.assert_array_equal(rows["ash/deep.png"], rows["ash/shown.png"])
    assert not any("16 bits" in note for note in cache.report.notes)
    assert cache.fingerprint["range"] == "stretch"
    assert recipe_of(cache).images.value_range == "stretch"
    assert verify(tmp_path / "a.h5", folder).identical == len(cache)
    with pytest.raises(FingerprintError, match="range is stretch there, None here"):
        extract_features(folder, tmp_path / "a.h5", **small)
    train(cache, "logreg", tmp_path / "m.npz", split="random")
    one, other = predict(tmp_path / "m.npz", [folder / "ash" / "deep.png", folder / "ash" / "shown.png"])
    assert one.classes == other.classes


def test_the_notice_about_dark_images_names_the_remedy(folder, tmp_path, small):
    (folder / "ash" / "x.pgm").write_bytes(pnm(GRAY))
    cache = extract_features(folder, tmp_path / "a.h5", **small)
    assert "range" not in cache.fingerprint
    (note,) = (note for note in cache.report.notes if "16 bits" in note)
    assert note.startswith("2 images of 16 bits use less than a quarter of their range")
    assert "--range stretch" in note
