"""The whole way from an image to a class as one Keras model: resize, scale, backbone, pooling, head."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..._keras import import_keras
from ...cache import FeatureCache, display, write_atomically
from ...errors import ImageError, ModelFileError
from ...extract import decode, decoding_of, least_size, precision_of, recipe_of, require_same_fingerprint
from ...extract.backbone import build_backbone, pooled_features, weights_of, weights_sha256
from ...heads.io import write_keras_metadata
from ..shared import evenly_spaced_indices, image_folder, read_unchanged

CHECKED_IMAGES = 16
TOLERANCE = 1e-3
"""Largest difference of a probability between the image model and the head on cached features."""


class FeatureSource(NamedTuple):
    """How the features of a head were made.

    Attributes
    ----------
    fingerprint, provenance : dict
        Of a cache, or what a model file keeps of them.
    shown : str
        The cache or model file, for messages.
    """

    fingerprint: dict[str, Any]
    provenance: dict[str, Any]
    shown: str

    @classmethod
    def of_cache(cls, cache: FeatureCache) -> FeatureSource:
        """Return that of a cache's features."""
        return cls(cache.fingerprint, cache.provenance, f"the cache {display(str(cache.path))}")


def open_same_cache(cache: FeatureCache | Path | str, fingerprint: dict[str, Any]) -> FeatureCache:
    """Return a cache, opened, whose features were made as those of a model were.

    Raises
    ------
    CacheError
        When it cannot be read.
    FingerprintError
        When its features were made in another way.
    """
    opened = cache if isinstance(cache, FeatureCache) else FeatureCache.open(cache)
    require_same_fingerprint(opened.fingerprint, fingerprint, f"the cache {display(str(opened.path))}")
    return opened


class ReferencePredictions(NamedTuple):
    """Images, and what a head says of their features.

    Attributes
    ----------
    names : list of str
    images : list of ndarray of uint8, shape (height, width, 3)
    expected : ndarray of float64, shape (n, k)
    """

    names: list[str]
    images: list[npt.NDArray[np.uint8]]
    expected: npt.NDArray[np.float64]


def require_float32(origin: FeatureSource) -> None:
    """Refuse features that no float32 model gives, before a head is trained on them.

    Raises
    ------
    ModelFileError
        When the backbone computed in another precision.
    """
    precision = precision_of(origin.fingerprint)
    if precision != "float32":
        raise ModelFileError(
            f"{origin.shown} holds features of precision {precision}, which the float32 backbone "
            "of an image model does not give; write the head alone, to a file that ends in .joblib, or extract with "
            "--precision float32 to another cache path"
        )


def pixels_notes(origin: FeatureSource) -> list[str]:
    """Return what people must know of the pixels that an image model wants, if it is not what any image has."""
    if decoding_of(origin.fingerprint) != "reduced":
        return []
    return [
        "the features come from JPEG files that were decoded at a fraction where they were large; give the image "
        "model such pixels: on large images that were decoded whole, it is a little off"
    ]


def backbone_of(origin: FeatureSource, weights: str | Path | None = None) -> Any:
    """Build the frozen float32 backbone that features were made with.

    Parameters
    ----------
    origin : Origin
        Of the features.
    weights : str or path-like, optional
        The backbone's weights; by default where the origin says that they were.

    Returns
    -------
    keras.Model

    Raises
    ------
    WeightsError, FingerprintError
        When the weights are gone, or are not those of the features.
    """
    recipe = recipe_of(origin, weights)
    backbone = build_backbone(recipe.weights, recipe.alpha, recipe.image_size)
    found = recipe.fingerprint({"weights_sha256": weights_sha256(weights_of(backbone))})
    require_same_fingerprint(origin.fingerprint, found, origin.shown)
    return backbone


def build_image_model(head_model: Any, origin: FeatureSource, weights: str | Path | None = None) -> Any:
    """Put the frozen backbone in front of a trained head.

    Parameters
    ----------
    head_model : keras.Model
        Features (b, d) in, probabilities (b, k) out; named ``head``.
    origin : Origin
        Of the features that the head was trained on; its fingerprint says which backbone.
    weights : str or path-like, optional
        The backbone's weights; by default where the origin says that they were.

    Returns
    -------
    keras.Model
        Images (b, height, width, 3) of any one size, RGB, 0 to 255, in; probabilities (b, k) out.

    Raises
    ------
    WeightsError, FingerprintError
        When the weights are gone, or are not those of the features.
    """
    keras = import_keras()
    backbone = backbone_of(origin, weights)
    size = backbone.input_shape[1]
    image = keras.Input((None, None, 3), name="image")
    resized = keras.layers.Resizing(size, size, interpolation="bilinear", name="resize")(image)
    return keras.Model(image, head_model(pooled_features(backbone, resized)), name="embedonce")


def check_image_model(
    classify: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]], proof: ReferencePredictions
) -> float:
    """Check that an image model says of images what the head says of their features.

    Parameters
    ----------
    classify : callable
        From one image (1, height, width, 3) to probabilities (1, k).
    proof : Proof

    Returns
    -------
    float
        The largest difference of a probability.

    Raises
    ------
    ModelFileError
        When a class differs, or a probability by more than 1e-3.
    """
    if not proof.images:
        return 0.0
    got = np.concatenate([classify(image[None]) for image in proof.images])
    differences = np.abs(got - proof.expected).max(axis=1)
    # a NaN is wrong, too
    wrong = ~(differences <= TOLERANCE) | (got.argmax(axis=1) != proof.expected.argmax(axis=1))
    if wrong.any():
        worst = int(np.where(wrong, np.nan_to_num(differences, nan=np.inf), -1).argmax())
        raise ModelFileError(
            f"the image model disagrees with the head on {wrong.sum()} of {len(wrong)} images, most on "
            f"{display(proof.names[worst])}: a probability differs by {differences[worst]:.2g}, {TOLERANCE} is "
            "allowed; nothing was written"
        )
    return float(differences.max())


def proof_of_cache(
    head: Any, cache: FeatureCache, count: int = CHECKED_IMAGES, among: npt.NDArray[np.intp] | None = None
) -> ReferencePredictions:
    """Return images of a cache's folder and what a head says of their cached features.

    Parameters
    ----------
    head : classifier with ``predict_proba``
    cache : FeatureCache
    count : int
        How many images, spread evenly; only those that still stand unchanged in its image folder.
    among : ndarray of intp, shape (m,), optional
        The rows to take them from, by default all.
    """
    rows, images = _sample_images(cache, count, np.arange(len(cache)) if among is None else among)
    expected = head.predict_proba(cache.take(np.array(rows, np.intp))) if rows else np.zeros((0, len(head.classes_)))
    return ReferencePredictions([cache.paths[row] for row in rows], images, expected)


def _sample_images(
    cache: FeatureCache, count: int, among: npt.NDArray[np.intp]
) -> tuple[list[int], list[npt.NDArray[np.uint8]]]:
    root = image_folder(cache)
    least = least_size(cache.fingerprint)
    rows: list[int] = []
    images: list[npt.NDArray[np.uint8]] = []
    for row in among[evenly_spaced_indices(len(among), count)].tolist():
        try:
            images.append(decode(read_unchanged(cache, root, row), least))
            rows.append(row)
        except ImageError:  # it is gone or has changed since; another one will do
            continue
    return rows, images


def save_image_model(
    model: Any, path: Path, proof: ReferencePredictions, metadata: dict[str, Any], head: Any = None
) -> float:
    """Write an image model in the Keras format, with embedonce's metadata inside, after it has proved itself.

    What is checked is the file, loaded again as anybody would load it.

    Parameters
    ----------
    model : keras.Model
    path : Path
    proof : Proof
    metadata : dict
    head : SoftmaxHead, optional
        The one inside, for its parameters.

    Returns
    -------
    float
        The largest difference of a probability: see :func:`check_image_model`.

    Raises
    ------
    ModelFileError
        When the model disagrees with the proof.
    OutputError
        When the file cannot be written. Either way an older one stays.
    """
    with tempfile.TemporaryDirectory(prefix="embedonce-") as folder:
        temporary = Path(folder) / "model.keras"
        model.save(temporary)
        loaded = import_keras().models.load_model(temporary, safe_mode=True)
        difference = check_image_model(loaded.predict_on_batch, proof)
        write_keras_metadata(temporary, metadata, head)
        write_atomically(path, temporary.read_bytes())
    return difference
