"""Image models: resizing, scaling, backbone, pooling and head as one Keras model, checked against the head alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..._keras import import_keras
from ...cache import FeatureCache, display, write_atomically
from ...errors import ImageError, ModelFileError
from ...extract import decoder_of, image_options_of, recipe_of
from ...extract.backbone import build_backbone, pooled_features, weights_of, weights_sha256
from ...heads.io import saved_model, write_keras_metadata
from ..shared import evenly_spaced_indices, image_folder, read_unchanged
from .model_file import FeatureSource
from .resizing_layers import resized_as_trained

CHECKED_IMAGES = 16
TOLERANCE = 1e-3
"""Largest difference of a probability between the image model and the head on cached features."""


class ReferencePredictions(NamedTuple):
    """Images, and the probabilities (n, k), float64, that a head gives for their features."""

    names: list[str]
    images: list[npt.NDArray[np.uint8]]
    expected: npt.NDArray[np.float64]


def decoding_notes(source: FeatureSource) -> list[str]:
    """Return notes if an image model needs pixels that other decoders do not give."""
    options, notes = image_options_of(source.fingerprint), []
    if options.decoding == "reduced":
        notes.append(
            "the features come from JPEG files that were decoded at a fraction of their size where they were large. "
            "Give the image model such pixels: on large images that were decoded whole, it is a little off"
        )
    if options.orientation == "exif":
        notes.append(
            "the features come from images that were turned by their EXIF orientation. Turn images before you give "
            "them to the image model"
        )
    if options.value_range == "stretch":
        notes.append(
            "the features come from images of 16 bits whose values were stretched to 0 to 255. Stretch images of 16 "
            "bits before you give them to the image model"
        )
    return notes


def backbone_of(source: FeatureSource, weights: str | Path | None = None) -> Any:
    """Return the frozen float32 Keras backbone of features; `weights` is its file if that has moved."""
    recipe = recipe_of(source, weights)
    backbone = build_backbone(recipe.weights, recipe.alpha, recipe.image_size)
    source.require_same(recipe.fingerprint({"weights_sha256": weights_sha256(weights_of(backbone))}))
    return backbone


def build_image_model(head_model: Any, source: FeatureSource, weights: str | Path | None = None) -> Any:
    """Return a Keras model of backbone and head: images (b, height, width, 3), 0 to 255, to probabilities (b, k)."""
    # head_model, named "head", maps features (b, d) to probabilities
    keras = import_keras()
    backbone = backbone_of(source, weights)
    image = keras.Input((None, None, 3), name="image")
    options = image_options_of(source.fingerprint)
    resized = resized_as_trained(image, backbone.input_shape[1], options.resize, options.antialias)
    return keras.Model(image, head_model(pooled_features(backbone, resized)), name="embedonce")


def check_against_reference(
    classify: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]], reference: ReferencePredictions
) -> float:
    """Return the largest difference of a probability; a ModelFileError if it is above 1e-3 or a class differs."""
    # classify maps one image (1, height, width, 3) to probabilities (1, k)
    if not reference.images:
        return 0.0
    probabilities = np.concatenate([classify(image[None]) for image in reference.images])
    differences = np.abs(probabilities - reference.expected).max(axis=1)
    # a NaN is incorrect, too
    incorrect = ~(differences <= TOLERANCE) | (probabilities.argmax(axis=1) != reference.expected.argmax(axis=1))
    if incorrect.any():
        worst = int(np.where(incorrect, np.nan_to_num(differences, nan=np.inf), -1).argmax())
        raise ModelFileError(
            f"the image model disagrees with the head on {incorrect.sum()} of {len(incorrect)} images, most on "
            f"{display(reference.names[worst])}: a probability differs by {differences[worst]:.2g}, {TOLERANCE} is "
            "allowed. Nothing was written"
        )
    return float(differences.max())


def reference_of_cache(
    head: Any, cache: FeatureCache, count: int = CHECKED_IMAGES, among: npt.NDArray[np.intp] | None = None
) -> ReferencePredictions:
    """Return what a head says of up to `count` unchanged images, spread evenly among the given rows of a cache."""
    among = np.arange(len(cache)) if among is None else among
    root, decode = image_folder(cache), decoder_of(cache.fingerprint)
    rows: list[int] = []
    images: list[npt.NDArray[np.uint8]] = []
    for row in among[evenly_spaced_indices(len(among), count)].tolist():
        try:
            images.append(decode(read_unchanged(cache, root, row)))
            rows.append(row)
        except ImageError:
            continue
    expected = head.predict_proba(cache[rows]) if rows else np.zeros((0, len(head.classes_)))
    return ReferencePredictions([cache.paths[row] for row in rows], images, expected)


def save_image_model(
    model: Any, path: Path, reference: ReferencePredictions | None, metadata: dict[str, Any], head: Any = None
) -> float:
    """Write an image model, and `head` as arrays, to a .keras file once that agrees with the reference when loaded.

    Without a reference, as for an epoch that later ones replace, it is written unchecked.
    """
    with saved_model(model) as temporary:
        difference = 0.0
        if reference is not None:
            loaded = import_keras().models.load_model(temporary, safe_mode=True)
            difference = check_against_reference(loaded.predict_on_batch, reference)
        write_keras_metadata(temporary, metadata, head)
        write_atomically(path, temporary.read_bytes())
    return difference
