"""Features equal those of Keras's own pipeline on the same files."""

from __future__ import annotations

import numpy as np
import pytest
from embedonce._keras import import_keras
from embedonce.cache import FeatureCache
from embedonce.extract.engines.engines import make_engine
from embedonce.extract.engines.native import why_not_native
from embedonce.extract.recipe import make_recipe
from embedonce.extract.run import extract_features


def keras_features(folder, weights, alpha, image_size):
    """Return paths, labels, class names and pooled features as a Keras user would write it."""
    keras = import_keras()
    dataset = keras.utils.image_dataset_from_directory(
        folder, shuffle=False, image_size=(image_size, image_size), batch_size=16, verbose=False
    )
    backbone = keras.applications.MobileNetV2(
        input_shape=(image_size, image_size, 3), alpha=alpha, include_top=False, pooling="avg", weights=weights
    )
    scaled = dataset.map(lambda image, _: keras.applications.mobilenet_v2.preprocess_input(image))
    features = backbone.predict(scaled, verbose=0)
    labels = np.concatenate([label for _, label in dataset.as_numpy_iterator()])
    root = f"{folder}/"
    return [path.removeprefix(root) for path in dataset.file_paths], labels, dataset.class_names, features


def assert_close(features, expected):
    assert np.abs(features - expected).max() <= 1e-3
    cosine = (features * expected).sum(1) / np.linalg.norm(features, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosine.min() >= 0.99999


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    """A Keras weights file with activations of the size that trained weights have."""
    keras = import_keras()
    from embedonce.extract.backbone.keras_model import build_backbone
    from embedonce.extract.backbone.resolve import resolve_weights

    backbone = build_backbone(resolve_weights("random:7", 0.35, 64), 0.35, 64)
    path = tmp_path_factory.mktemp("weights") / "mobilenet.weights.h5"
    keras.Model.save_weights(backbone, path)
    return path


@pytest.fixture(scope="module")
def expected(images, weights_file):
    return keras_features(images, weights_file, 0.35, 64)


@pytest.mark.parametrize("engine", ["native", "litert", "keras"])
def test_features_labels_and_order_equal_keras(images, tmp_path, weights_file, cache, expected, engine):
    if engine == "native" and why_not_native():
        pytest.skip(why_not_native())
    paths, labels, class_names, features = expected
    other = extract_features(images, tmp_path / "a.h5", weights=weights_file, alpha=0.35, image_size=64, engine=engine)
    assert other.paths == paths
    assert other.class_names == class_names
    np.testing.assert_array_equal(other.labels, labels)
    np.testing.assert_array_equal(other.signatures, cache.signatures)
    assert features.std() > 0.01
    assert_close(other.features, features)


@pytest.mark.usefixtures("each_engine")
def test_the_number_of_workers_does_not_change_a_bit(images, tmp_path, small):
    for workers in (1, 5):
        extract_features(images, tmp_path / f"{workers}.h5", workers=workers, **small)
    assert (tmp_path / "1.h5").read_bytes() == (tmp_path / "5.h5").read_bytes()


def test_the_batch_size_of_keras_changes_only_rounding(small, monkeypatch):
    import tensorflow as tf

    engine = make_engine("keras", make_recipe(*small.values()))
    assert engine.session().batch_size == 32
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: ["a GPU"] if kind == "GPU" else [])
    gpu_engine = make_engine("keras", make_recipe(*small.values()))
    assert gpu_engine.session().batch_size == 128
    assert gpu_engine.hashes == engine.hashes
    images = np.random.default_rng(0).uniform(0, 255, (3, 64, 64, 3)).astype(np.float32)
    features = []
    for session in (engine.session(), gpu_engine.session()):
        for position, image in enumerate(images):
            np.copyto(session.slot(position), image)
        features.append(session.run(3))
    np.testing.assert_allclose(features[0], features[1], atol=1e-4, rtol=1e-4)


@pytest.mark.lung
@pytest.mark.parametrize(
    ("name", "alpha"),
    [
        ("mobilenet_v2_0.35_224_imagenet_no_top.weights.h5", 0.35),
        ("mobilenet_v2_1.00_imagenet_dogs_no_top.weights.h5", 1.0),
    ],
)
def test_features_of_lung_images_equal_keras(lung_data, tmp_path, name, alpha):
    for folder in sorted((lung_data / "lung_image_sets").iterdir()):
        (tmp_path / "images" / folder.name).mkdir(parents=True)
        for image in sorted(folder.iterdir())[:10]:
            (tmp_path / "images" / folder.name / image.name).symlink_to(image)
    weights = lung_data / "weights" / name
    paths, _, _, features = keras_features(tmp_path / "images", weights, alpha, 224)
    for engine in ("native", "litert", "keras")[bool(why_not_native()) :]:
        cache = extract_features(
            tmp_path / "images", tmp_path / f"{engine}.h5", weights=weights, alpha=alpha, engine=engine
        )
        assert cache.paths == paths
        assert_close(cache.features, features)


def test_reading_the_cache_again_needs_no_images(cache_path):
    assert FeatureCache.open(cache_path).features.shape == (72, 1280)
