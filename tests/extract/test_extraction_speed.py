"""The speed of extraction is measured on images of a cache."""

from __future__ import annotations

import pytest
from embedonce.cache import FeatureCache
from embedonce.errors import EmbedonceError, EngineError, FingerprintError, ImageError, WeightsError
from embedonce.extract import extraction_speed, measure_extraction


def test_speed_is_measured_with_all_processors(cache):
    speed = measure_extraction(cache, 0.05)
    assert 0 < speed.image_seconds < 1
    assert 1 < speed.images <= len(cache)
    assert (speed.engine, speed.workers) != ("keras", 0)


def test_missing_images_are_an_error(cache_path, tmp_path):
    cache = FeatureCache.open(cache_path)
    cache.provenance["image_root"] = str(tmp_path)
    with pytest.raises(ImageError, match=r"images in .* cannot be embedded \(ash/000.jpg: cannot be read"):
        measure_extraction(cache)


def test_weights_that_are_gone_are_an_error(cache_path, tmp_path):
    cache = FeatureCache.open(cache_path)
    cache.provenance["weights_path"] = str(tmp_path / "gone.h5")
    with pytest.raises(WeightsError):
        measure_extraction(cache)


def test_features_of_arrays_cannot_be_measured():
    with pytest.raises(FingerprintError):
        measure_extraction(FeatureCache.from_arrays([[0.0], [1.0]], ["ash", "birch"]))


def test_an_engine_that_must_be_converted_is_not_measured(cache, monkeypatch):
    for name in ("keras", "litert"):
        monkeypatch.setattr(extraction_speed, "chosen_engine", lambda *_, name=name: name)
        monkeypatch.setattr(extraction_speed, "is_quick", lambda *_: False)
        with pytest.raises(EngineError, match=f"the engine {name} is not ready"):
            measure_extraction(cache)
    assert issubclass(EngineError, EmbedonceError)
