from __future__ import annotations

import http.client
import io
import json
import shutil
import urllib.error
import urllib.request

import numpy as np
import pytest
from embedonce._keras import import_keras
from embedonce.errors import EngineError, ParameterError, WeightsError
from embedonce.extract.backbone.architecture import weights_sha256
from embedonce.extract.backbone.keras_model import build_backbone, build_embedder, weights_of
from embedonce.extract.backbone.read_h5 import weights_from
from embedonce.extract.backbone.resolve import imagenet_path, resolve_weights
from embedonce.extract.engines import convert
from embedonce.extract.engines import prepared_models as store
from embedonce.extract.engines.engines import prepare
from embedonce.extract.engines.native import why_not_native
from embedonce.extract.recipe import make_recipe


def digest(backbone):
    return weights_sha256(weights_of(backbone))


@pytest.fixture(scope="module")
def backbone():
    return build_backbone(resolve_weights("random:3", 0.35, 64), 0.35, 64)


def test_random_weights_depend_on_the_seed_alone(backbone):
    same = build_backbone(resolve_weights("random:3", 0.35, 64), 0.35, 64)
    other = build_backbone(resolve_weights("random:4", 0.35, 64), 0.35, 64)
    assert digest(same) == digest(backbone) != digest(other)


def test_a_feature_cache_is_not_taken_for_weights(cache_path):
    with pytest.raises(WeightsError, match=r"must be those of a MobileNetV2, got .*\.h5, which is a feature cache"):
        resolve_weights(cache_path, 0.35, 224)


def test_random_features_tell_images_apart(backbone):
    images = np.random.default_rng(0).uniform(0, 255, (4, 64, 64, 3)).astype(np.float32)
    features = np.asarray(build_embedder(backbone)(images))
    assert np.isfinite(features).all()
    assert features.std(axis=0).max() > 1e-3


def test_equal_weights_in_other_files_have_one_fingerprint(backbone, tmp_path):
    keras = import_keras()
    backbone.save_weights(tmp_path / "a.weights.h5")
    image = keras.Input((64, 64, 3))
    dense = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(backbone(image)))
    keras.Model(image, dense).save(tmp_path / "whole.keras")
    keras.Model(image, dense).save(tmp_path / "whole.h5")
    keras.Model(image, dense).save_weights(tmp_path / "whole.weights.h5")
    backbone.save(tmp_path / "backbone.keras")
    backbone.save(tmp_path / "backbone.h5")
    for name in ("a.weights.h5", "whole.keras", "whole.h5", "whole.weights.h5", "backbone.keras", "backbone.h5"):
        loaded = build_backbone(resolve_weights(tmp_path / name, 0.35, 64), 0.35, 64)
        assert digest(loaded) == digest(backbone)


@pytest.mark.parametrize("name", ["x.h5", "x.weights.h5", "x.keras", "x"])
def test_weights_are_read_by_content_not_by_name(keras_home, tmp_path, name):
    path = tmp_path / name
    shutil.copy(next((keras_home / "models").iterdir()), path)
    source = resolve_weights(path, 1.0, 224)
    kept = weights_from(source, 1.0)
    assert all((kept[key] == value).all() for key, value in weights_of(build_backbone(source, 1.0, 224)).items())


@pytest.mark.parametrize("name", ["random", "random:", "random:-1", "random:x", f"random:{2**32}"])
def test_a_seed_that_is_none_is_refused(name):
    with pytest.raises(WeightsError, match="random:SEED with a seed from 0 to"):
        resolve_weights(name, 1.0, 224)


def test_a_name_that_is_too_long_is_a_file_that_does_not_exist():
    with pytest.raises(WeightsError, match="got 'x+', which does not exist"):
        resolve_weights("x" * 300, 1.0, 224)


def test_a_missing_file_is_refused():
    with pytest.raises(WeightsError, match="must be imagenet, random:SEED or a file, got 'nope.h5'"):
        resolve_weights("nope.h5", 1.0, 224)


def test_without_network_the_error_names_file_and_address(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))

    def offline(url, timeout):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    with pytest.raises(WeightsError) as caught:
        resolve_weights("imagenet", 1.0, 96)
    message = str(caught.value)
    assert "no network" in message
    assert "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/" in message
    assert str(tmp_path / "models" / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_96_no_top.h5") in message


def test_an_interrupted_download_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))

    class Cut(io.BytesIO):
        def read(self):
            raise http.client.IncompleteRead(b"half", 9_000_000)

    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: Cut())
    with pytest.raises(WeightsError, match=r"cannot be fetched \(IncompleteRead\(4 bytes read.*give --weights FILE"):
        resolve_weights("imagenet", 1.0, 96)
    assert not list(tmp_path.iterdir())


def test_a_page_instead_of_the_weights_is_not_stored(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: io.BytesIO(b"<html>Please log in</html>"))
    with pytest.raises(WeightsError, match=r"the answer of https://.* is a web page.*, not the ImageNet weights"):
        resolve_weights("imagenet", 1.0, 96)
    assert not list(tmp_path.iterdir())


def test_imagenet_weights_are_taken_from_where_keras_keeps_them(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    path = imagenet_path(0.35, 300)
    assert path.name.endswith("_0.35_224_no_top.h5")  # as Keras does for sizes without weights
    path.parent.mkdir()
    path.write_bytes(b"weights")
    assert resolve_weights("imagenet", 0.35, 300).path == path


def test_alphas_without_imagenet_weights_are_refused():
    with pytest.raises(ParameterError, match=r"alpha of extract must be one of 0\.35, 0\.5, .*, got 0\.6\. Give"):
        resolve_weights("imagenet", 0.6, 224)


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.setenv("EMBEDONCE_HOME", str(tmp_path / "home"))
    return make_recipe("random:3", 0.35, 64)


ENGINE = "litert" if why_not_native() else "native"  # native needs no conversion by TensorFlow


def test_a_prepared_backbone_is_kept_and_found_again(recipe, tmp_path):
    assert store.load_prepared(recipe, ENGINE) is None
    assert store.known_hashes(recipe) is None
    prepared = prepare(recipe, ENGINE)
    assert store.load_prepared(recipe, ENGINE) == prepared
    assert store.known_hashes(recipe) == prepared.hashes
    assert store.load_prepared(make_recipe("random:4", 0.35, 64), ENGINE) is None
    assert store.load_prepared(make_recipe("random:3", 0.35, 96), ENGINE) is None
    (path,) = (tmp_path / "home").glob("*.json")
    about = json.loads(path.read_text())
    assert about["made_from"] == recipe.key
    assert prepared.made_with in about.values()


@pytest.mark.parametrize("ending", [store.FORMATS[ENGINE].suffix, ".json"])
def test_a_damaged_prepared_backbone_is_not_used(recipe, tmp_path, ending):
    prepare(recipe, ENGINE)
    (path,) = (tmp_path / "home").glob(f"*{ending}")
    path.write_bytes(path.read_bytes()[:-9])
    assert store.load_prepared(recipe, ENGINE) is None


def test_a_home_that_cannot_be_written_stops_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EMBEDONCE_HOME", str(tmp_path / "file"))
    assert prepare(make_recipe("random:3", 0.35, 64), ENGINE).model


def test_a_conversion_that_disagrees_with_keras_is_refused(recipe, monkeypatch, backbone):
    other = build_embedder(build_backbone(resolve_weights("random:9", 0.35, 64), 0.35, 64))
    converter = convert.converter_of(other, 64)
    monkeypatch.setattr(convert, "converter_of", lambda embedder, size: converter)
    with pytest.raises(EngineError, match="differs from Keras"):
        prepare(recipe, "litert")
    assert store.load_prepared(recipe, "litert") is None


def test_without_a_home_folder_the_error_says_what_to_set(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("KERAS_HOME", raising=False)
    monkeypatch.setattr("pathlib.Path.home", no_home)
    with pytest.raises(WeightsError, match="Set HOME or KERAS_HOME, or give --weights FILE"):
        resolve_weights("imagenet", 1.0, 224)
