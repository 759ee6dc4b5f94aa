from __future__ import annotations

import os

import pytest
from embedonce.errors import ImageError
from embedonce.extract import ImageFile, read_header
from PIL import Image, PngImagePlugin


@pytest.fixture
def read(tmp_path):
    """Return the header of a picture that is saved with options."""

    def read_saved(suffix, mode="RGB", **options):
        path = tmp_path / f"picture{suffix}"
        Image.new(mode, (40, 24)).save(path, **options)
        return read_header(tmp_path, ImageFile(path.name.encode(), path.stat().st_size, 0))

    return read_saved


def test_a_jpeg_header_has_tables_and_sampling(read):
    plain = read(".jpg", quality=80)
    assert plain[:3] == ("JPEG", 40, 24)
    assert len(plain.quantization.split(",")[0]) == 128
    assert plain.encoding == "sequential 2x2 1x1 1x1"
    assert read(".jpg", quality=81).quantization != plain.quantization
    assert read(".jpg", quality=80, subsampling=0).encoding == "sequential 1x1 1x1 1x1"
    assert read(".jpg", progressive=True).encoding == "progressive 2x2 1x1 1x1"
    assert read(".jpg", mode="L").encoding == "sequential 1x1"


def test_a_long_jpeg_header_is_read_to_its_end(read):
    header = read(".jpg", icc_profile=bytes(200_000))
    assert header[:3] == ("JPEG", 40, 24)
    assert header.encoding == "sequential 2x2 1x1 1x1"


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_camera_and_software_are_those_of_exif(read, suffix):
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0131] = "Maker", "Model 1\0", "Editor 2"
    header = read(suffix, exif=exif)
    assert (header.camera, header.software) == ("Maker Model 1", "Editor 2")
    assert header[1:3] == (40, 24)


def test_a_png_header_has_colour_type_and_software(read):
    text = PngImagePlugin.PngInfo()
    text.add_text("Software", "Painter")
    header = read(".png", pnginfo=text)
    assert header[:3] == ("PNG", 40, 24)
    assert header.software == "Painter"
    assert header.encoding == "8 bits of type 2"
    assert read(".png", mode="L").encoding == "8 bits of type 0"


@pytest.mark.parametrize(("suffix", "kind"), [(".bmp", "BMP"), (".gif", "GIF"), (".ppm", "PNM"), (".webp", "WebP")])
def test_other_formats_have_a_size(read, suffix, kind):
    assert read(suffix)[:3] == (kind, 40, 24)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF....WEBPVP8 ", b"II*\0"])
def test_a_cut_header_has_no_size(tmp_path, data):
    (tmp_path / "cut").write_bytes(data)
    header = read_header(tmp_path, ImageFile(b"cut", len(data), 0))
    assert header[1:] == (0, 0, "", "", "", "")


def test_damaged_exif_names_no_camera(tmp_path):
    path = tmp_path / "picture.jpg"
    Image.new("RGB", (40, 24)).save(path, exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(40))
    header = read_header(tmp_path, ImageFile(b"picture.jpg", path.stat().st_size, 0))
    assert header.camera == header.software == ""


def test_a_missing_or_changed_file_is_an_error(tmp_path):
    (tmp_path / "changed.jpg").write_bytes(b"12345")
    with pytest.raises(ImageError, match="has changed"):
        read_header(tmp_path, ImageFile(b"changed.jpg", 4, 0))
    with pytest.raises(ImageError, match="cannot be read: No such file"):
        read_header(tmp_path, ImageFile(os.fsencode("gone.jpg"), 4, 0))
