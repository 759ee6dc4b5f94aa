"""Lack of memory stops a run and rejects no image; one image takes a bounded amount of memory."""

from __future__ import annotations

import io

import numpy as np
import pytest
import simplejpeg
from click.testing import CliRunner
from embedonce.cli.app import main
from embedonce.errors import ImageError, OutOfMemoryError
from embedonce.extract import decoding, resizing
from embedonce.extract.decoding import decode
from embedonce.extract.resizing import resize
from embedonce.extract.run import extract_features
from PIL import Image


def encoded(mode, form, size=(37, 23)):
    gray = Image.fromarray(np.random.default_rng(0).integers(0, 255, size[::-1], np.uint8))
    image = gray.quantize(9) if mode == "P" else gray.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, form)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("mode", "form"),
    [(mode, "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")]
    + [("1", "BMP"), ("P", "BMP"), ("CMYK", "JPEG")],
)
@pytest.mark.parametrize("strip", [1, 37, 100])
def test_strips_give_the_same_bits(monkeypatch, mode, form, strip):
    data = encoded(mode, form)
    whole = decode(data)
    resized = resize(whole, 16)
    monkeypatch.setattr(decoding, "STRIP_PIXELS", strip)
    monkeypatch.setattr(resizing, "STRIP_PIXELS", strip)
    np.testing.assert_array_equal(decode(data), whole)
    np.testing.assert_array_equal(resize(whole, 16), resized)


def test_long_sides_are_rejected_by_the_header(monkeypatch):
    monkeypatch.setattr(decoding, "MAX_SIDE", 30)
    with pytest.raises(ImageError, match="too large: 37 x 23 pixels, the limit is 30 on a side"):
        decode(encoded("L", "PNG"))


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_lack_of_memory_is_not_damage(monkeypatch, form):
    def fail(*arguments, **options):
        raise ValueError("Insufficient memory (case 4)") if form == "JPEG" else OSError("out of memory")

    data = encoded("L", form)
    monkeypatch.setattr(simplejpeg, "decode_jpeg", fail)
    monkeypatch.setattr(Image.Image, "load", fail)
    with pytest.raises(MemoryError):
        decode(data)


@pytest.fixture
def scarce(monkeypatch):
    """Let the memory end at one image."""

    def fail(data, *options):
        if len(data) == scarce_bytes:
            raise MemoryError
        return decode(data, *options)

    scarce_bytes = 0

    def limit(path):
        nonlocal scarce_bytes
        scarce_bytes = path.stat().st_size

    monkeypatch.setattr("embedonce.extract.recipe.decode", fail)
    return limit


def test_lack_of_memory_stops_a_run_and_rejects_nothing(make_images, tmp_path, small, scarce, monkeypatch):
    images = make_images(tmp_path / "images", per_class=4)
    (images / "ash" / "big.png").write_bytes(encoded("RGB", "PNG", (300, 200)))
    scarce(images / "ash" / "big.png")
    with pytest.raises(OutOfMemoryError, match=r"not enough memory for ash/big\.png"):
        extract_features(images, tmp_path / "a.h5", **small)
    options = ["--weights", "random:0", "--alpha", "0.35", "--image-size", "64"]
    result = CliRunner().invoke(main, ["extract", str(images), str(tmp_path / "a.h5"), *options])
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: there is not enough memory for ash/big.png")
    monkeypatch.undo()
    cache = extract_features(images, tmp_path / "a.h5", **small)
    assert len(cache) == 13
    assert not cache.rejects


def test_rejects_of_other_decoders_are_tried_again(make_images, tmp_path, small, monkeypatch):
    images = make_images(tmp_path / "images", per_class=4)
    (images / "ash" / "a.png").write_bytes(encoded("RGB", "PNG"))
    with monkeypatch.context() as patch:
        patch.setattr("embedonce.extract.run.version", lambda name: "0")
        patch.setattr(decoding, "MAX_PIXELS", 900)
        first = extract_features(images, tmp_path / "a.h5", **small)
        assert len(first.rejects) == 6
        assert not extract_features(images, tmp_path / "a.h5", **small).report.published
    again = extract_features(images, tmp_path / "a.h5", **small)
    assert (len(again), again.report.embedded) == (13, 6)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["P", "RGB", "RGBA", "I;16"])
def test_the_largest_image_takes_less_than_600_megabytes(python, tmp_path, mode):
    path = tmp_path / "large.png"
    Image.fromarray(np.zeros((6000, 8300), np.uint8)).convert(mode).save(path, compress_level=1)
    code = """
import resource, sys
from embedonce.extract.decoding import decode
from embedonce.extract.resizing import resize
from PIL import Image, PngImagePlugin
data = open(sys.argv[1], "rb").read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
resize(decode(data), 224)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    assert int(python(code, path)) * 1024 < 600e6
