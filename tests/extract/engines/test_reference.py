"""Features equal those of Keras's own pipeline on the same files."""

from __future__ import annotations

import numpy as np
import pytest
from embedonce._keras import import_keras
from embedonce.cache import FeatureCache
from embedonce.extract.engines.native import why_not_native
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


@pytest.mark.parametrize("engine", ["native", "litert", "keras"])
def test_features_labels_and_order_equal_keras(images, tmp_path, weights_file, engine):
    if engine == "native" and why_not_native():
        pytest.skip(why_not_native())
    paths, labels, class_names, expected = keras_features(images, weights_file, 0.35, 64)
    cache = extract_features(images, tmp_path / "a.h5", weights=weights_file, alpha=0.35, image_size=64, engine=engine)
    assert cache.paths == paths
    assert cache.class_names == class_names
    np.testing.assert_array_equal(cache.labels, labels)
    assert expected.std() > 0.01
    assert_close(cache.features, expected)


def test_the_number_of_workers_does_not_change_a_bit(images, tmp_path, small, cache):
    other = extract_features(images, tmp_path / "a.h5", workers=5, **small)
    np.testing.assert_array_equal(other.features, cache.features)
    assert (tmp_path / "a.h5").read_bytes() == cache.path.read_bytes()


def test_the_keras_engine_gives_the_same_whatever_the_batch(images, tmp_path, small, monkeypatch):
    from embedonce.extract.engines.engines import KerasEngine

    one = extract_features(images, tmp_path / "a.h5", engine="keras", **small)
    monkeypatch.setattr(KerasEngine, "batch_size", 7)
    other = extract_features(images, tmp_path / "b.h5", engine="keras", **small)
    np.testing.assert_allclose(one.features, other.features, atol=1e-4, rtol=1e-4)


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
    paths, _, _, expected = keras_features(tmp_path / "images", weights, alpha, 224)
    for engine in ("auto", "litert", "keras"):
        cache = extract_features(
            tmp_path / "images", tmp_path / f"{engine}.h5", weights=weights, alpha=alpha, engine=engine
        )
        assert cache.paths == paths
        assert_close(cache.features, expected)


def test_reading_the_cache_again_needs_no_images(cache_path):
    assert FeatureCache.open(cache_path).features.shape == (72, 1280)
