"""The recipe of an extraction: everything that decides the features of an image, and its fingerprint."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..cache import display
from ..errors import FingerprintError, ParameterError, WeightsError, check_int, describe, is_number
from .backbone import WeightsSource, resolve_weights
from .decoding import Pixels, decode
from .options import DECODERS, DTYPES, EXIF, STORED
from .orientation import orientation_of, upright
from .views import IDENTITY, VIEW_TRANSFORMS

MINIMUM_IMAGE_SIZE = 32

Hashes = Mapping[str, str]
"""The part of a fingerprint that is known only once the backbone exists: ``weights_sha256``, over its arrays, so that
equal weights in two kinds of file have one fingerprint; and, for precision int8, ``quantized_model_sha256``, because
converters round differently."""
HASHES = ("weights_sha256", "quantized_model_sha256")


@dataclass(frozen=True)
class ImageDecoder:
    """How image files become pixels of their own size: a function of their bytes."""

    image_size: int
    decoding: str = "exact"
    orientation: str = STORED

    def __call__(self, data: bytes, minimum: int | None = None) -> Pixels:
        """Return the pixels, uint8 of shape (h, w, 3); raise ImageError.

        ``minimum`` is the number of pixels that large JPEG files keep on both sides, where they are only looked at.
        """
        reduced = self.image_size if self.decoding == "reduced" else None
        pixels = decode(data, reduced if minimum is None else minimum)
        return upright(pixels, orientation_of(data)) if self.orientation == EXIF else pixels


@dataclass(frozen=True)
class Recipe:
    """The parameters of an extraction that decide the feature values."""

    weights: WeightsSource
    alpha: float
    image_size: int
    precision: str = "float32"
    decoding: str = "exact"
    orientation: str = STORED
    view: str = IDENTITY

    @property
    def key(self) -> dict[str, Any]:
        """Everything that the converted backbone is made from, known without loading it."""
        key = {
            "architecture": "MobileNetV2",
            "weights": self.weights.identity,
            "alpha": self.alpha,
            "image_size": self.image_size,
        }
        return key | {"precision": "int8"} if self.precision == "int8" else key  # the others share their weights

    def decode(self, data: bytes) -> Pixels:
        """Decode an image file with this recipe's decoding, orientation and view."""
        pixels = ImageDecoder(self.image_size, self.decoding, self.orientation)(data)
        return np.ascontiguousarray(VIEW_TRANSFORMS[self.view](pixels))

    def fingerprint(self, hashes: Hashes) -> dict[str, Any]:
        """Return everything that decides a feature value; ``hashes`` are those of the engine's backbone."""
        view = {} if self.view == IDENTITY else {"view": self.view}
        orientation = {} if self.orientation == STORED else {"orientation": self.orientation}
        return {
            "architecture": "MobileNetV2",
            "alpha": self.alpha,
            "image_size": self.image_size,
            "pooling": "avg",
            "decoder": DECODERS[self.decoding],
            "color": "rgb",
            "resize": "bilinear, no antialiasing",
            "scaling": "-1 to 1",
            "dtype": DTYPES[self.precision],
            **orientation,
            **view,
            **hashes,
        }


def make_recipe(
    weights: Any,
    alpha: float,
    image_size: int,
    precision: str = "float32",
    decoding: str = "exact",
    orientation: str = STORED,
    view: str = IDENTITY,
    *,
    timeout: float = 30.0,
) -> Recipe:
    """Check the parameters (ParameterError) and find the weights (WeightsError)."""
    if not is_number(alpha) or not 0 < alpha <= 10:
        raise ParameterError(f"parameter alpha of extract must be a number above 0 and at most 10, got {alpha!r}")
    image_size = check_int("image_size", "extract", image_size, MINIMUM_IMAGE_SIZE, 4096)
    source = resolve_weights(weights, float(alpha), image_size, timeout=timeout)
    return Recipe(source, float(alpha), image_size, precision, decoding, orientation, view)


class HasFingerprint(Protocol):
    """An object that says how its features were made."""

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Everything that decides the features."""

    @property
    def provenance(self) -> dict[str, Any]:
        """Path of the weights, and more."""


def recipe_of(cache: HasFingerprint, weights: str | Path | None = None) -> Recipe:
    """Return the recipe of a cache, manifest or model file; by default with the weights that its provenance names."""
    # a value that only a later embedonce knows becomes the default one; the fingerprints differ then
    if weights is None:
        path = cache.provenance.get("weights_path")
        if path is not None and not os.path.isfile(path):
            raise WeightsError(
                f"the weights file that the cache was made with, {display(path)}, no longer exists. Name it with "
                "--weights FILE"
            )
        weights = path or cache.provenance.get("weights", "")
    alpha, size = cache.fingerprint.get("alpha", ""), cache.fingerprint.get("image_size", "")
    if not isinstance(alpha, int | float) or not isinstance(size, int):
        raise FingerprintError(
            f"the features were not made from images by embedonce: their fingerprint is {describe(cache.fingerprint)}"
        )
    precision, decoding = precision_of(cache.fingerprint), decoding_of(cache.fingerprint)
    orientation, view = orientation_name(cache.fingerprint), str(cache.fingerprint.get("view", IDENTITY))
    view = view if view in VIEW_TRANSFORMS else IDENTITY
    return make_recipe(weights, alpha, size, precision, decoding, orientation, view)


def precision_of(fingerprint: Mapping[str, Any]) -> str:
    """Return the precision of a fingerprint."""
    return {dtype: name for name, dtype in DTYPES.items()}.get(str(fingerprint.get("dtype")), "float32")


def decoding_of(fingerprint: Mapping[str, Any]) -> str:
    """Return the decoding of a fingerprint."""
    return {decoder: name for name, decoder in DECODERS.items()}.get(str(fingerprint.get("decoder")), "exact")


def orientation_name(fingerprint: Mapping[str, Any]) -> str:
    """Return the orientation of a fingerprint."""
    return EXIF if fingerprint.get("orientation") == EXIF else STORED


def decoder_of(fingerprint: Mapping[str, Any]) -> ImageDecoder:
    """Return the decoder of a fingerprint's images; of features without images, that of the default options."""
    size = int(fingerprint.get("image_size", 0))
    return ImageDecoder(size, decoding_of(fingerprint), orientation_name(fingerprint))


def require_same_fingerprint(
    stored: dict[str, Any], current: dict[str, Any], what: str, provenance: Mapping[str, Any] | None = None
) -> None:
    """Raise FingerprintError, about ``what``, naming every field that differs when two fingerprints are not equal."""
    names = sorted(set(stored) | set(current))
    different = [name for name in names if stored.get(name) != current.get(name)]
    if different:
        fields = "; ".join(
            f"{name} is {_short(stored.get(name))} there, {_short(current.get(name))} here" for name in different
        )
        raise FingerprintError(
            f"{what} holds features made in another way: {fields}. {_remedy(different, provenance or {})}, or use "
            "another cache path"
        )


def _remedy(different: list[str], provenance: Mapping[str, Any]) -> str:
    if different != ["quantized_model_sha256"]:
        return "Give the same options as then"
    engines = provenance.get("engines", {}).values()
    makers = sorted({versions["converted with"] for versions in engines if "converted with" in versions})
    made_with = f" (made with {' or '.join(makers)})" if makers else ""
    return (
        f"Rounding to 8 bits gave another model here than then{made_with}. Copy the folder of converted models from "
        "there, or install that TensorFlow and empty the folder here (EMBEDONCE_HOME, or embedonce in your cache "
        "folder)"
    )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 48 else text[:12] + "…"  # a hash
