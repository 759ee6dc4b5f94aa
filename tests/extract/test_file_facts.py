from __future__ import annotations

import io
import shutil
from dataclasses import replace

import embedonce as eo
import numpy as np
import pytest
from embedonce.cache import FACT_BYTES
from embedonce.cache.writer import write_cache
from embedonce.extract import FACTS
from embedonce.extract.file_facts import file_facts
from embedonce.extract.image_signature import signature_and_color
from PIL import Image

BLACK = np.zeros(3, np.uint8)


def _bytes(kind, size=(40, 30), **options):
    buffer = io.BytesIO()
    Image.effect_noise(size, 60).convert("RGB").save(buffer, kind, **options)
    return buffer.getvalue()


def _facts(data):
    return file_facts(data, BLACK).view(FACTS)[0]


def test_facts_tell_how_a_file_was_made():
    jpeg, other, png = (_facts(data) for data in (_bytes("JPEG"), _bytes("JPEG", quality=90), _bytes("PNG")))
    assert (jpeg["width"], jpeg["height"], png["width"], png["height"]) == (40, 30, 40, 30)
    assert jpeg["format"] == other["format"] != png["format"]
    assert jpeg["tables"] != other["tables"] != 0 == png["tables"]
    assert (jpeg["quantization"] > other["quantization"]).all()
    assert jpeg["camera"] == jpeg["software"] == 0


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP"])
def test_damaged_headers_have_facts_too(kind):
    data = _bytes(kind)
    generator = np.random.default_rng(0)
    for number in range(60):
        damaged = bytearray(data[: int(generator.integers(12, len(data)))])
        for place in generator.integers(4, min(len(damaged), 700), number % 6):
            damaged[place] = generator.integers(256)
        assert file_facts(bytes(damaged), BLACK).shape == (FACT_BYTES,)


@pytest.mark.parametrize("size", [56, 100])
def test_the_colour_is_the_mean_of_the_image(size):
    image = np.random.default_rng(size).integers(0, 256, (size, size, 3)).astype(np.float32) * [1, 0.5, 0.25]
    _, color = signature_and_color(image.astype(np.float32))
    np.testing.assert_allclose(color, image.mean((0, 1)), atol=0.51)


@pytest.fixture
def folder(tmp_path):
    for number in range(6):
        path = tmp_path / "images" / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_bytes("JPEG", (30 + number, 30), quality=80 + number))
    return tmp_path / "images"


@pytest.mark.parametrize("name", ["c.h5", "c.cache"])
def test_facts_stay_when_images_are_added_and_copied(folder, tmp_path, small, name):
    first = eo.extract_features(folder, tmp_path / name, **small)
    facts = dict(zip(first.paths, first.files.facts, strict=True))
    assert all(one.any() for one in facts.values())
    (folder / "a" / "added.jpg").write_bytes(_bytes("JPEG", (50, 50)))
    shutil.copy(folder / "a" / "0.jpg", folder / "b" / "copy.jpg")
    second = eo.extract_features(folder, tmp_path / name, **small)
    known = dict(zip(second.paths, second.files.facts, strict=True))
    assert all((known[path] == one).all() for path, one in facts.items())
    assert (known["b/copy.jpg"] == facts["a/0.jpg"]).all()
    assert known["a/added.jpg"].view(FACTS)[0]["width"] == 50
    assert (second.select([1, 0]).files.facts == second.files.facts[[1, 0]]).all()


def test_rows_of_an_earlier_cache_have_no_facts(folder, tmp_path, small):
    path = tmp_path / "c.h5"
    cache = eo.extract_features(folder, path, **small)
    files = replace(cache.table.files, facts=np.zeros((0, FACT_BYTES), np.uint8))
    write_cache(replace(cache.table, files=files, features=cache.features, signatures=cache.signatures), path)
    (folder / "a" / "added.jpg").write_bytes(_bytes("JPEG"))
    facts = eo.extract_features(folder, path, **small).files.facts
    assert facts.any(axis=1).sum() == 1
    assert eo.verify(path).ok
