"""What ``auto`` chooses: the faster engine of a processor, measured once, and for a cache the one that wrote it."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from embedonce import extract_features
from embedonce.errors import EngineError
from embedonce.extract import run
from embedonce.extract.backbone import random_weights
from embedonce.extract.engines import engines, speeds
from embedonce.extract.engines.fold import fold
from embedonce.extract.engines.litert import Interpreter
from embedonce.extract.engines.native import why_not_native
from embedonce.extract.engines.plain_litert import plain_model
from embedonce.extract.engines.reference import reference_features
from embedonce.extract.options import ComputeOptions

needs_native = pytest.mark.skipif(bool(why_not_native()), reason=why_not_native() or "native runs here")


@pytest.fixture
def measurements(monkeypatch, tmp_path):
    """Let the environment choose no engine, with an empty home, and return a list of the measurements that are made."""
    made = []

    def measure(names, alpha, image_size, seconds):
        made.append(alpha)
        return dict(zip(names, (1.0, 2.0) if alpha < 1 else (2.0, 1.0), strict=True))

    monkeypatch.delenv("EMBEDONCE_ENGINE")
    monkeypatch.setenv("EMBEDONCE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(speeds, "measured_speeds", measure)
    speeds.fastest_engine.cache_clear()
    yield made
    speeds.fastest_engine.cache_clear()


def auto(alpha):
    return engines.chosen_engine(ComputeOptions(), "float32", alpha)


def test_the_model_of_the_measurement_has_the_features_of_the_network():
    folded = fold(random_weights(3, 0.35))
    image = np.random.RandomState(0).uniform(0, 255, (1, 64, 64, 3)).astype(np.float32)
    interpreter = Interpreter(plain_model(folded, 64))
    interpreter.slot(0)[:] = image[0]
    np.testing.assert_allclose(interpreter.run(1), reference_features(folded, image), atol=5e-5)


@needs_native
def test_both_engines_are_measured():
    rates = speeds.measured_speeds(["native", "litert"], 0.35, 32, 0.1)
    assert set(rates) == {"native", "litert"}
    assert min(rates.values()) > 10


@needs_native
def test_the_faster_engine_is_measured_once_per_width(measurements, monkeypatch):
    for _ in range(2):
        speeds.fastest_engine.cache_clear()  # as in another process
        assert auto(0.35) == "litert"
        assert auto(1.0) == "native"
    assert measurements == [0.35, 1.0]
    monkeypatch.setattr(speeds, "processor_model", lambda: "another processor")
    speeds.fastest_engine.cache_clear()
    assert auto(0.35) == "litert"
    assert measurements == [0.35, 1.0, 0.35]


@needs_native
@pytest.mark.parametrize("content", ["", "{}", "[1]", "other values"])
def test_damaged_speeds_are_measured_again(measurements, content):
    auto(0.35)
    [path] = speeds.store_folder().glob("speeds-*.json")
    if content == "other values":
        content = json.dumps(json.loads(path.read_text()) | {"images_per_second": {"native": 3.0, "litert": 1.0}})
    path.write_text(content)
    speeds.fastest_engine.cache_clear()
    assert auto(0.35) == "litert"
    assert len(measurements) == 2


@needs_native
def test_auto_is_native_where_nothing_can_be_remembered(measurements, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EMBEDONCE_HOME", str(tmp_path / "file" / "home"))
    assert auto(0.35) == "native"
    assert measurements == []


@needs_native
def test_auto_is_native_if_measuring_fails(measurements, monkeypatch):
    def fail(*_):
        raise EngineError("no memory")

    monkeypatch.setattr(speeds, "measured_speeds", fail)
    assert auto(0.35) == "native"


@pytest.fixture
def own_images(images, tmp_path):
    return shutil.copytree(images, tmp_path / "images")


@needs_native
@pytest.mark.parametrize("engine", ["native", "litert"])
def test_auto_continues_with_the_engine_of_the_cache(measurements, own_images, tmp_path, small, engine):
    extract_features(own_images, tmp_path / "a.h5", engine=engine, **small)
    path = next(path for path in own_images.rglob("*.*") if path.is_file())
    path.write_bytes(path.read_bytes() + bytes(1))
    cache = extract_features(own_images, tmp_path / "a.h5", **small)
    assert cache.report.embedded == 1
    assert list(cache.provenance["engines"]) == [engine]
    assert measurements == []  # not for an unchanged folder either


@needs_native
def test_another_engine_in_a_cache_is_told(measurements, own_images, tmp_path, small, monkeypatch, capsys):
    extract_features(own_images, tmp_path / "a.h5", engine="litert", **small)
    right = engines.make_engine

    def broken(name, *arguments):
        if name == "litert":
            raise EngineError("cannot be imported")
        return right("native", *arguments)

    monkeypatch.setattr(run, "make_engine", broken)
    path = next(path for path in own_images.rglob("*.*") if path.is_file())
    path.write_bytes(path.read_bytes() + bytes(1))
    cache = extract_features(own_images, tmp_path / "a.h5", progress=True, **small)
    assert list(cache.provenance["engines"]) == ["litert", "native"]
    note = "Note: the cache was written with engine litert, which cannot run here. New images get engine native"
    assert note in " ".join(capsys.readouterr().err.split())
