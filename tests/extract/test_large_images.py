"""JPEG files above the limit of pixels are reduced while they are decoded; other images are named."""

from __future__ import annotations

import io

import numpy as np
import pytest
from embedonce import extract_features
from embedonce.errors import ImageError
from embedonce.extract import decode, decoding, report
from embedonce.extract.jpeg_header import bytes_of_scans


def saved(image, **options):
    data = io.BytesIO()
    image.save(data, **{"format": "JPEG"} | options)
    return data.getvalue()


@pytest.mark.parametrize(
    ("limit", "minimum", "divisor"),
    [(90 * 70, None, 1), (90 * 70 - 1, None, 2), (1000, None, 4), (120, None, 8), (1700, 30, 2), (1700, 9, 4)],
)
def test_the_smallest_reduction_is_taken(draw, monkeypatch, limit, minimum, divisor):
    tf = pytest.importorskip("tensorflow")
    data = saved(draw(0, 0), quality=90)
    monkeypatch.setattr(decoding, "MAX_PIXELS", limit)
    expected = tf.io.decode_jpeg(data, channels=3, ratio=divisor, dct_method="INTEGER_FAST").numpy()
    np.testing.assert_array_equal(decode(data, minimum), expected)


def test_what_is_too_large_when_reduced_is_rejected(draw, monkeypatch):
    monkeypatch.setattr(decoding, "MAX_PIXELS", 100)
    with pytest.raises(ImageError, match="too large: 90 x 70 pixels, even at an eighth of its size. Reduce it"):
        decode(saved(draw(0, 0)))
    with pytest.raises(ImageError, match="Reduce it, or save it as JPEG, which is reduced while it is decoded"):
        decode(saved(draw(0, 0), format="PNG"))


@pytest.mark.parametrize(
    ("mode", "subsampling", "samples"), [("RGB", 0, 3), ("RGB", 2, 1.5), ("L", 0, 1), ("CMYK", 0, 4)]
)
def test_memory_of_progressive_files_is_bounded(draw, monkeypatch, mode, subsampling, samples):
    image = draw(0, 0).convert(mode)
    data = saved(image, progressive=True, subsampling=subsampling)
    assert bytes_of_scans(data) == 2 * samples * 90 * 70
    assert bytes_of_scans(saved(image, subsampling=subsampling)) == 0
    monkeypatch.setattr(decoding, "MAX_COEFFICIENT_BYTES", 1000)
    decode(data)  # below the limit of pixels, all are read as before
    monkeypatch.setattr(decoding, "MAX_PIXELS", 6000)
    with pytest.raises(ImageError, match="90 x 70 pixels of progressive JPEG. Save it as baseline JPEG"):
        decode(data)


def test_large_images_are_named(tmp_path, make_images, small, monkeypatch, capsys):
    folder = make_images(tmp_path / "images", per_class=2)
    monkeypatch.setattr(decoding, "MAX_PIXELS", 6000)
    monkeypatch.setattr(decoding, "_SMALLEST_LARGE", 0)
    monkeypatch.setattr(report, "MAX_PIXELS", 6000)
    monkeypatch.setattr(report, "_LARGE_FILE", 1000)
    with extract_features(folder, tmp_path / "a.h5", progress=True, **small) as cache:
        assert [path for path, _ in cache.rejects] == ["ash/001.png", "birch/001.png", "cedar/001.png"]
        assert cache.report.notes[-1] == (
            "3 JPEG images have more than 50 megapixels and were reduced in decoding: ash/000.jpg, …. "
            "Reduce them yourself if you want other pixels"
        )
    before, _, _ = capsys.readouterr().err.partition("of 6 images")
    assert "Note: 3 images of more than 0 megapixels will be rejected: ash/001.png, birch/001.png, ced" in before
