"""The whole way from an image to a class as one Keras model: resize, scale, backbone, pooling, head."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..cache.errors import ImageError, ModelFileError
from ..cache.files import write_atomically
from ..cache.names import display
from ..cache.quiet import import_keras
from ..cache.reader import FeatureCache
from ..extract.backbone import build_backbone, pooled_features, weights_sha256
from ..extract.decode import decode
from ..extract.recipe import decoding_of, precision_of, recipe_of, require_same_fingerprint
from ..heads.files import write_keras_metadata
from .images import image_folder, read_unchanged

CHECKED_IMAGES = 16
TOLERANCE = 1e-3
"""Largest difference of a probability between the image model and the head on cached features."""


def require_float32(cache: FeatureCache) -> None:
    """Refuse features that no float32 model gives, before a head is trained on them.

    Raises
    ------
    ModelFileError
        When the cache's backbone computed in another precision.
    """
    precision = precision_of(cache.fingerprint)
    if precision != "float32":
        raise ModelFileError(
            f"the cache {display(str(cache.path))} holds features of precision {precision}, which the float32 backbone "
            "of an image model does not give; write the head alone, to a file that ends in .joblib, or extract with "
            "--precision float32 to another cache path"
        )


def build_image_model(head_model: Any, cache: FeatureCache, weights: str | Path | None = None) -> Any:
    """Put the frozen backbone in front of a trained head.

    Parameters
    ----------
    head_model : keras.Model
        Features (b, d) in, probabilities (b, k) out; named ``head``.
    cache : FeatureCache
        Whose features the head was trained on; its fingerprint says which backbone.
    weights : str or path-like, optional
        The backbone's weights; by default where the cache says that they were.

    Returns
    -------
    keras.Model
        Images (b, height, width, 3) of any one size, RGB, 0 to 255, in; probabilities (b, k) out.

    Raises
    ------
    WeightsError, FingerprintError
        When the weights are gone, or are not those of the cache.
    """
    keras = import_keras()
    size = int(cache.fingerprint["image_size"])
    recipe = recipe_of(cache, weights)
    backbone = build_backbone(recipe.weights, recipe.alpha, size)
    found = recipe.fingerprint({"weights_sha256": weights_sha256(backbone)})
    require_same_fingerprint(cache.fingerprint, found, f"the cache {display(str(cache.path))}")

    image = keras.Input((None, None, 3), name="image")
    resized = keras.layers.Resizing(size, size, interpolation="bilinear", name="resize")(image)
    return keras.Model(image, head_model(pooled_features(backbone, resized)), name="embedonce")


def check_image_model(model: Any, head: Any, cache: FeatureCache, count: int = CHECKED_IMAGES) -> int:
    """Check that an image model says of real images what the head says of their cached features.

    Parameters
    ----------
    model : keras.Model
    head : SoftmaxHead
    cache : FeatureCache
    count : int
        How many images, spread over the cache; only those that still stand unchanged in its image folder.

    Returns
    -------
    int
        How many were checked; 0 when the image folder is gone.

    Raises
    ------
    ModelFileError
        When a class differs, or a probability by more than 1e-3.
    """
    rows, images = _sample_images(cache, count)
    if not rows:
        return 0
    expected = head.predict_proba(cache.features[rows])
    got = np.concatenate([model.predict(image[None], verbose=0) for image in images])
    differences = np.abs(got - expected).max(axis=1)
    wrong = (differences > TOLERANCE) | (got.argmax(axis=1) != expected.argmax(axis=1))
    if wrong.any():
        worst = int(np.where(wrong, differences, -1).argmax())
        raise ModelFileError(
            f"the image model disagrees with the cached features on {wrong.sum()} of {len(rows)} images, most on "
            f"{display(cache.paths[rows[worst]])}: a probability differs by {differences[worst]:.2g}, {TOLERANCE} is "
            "allowed; nothing was written"
        )
    return len(rows)


def _sample_images(cache: FeatureCache, count: int) -> tuple[list[int], list[npt.NDArray[np.uint8]]]:
    root = image_folder(cache)
    least = int(cache.fingerprint["image_size"]) if decoding_of(cache.fingerprint) == "reduced" else None
    rows: list[int] = []
    images: list[npt.NDArray[np.uint8]] = []
    for row in np.unique(np.linspace(0, len(cache) - 1, count).astype(int)).tolist():
        try:
            images.append(decode(read_unchanged(cache, root, row), least))
            rows.append(row)
        except ImageError:  # it is gone or has changed since; another one will do
            continue
    return rows, images


def save_image_model(model: Any, head: Any, cache: FeatureCache, path: Path, metadata: dict[str, Any]) -> int:
    """Write an image model in the Keras format, with embedonce's metadata inside, after it has proved itself.

    What is checked is the file, loaded again as anybody would load it.

    Returns
    -------
    int
        On how many images it was checked: see :func:`check_image_model`.

    Raises
    ------
    ModelFileError
        When the model disagrees with the cached features.
    OutputError
        When the file cannot be written. Either way an older one stays.
    """
    with tempfile.TemporaryDirectory(prefix="embedonce-") as folder:
        temporary = Path(folder) / "model.keras"
        model.save(temporary)
        checked = check_image_model(import_keras().models.load_model(temporary), head, cache)
        write_keras_metadata(temporary, metadata, head)
        write_atomically(path, temporary.read_bytes())
    return checked
