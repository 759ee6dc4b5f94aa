"""Precision other than float32: its own fingerprint, its own model, and never mixed with another."""

from __future__ import annotations

import hashlib
import json
import shutil

import numpy as np
import pytest
from embedonce._keras import import_keras
from embedonce.cache import FeatureCache
from embedonce.errors import EngineError, FingerprintError, ParameterError
from embedonce.extract import verification as verify_module
from embedonce.extract.backbone.architecture import random_weights
from embedonce.extract.backbone.keras_model import build_backbone, build_embedder
from embedonce.extract.engines import prepared_models as store
from embedonce.extract.engines import quantize
from embedonce.extract.engines.engines import KerasEngine, LiteRTEngine, make_engine
from embedonce.extract.engines.tolerance import TOLERANCES, allowed_difference
from embedonce.extract.recipe import make_recipe, recipe_of
from embedonce.extract.run import extract_features
from embedonce.extract.verification import verify

PRECISIONS = ("int8", "float16", "bfloat16")


@pytest.fixture(scope="module")
def made(tmp_path_factory, images, small):
    """The cache of ``images`` in each precision."""
    folder = tmp_path_factory.mktemp("precision")
    for precision in PRECISIONS:
        extract_features(images, folder / f"{precision}.h5", precision=precision, **small)
    return {precision: FeatureCache.open(folder / f"{precision}.h5") for precision in PRECISIONS}


@pytest.fixture(scope="module")
def int8_model(made, small):
    """The converted model of the cache of precision int8."""
    return store.load_prepared(make_recipe(*small.values(), precision="int8"), "litert")


@pytest.fixture(scope="module")
def other_embedder():
    return build_embedder(build_backbone(make_recipe("random:9", 0.35, 64).weights, 0.35, 64))


@pytest.fixture
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("EMBEDONCE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def cosines(one, other):
    one, other = one - other.mean(0), other - other.mean(0)
    return (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)


def test_the_fingerprint_of_float32_is_that_of_the_first_caches(cache):
    assert cache.fingerprint == {
        "architecture": "MobileNetV2",
        "alpha": 0.35,
        "image_size": 64,
        "pooling": "avg",
        "weights_sha256": cache.fingerprint["weights_sha256"],
        "decoder": "tensorflow decode_image",
        "color": "rgb",
        "resize": "bilinear, no antialiasing",
        "scaling": "-1 to 1",
        "dtype": "float32",
    }


def test_the_store_finds_models_of_earlier_versions(small):
    recipe = make_recipe(small["weights"], small["alpha"], small["image_size"])
    key = {"architecture": "MobileNetV2", "weights": "random:0", "alpha": 0.35, "image_size": 64, "layout": 1}
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    assert store._path(recipe).name == f"mobilenetv2-{digest[:24]}.tflite"


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_precision_is_near_float32_and_not_equal_to_it(made, cache, precision):
    features = made[precision].features
    assert features.dtype == np.float32
    assert features.shape == cache.features.shape
    assert 0 < np.abs(features - cache.features).max() <= allowed_difference(cache.features, precision)
    assert np.median(cosines(features, cache.features)) > 0.95


@pytest.mark.parametrize(
    ("precision", "dtype"), [("int8", "int8"), ("float16", "mixed_float16"), ("bfloat16", "mixed_bfloat16")]
)
def test_a_precision_is_in_the_fingerprint(made, cache, precision, dtype):
    found = made[precision].fingerprint
    assert {name for name in found if found[name] != cache.fingerprint.get(name)} == (
        {"dtype", "quantized_model_sha256"} if precision == "int8" else {"dtype"}
    )
    assert found["dtype"] == dtype
    assert recipe_of(made[precision]).precision == precision
    assert recipe_of(cache).precision == "float32"


def test_int8_is_fingerprinted_by_the_model_that_computes(made, int8_model, small):
    recipe = make_recipe(*small.values(), precision="int8")
    digest = hashlib.sha256(int8_model.model).hexdigest()
    assert made["int8"].fingerprint["quantized_model_sha256"] == digest
    assert store.known_hashes(recipe) == make_engine("auto", recipe).hashes


@pytest.mark.parametrize(("there", "here"), [("float32", "int8"), ("int8", "float32"), ("float16", "bfloat16")])
def test_a_cache_of_one_precision_refuses_another(made, cache_path, images, tmp_path, small, there, here):
    shutil.copy(cache_path if there == "float32" else made[there].path, tmp_path / "a.h5")
    before = (tmp_path / "a.h5").read_bytes()
    with pytest.raises(FingerprintError, match=r"another way: dtype is .* there, .* here. Give the same options as"):
        extract_features(images, tmp_path / "a.h5", precision=here, **small)
    assert (tmp_path / "a.h5").read_bytes() == before


def test_int8_needs_no_tensorflow_once_it_is_converted(made, make_images, tmp_path, draw, python):
    folder = make_images(tmp_path / "images")
    code = (
        "import sys, embedonce\n"
        "small = dict(weights='random:0', alpha=0.35, image_size=64, precision='int8')\n"
        "cache = embedonce.extract_features(sys.argv[1], sys.argv[2], **small)\n"
        "print(len(cache), 'tensorflow' in sys.modules)\n"
    )
    assert python(code, folder, tmp_path / "a.h5") == "24 False\n"
    assert python(code, folder, tmp_path / "a.h5") == "24 False\n"
    draw(0, 99).save(folder / "ash" / "new.png")
    assert python(code, folder, tmp_path / "a.h5") == "25 False\n"


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_precision_is_proved_by_embedding_again(made, images, precision):
    done = verify(made[precision].path, images, sample=6)
    assert done.ok
    assert (done.sampled, done.identical, done.largest_difference) == (6, 6, 0)
    assert TOLERANCES[precision] <= done.allowed_difference <= allowed_difference(made[precision].features, precision)


@pytest.mark.parametrize(("factor", "differing"), [(1 + 1 / 128, 0), (0.5, 6)])
def test_the_tolerance_of_int8_allows_rounding_and_no_more(made, images, monkeypatch, factor, differing):
    real = verify_module.make_engine

    class Drifting:
        def __init__(self, session):
            self.slot = session.slot
            self._run = session.run

        def run(self, count):
            return self._run(count) * np.float32(factor)

    def drifting(name, recipe):
        engine = real(name, recipe)
        session = engine.session
        engine.session = lambda: Drifting(session())
        return engine

    monkeypatch.setattr(verify_module, "make_engine", drifting)
    done = verify(made["int8"].path, images, sample=6)
    assert (done.sampled, done.identical, len(done.differing)) == (6, 0, differing)


def test_the_calibration_images_are_always_the_same():
    once = list(quantize.calibration_images(48))
    assert len(once) == 64
    for one, other in zip(once, quantize.calibration_images(48), strict=True):
        assert one.shape == (48, 48, 3)
        assert one.dtype == np.float32
        np.testing.assert_array_equal(one, other)
    assert len({image.tobytes() for image in once}) == 64
    assert 0 <= min(map(np.min, once)) < 30
    assert 225 < max(map(np.max, once)) <= 255


def test_a_damaged_quantised_model_is_made_again_identically(made, int8_model, images, own_home, tmp_path, small):
    recipe = make_recipe(*small.values(), precision="int8")
    store.store_prepared(recipe, "litert", int8_model)
    model = store._path(recipe)
    intact = model.read_bytes()
    model.write_bytes(intact[:-9])
    assert store.known_hashes(recipe) is None
    extract_features(images, shutil.copy(made["int8"].path, tmp_path / "a.h5"), precision="int8", **small)
    assert model.read_bytes() == intact


def test_another_quantised_model_is_refused_with_advice(made, int8_model, own_home, images, small):
    """As another version of TensorFlow would make it."""
    other = random_weights(1, small["alpha"])
    recipe = make_recipe(*small.values(), precision="int8")
    prepared = store.make_prepared_model(recipe, other, int8_model.model + b"\0", "tensorflow 9.9")
    hashes = made["int8"].fingerprint["weights_sha256"]
    store.store_prepared(recipe, "litert", prepared._replace(hashes=prepared.hashes | {"weights_sha256": hashes}))
    path = made["int8"].path
    before = path.read_bytes()
    message = (
        r"quantized_model_sha256 is .*\. Rounding to 8 bits gave another model here than then \(made with tensorflow "
        r"[\d.]+\)\. Copy the folder of converted models .*EMBEDONCE_HOME.*, or use another cache path$"
    )
    with pytest.raises(FingerprintError, match=message):
        extract_features(images, path, precision="int8", **small)
    with pytest.raises(FingerprintError, match=message):
        verify(path, images)
    assert path.read_bytes() == before


@pytest.mark.parametrize("failure", ["other weights", "no numbers"])
def test_a_quantised_model_unlike_keras_is_refused(int8_model, other_embedder, monkeypatch, failure):
    class Converter:
        def convert(self):
            return int8_model.model

    class NoNumbers:
        def __init__(self, model):
            self.image = np.zeros((1, 64, 64, 3), np.float32)

        def slot(self, position):
            return self.image[position]

        def run(self, count):
            return np.full((1, 1280), np.nan, np.float32)

    monkeypatch.setattr(quantize, "converter_of", lambda embedder, size: Converter())
    if failure == "no numbers":
        monkeypatch.setattr(quantize, "Interpreter", NoNumbers)
    with pytest.raises(EngineError, match=r"agrees too little with Keras .*median cosine (-?0\.\d+|nan), the minimum"):
        quantize.quantize(other_embedder, 64)


@pytest.mark.parametrize(("precision", "engine"), [("int8", LiteRTEngine), ("float16", KerasEngine)])
def test_auto_is_the_engine_that_computes_the_precision(made, small, precision, engine):
    assert type(make_engine("auto", make_recipe(*small.values(), precision=precision))) is engine
    assert list(made[precision].provenance["engines"]) == [engine.name]


def test_mixed_precision_leaves_the_users_policy_alone(small):
    keras = import_keras()
    expected = np.asarray(_embedded(small))
    users = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        np.testing.assert_array_equal(_embedded(small), expected)  # float32 under any policy
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
        keras.config.set_dtype_policy("float32")
        assert np.abs(_embedded(small, "mixed_float16") - expected).max() > 0
        assert keras.config.dtype_policy().name == "float32"
    finally:
        keras.config.set_dtype_policy(users)


def _embedded(small, dtype="float32"):
    backbone = build_backbone(make_recipe(*small.values()).weights, small["alpha"], small["image_size"], dtype)
    images = np.random.RandomState(0).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)
    features = np.asarray(build_embedder(backbone)(images))
    assert features.dtype == np.float32
    return features


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int4"}, "parameter precision of extract must be one of float32, int8, .*, got 'int4'"),
        ({"precision": None}, "parameter precision of extract must be one of .*, got None"),
        ({"decoding": "fast"}, "parameter decoding of extract must be one of exact, reduced, got 'fast'"),
        ({"threads": 0}, "parameter threads of extract must be an integer of at least 1, got 0"),
        ({"threads": True}, "parameter threads of extract must be an integer of at least 1, got True"),
        ({"workers": 0}, "parameter workers of extract must be an integer of at least 1, got 0"),
        ({"engine": "onnx"}, "parameter engine of extract must be one of auto, native, litert, keras, got 'onnx'"),
        (
            {"precision": "int8", "engine": "keras"},
            "engine of extract must be auto or litert for precision int8, got 'keras'; keras computes float32 or float",
        ),
        (
            {"precision": "float16", "engine": "litert"},
            "engine of extract must be auto or keras for precision float16, got 'litert'; litert computes float32 or",
        ),
        ({"precision": "int8", "engine": "native"}, "must be auto or litert for precision int8, got 'native'"),
        ({"engine": "native", "threads": 2}, "parameter threads of extract must be 1 for engine native, got 2"),
        ({"precision": "bfloat16", "engine": "litert"}, "must be auto or keras for precision bfloat16, got 'litert'"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(tmp_path, options, message):
    with pytest.raises(ParameterError, match=message) as caught:
        extract_features(tmp_path / "no such folder", tmp_path / "new" / "a.h5", **options)
    assert caught.value.exit_status == 2
    assert not (tmp_path / "new").exists()


def test_verify_refuses_an_engine_of_another_precision(made, images):
    with pytest.raises(ParameterError, match="must be auto or litert for precision int8, got 'keras'"):
        verify(made["int8"].path, images, engine="keras")


def test_an_unknown_precision_is_read_as_float32(cache_path, images):
    cache = FeatureCache.open(cache_path)
    cache.fingerprint["dtype"] = ["int4"]
    assert recipe_of(cache).precision == "float32"
    assert set(TOLERANCES) == {"float32", *PRECISIONS}
