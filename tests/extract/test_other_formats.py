"""Image formats that TensorFlow does not read."""

from __future__ import annotations

import contextlib
import io
import sys

import numpy as np
import pytest
from embedonce import extract_features
from embedonce.errors import ImageError
from embedonce.extract import decoding
from embedonce.extract.decoding import decode
from embedonce.extract.other_formats import SMALLER_LIMITS, other_format
from PIL import Image, features

RGB = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
DEEP = np.random.default_rng(1).integers(0, 65536, (30, 40), dtype=np.uint16)
IMAGE = Image.fromarray(RGB)


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def gray(values):
    return np.repeat(values[..., None], 3, axis=2)


LOSSLESS = {
    "WebP": lambda: encoded(IMAGE, "WEBP", lossless=True, exact=True),
    "WebP with alpha": lambda: encoded(IMAGE.convert("RGBA"), "WEBP", lossless=True, exact=True),
    "TIFF": lambda: encoded(IMAGE, "TIFF"),
    "TIFF, LZW": lambda: encoded(IMAGE, "TIFF", compression="tiff_lzw"),
    "TIFF, deflate": lambda: encoded(IMAGE, "TIFF", compression="tiff_deflate"),
    "TIFF with alpha": lambda: encoded(IMAGE.convert("RGBA"), "TIFF"),
    "TIFF of two pages": lambda: encoded(IMAGE, "TIFF", save_all=True, append_images=[Image.new("L", (900, 9))]),
    "PPM": lambda: encoded(IMAGE, "PPM"),
    "JPEG 2000": lambda: encoded(IMAGE, "JPEG2000"),
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_files_keep_their_pixels(name):
    np.testing.assert_array_equal(decode(LOSSLESS[name]()), RGB)


@pytest.mark.parametrize("strip", [100, 4_000_000])
@pytest.mark.parametrize("kind", ["TIFF", "PPM"])
def test_16_bits_keep_the_high_byte(kind, strip, monkeypatch):
    monkeypatch.setattr(decoding, "STRIP_PIXELS", strip)
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(DEEP), kind)), gray((DEEP >> 8).astype(np.uint8)))


def test_palettes_and_bits_have_their_colours():
    few = IMAGE.quantize(16)
    np.testing.assert_array_equal(decode(encoded(few, "TIFF")), np.asarray(few.convert("RGB")))
    bits = IMAGE.convert("1")
    np.testing.assert_array_equal(decode(encoded(bits, "PPM")), np.asarray(bits.convert("RGB")))


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif_is_read():
    smooth = Image.linear_gradient("L").convert("RGB")
    assert np.abs(decode(encoded(smooth, "AVIF", quality=95)).astype(int) - np.asarray(smooth)).max() < 12


def test_heic_is_read():
    heif = pytest.importorskip("pillow_heif")
    smooth, buffer = Image.linear_gradient("L").convert("RGB"), io.BytesIO()
    heif.from_pillow(smooth).save(buffer, quality=95)
    assert np.abs(decode(buffer.getvalue()).astype(int) - np.asarray(smooth)).max() < 12


@pytest.mark.parametrize(
    ("data", "package", "extra"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "pillow_heif", "HEIC files need another package. Install .*heic"),
        (bytes(128) + b"DICM", "pydicom", "DICOM files need another package. Install .*dicom"),
        (b"\xff\x0aabc", None, "unsupported format: JPEG XL. Convert it"),
        (b"8BPSabc", None, "unsupported format: Photoshop. Convert it"),
        (b"<html>", None, "unsupported format: HTML or XML text"),
        (b"P3 1 1 255 1 2 3", None, "PNM as text. Convert it to binary PNM"),
        (b"abcdefgh", None, "not an image of a known format"),
    ],
)
def test_what_cannot_be_read_here_has_a_remedy(data, package, extra, monkeypatch):
    if package:
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImageError, match=extra):
        decode(data)


@pytest.mark.parametrize("values", [DEEP.astype(np.float32), DEEP.astype(np.int32)])
def test_a_tiff_of_other_numbers_is_refused(values):
    with pytest.raises(ImageError, match="unsupported TIFF: .*Save it with 8 or 16 bits"):
        decode(encoded(Image.fromarray(values), "TIFF"))


def test_a_large_image_is_refused_by_its_header(monkeypatch):
    files = [make() for make in LOSSLESS.values()]
    monkeypatch.setattr(decoding, "MAX_PIXELS", 1000)
    for data in files:
        with pytest.raises(ImageError, match="too large: 40 x 30 pixels"):
            decode(data)


@pytest.mark.parametrize(("name", "kind"), [("WebP", "WEBP"), ("JPEG 2000", "JPEG2000")])
def test_formats_that_take_much_memory_have_lower_limits(name, kind, monkeypatch):
    data = encoded(IMAGE, kind)
    monkeypatch.setitem(SMALLER_LIMITS, name, 1200)
    assert decode(data).shape == RGB.shape
    with pytest.raises(ImageError, match="too large: 40 x 30 pixels, the limit is 0 megapixels"):
        monkeypatch.setitem(SMALLER_LIMITS, name, 1199)
        decode(data)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", LOSSLESS)
def test_damaged_files_are_rejected(name):
    data, generator = LOSSLESS[name](), np.random.default_rng(0)
    assert other_format(data)
    middle = 400 if name == "TIFF of two pages" else len(data) // 2  # the second page decides nothing
    for end in (3, 20, 60, middle):
        with pytest.raises(ImageError):
            decode(data[:end])
    for _ in range(200):
        changed = bytearray(data)
        for place in generator.integers(0, len(data), 3):
            changed[place] ^= int(generator.integers(1, 256))
        try:
            assert decode(bytes(changed)).dtype == np.uint8
        except ImageError as error:
            assert str(error)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.skipif(sys.platform == "win32", reason="libtiff is linked in another way")
def test_damaged_tiff_files_print_nothing(capfd):
    data = encoded(IMAGE, "TIFF", compression="jpeg")
    for place in range(8, len(data), 7):
        with contextlib.suppress(ImageError):
            decode(data[:place] + b"\x55\x55" + data[place + 2 :])
    assert capfd.readouterr() == ("", "")


def dicom(pixels, photometric="MONOCHROME2", **tags):
    """Return a DICOM file of pixels (h, w) or (h, w, 3)."""
    pydicom = pytest.importorskip("pydicom")
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = tags.pop("syntax", pydicom.uid.ExplicitVRLittleEndian)
    dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    dataset.PhotometricInterpretation = photometric
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.itemsize
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, int(pixels.dtype.kind == "i")
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.PixelData = pixels.tobytes() * int(tags.get("NumberOfFrames", 1))
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def test_dicom_shows_its_window():
    values = np.arange(-500, 700, dtype=np.int16).reshape(30, 40)
    window = {"WindowCenter": 60, "WindowWidth": 400, "RescaleSlope": 1, "RescaleIntercept": 20}
    shown = decode(dicom(values, **window))
    assert (shown[..., 0] == shown[..., 2]).all()
    flat = shown[..., 0].ravel().astype(int)
    assert flat[values.ravel() + 20 <= -140].max() == 0
    assert flat[values.ravel() + 20 >= 260].min() == 255
    middle = flat[values.ravel() + 20 == 60][0]
    assert abs(middle - 128) <= 1
    np.testing.assert_array_equal(decode(dicom(values, "MONOCHROME1", **window)), 255 - shown)


def test_dicom_without_a_window_has_its_whole_range():
    values = (np.arange(1200).reshape(30, 40) * 3).astype(np.uint16)
    expected = (values >> 4).astype(np.uint8)
    np.testing.assert_array_equal(decode(dicom(values, BitsStored=12, HighBit=11)), gray(expected))


def test_dicom_in_colour_and_in_frames():
    np.testing.assert_array_equal(decode(dicom(RGB, "RGB")), RGB)
    np.testing.assert_array_equal(decode(dicom(RGB, "RGB", NumberOfFrames=3)), RGB)


def test_a_dicom_file_without_pixels_is_rejected():
    pydicom = pytest.importorskip("pydicom")
    data = dicom(RGB, "RGB")
    dataset = pydicom.dcmread(io.BytesIO(data))
    del dataset.PixelData
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    with pytest.raises(ImageError, match="no pixels"):
        decode(buffer.getvalue())
    with pytest.raises(ImageError, match="deflated"):
        decode(data.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99"))
    for end in (132, 200, len(data) // 2):
        with pytest.raises(ImageError):
            decode(data[:end])


def test_content_decides_and_not_the_suffix(tmp_path, make_images, small):
    folder = make_images(tmp_path / "images", ("ash", "birch"), per_class=2)
    names = ("a.jpg", "b.jfif", "c.jpe", "d.TIF", "e.webp")
    for name, data in zip(
        names, (LOSSLESS["WebP"](), *[encoded(IMAGE, "JPEG")] * 2, LOSSLESS["TIFF"](), b"x"), strict=True
    ):
        (folder / "ash" / name).write_bytes(data)
    cache = extract_features(folder, tmp_path / "a.h5", **small)
    assert len(cache) == 8
    assert cache.rejects == [("ash/e.webp", "not an image of a known format")]
    rows = dict(zip(cache.paths, cache.features, strict=True))
    np.testing.assert_array_equal(rows["ash/a.jpg"], rows["ash/d.TIF"])


def test_files_are_tried_again_with_the_package(tmp_path, make_images, small, monkeypatch):
    heif = pytest.importorskip("pillow_heif")
    folder = make_images(tmp_path / "images", ("ash", "birch"), per_class=2)
    heif.from_pillow(IMAGE).save(folder / "ash" / "x.heic")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pillow_heif", None)
        patch.setattr("embedonce.extract.run.decoder_versions", dict)
        cache = extract_features(folder, tmp_path / "a.h5", **small)
        assert [name for name, _ in cache.rejects] == ["ash/x.heic"]
        cache.close()
    assert len(extract_features(folder, tmp_path / "a.h5", **small)) == 5
