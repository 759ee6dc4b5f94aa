"""The recipe of an extraction: everything that decides the features of an image, and its fingerprint."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..cache import display
from ..errors import FingerprintError, ParameterError, WeightsError, check_int, describe, is_number
from .backbone import WeightsSource, resolve_weights
from .decoding import Pixels, decode
from .large_jpeg import resized_jpeg
from .options import DECODERS, DTYPES, EXIF, RESIZES, STORED, STRETCH, ImageOptions
from .orientation import orientation_of, upright
from .resizing import Floats, framed, resize, resize_into
from .views import IDENTITY, VIEW_TRANSFORMS

MINIMUM_IMAGE_SIZE = 32

Hashes = Mapping[str, str]
"""The part of a fingerprint that is known only once the backbone exists: ``weights_sha256``, over its arrays, so that
equal weights in two kinds of file have one fingerprint; and, for precision int8, ``quantized_model_sha256``, because
converters round differently."""
HASHES = ("weights_sha256", "quantized_model_sha256")


@dataclass(frozen=True)
class ImageDecoder:
    """How image files become pixels of their own size, and these the square image of the backbone."""

    image_size: int
    options: ImageOptions = field(default_factory=ImageOptions)

    def __call__(self, data: bytes, minimum: int | None = None) -> Pixels:
        """Return the pixels, uint8 of shape (h, w, 3); raise ImageError.

        ``minimum`` is the number of pixels that large JPEG files keep on both sides, where they are only looked at.
        """
        reduced = self.image_size if self.options.decoding == "reduced" else None
        stretch = self.options.value_range != STORED
        pixels = decode(data, reduced if minimum is None else minimum, stretch)
        return self._turned(pixels, data)

    def _turned(self, pixels: Pixels, data: bytes) -> Pixels:
        return upright(pixels, orientation_of(data)) if self.options.orientation == EXIF else pixels

    def resize(self, pixels: Pixels, size: int | None = None) -> Floats:
        """Return the image of the backbone, or one of another size: float32 (s, s, 3), 0 to 255."""
        return resize(pixels, size or self.image_size, self.options.resize, self.options.antialias)

    def resize_into(self, out: Floats, pixels: Pixels) -> None:
        """Put the image of the backbone into an existing array."""
        resize_into(out, pixels, self.options.resize, self.options.antialias)

    def decode_into(self, out: Floats, data: bytes, view: str = IDENTITY) -> Pixels | None:
        """Put the image of the backbone into an existing array; raise ImageError.

        The result is the pixels of the file, or None if not all of them were decoded.
        """
        turn = VIEW_TRANSFORMS[view]
        if self.options.decoding == "exact" and not self.options.antialias:
            resized = resized_jpeg(data, len(out), self.options.resize, lambda pixels: turn(self._turned(pixels, data)))
            if resized is not None:
                np.copyto(out, resized)
                return None
        pixels = np.ascontiguousarray(turn(self(data)))
        self.resize_into(out, pixels)
        return pixels

    def framed(self, pixels: Pixels) -> Pixels:
        """Return what the backbone sees of an image, in about its own size, to be shown."""
        return framed(pixels, self.image_size, self.options.resize)


@dataclass(frozen=True)
class Recipe:
    """The parameters of an extraction that decide the feature values."""

    weights: WeightsSource
    alpha: float
    image_size: int
    precision: str = "float32"
    images: ImageOptions = field(default_factory=ImageOptions)
    view: str = IDENTITY

    @property
    def decoder(self) -> ImageDecoder:
        """Decoder of image files, without the view."""
        return ImageDecoder(self.image_size, self.images)

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
        """Decode an image file with this recipe's options and view."""
        return np.ascontiguousarray(VIEW_TRANSFORMS[self.view](self.decoder(data)))

    def decode_into(self, out: Floats, data: bytes) -> Pixels | None:
        """Put the image of the backbone into an existing array, as `ImageDecoder.decode_into`."""
        return self.decoder.decode_into(out, data, self.view)

    def fingerprint(self, hashes: Hashes) -> dict[str, Any]:
        """Return everything that decides a feature value; ``hashes`` are those of the engine's backbone."""
        view = {} if self.view == IDENTITY else {"view": self.view}
        images = self.images
        fields = {"orientation": images.orientation, "range": images.value_range}
        return {
            "architecture": "MobileNetV2",
            "alpha": self.alpha,
            "image_size": self.image_size,
            "pooling": "avg",
            "decoder": DECODERS[images.decoding],
            "color": "rgb",
            "resize": RESIZES[images.resize, images.antialias],
            "scaling": "-1 to 1",
            "dtype": DTYPES[self.precision],
            **{name: value for name, value in fields.items() if value != STORED},
            **view,
            **hashes,
        }


def make_recipe(
    weights: Any,
    alpha: float,
    image_size: int,
    precision: str = "float32",
    images: ImageOptions | None = None,
    view: str = IDENTITY,
    *,
    timeout: float = 30.0,
) -> Recipe:
    """Check the parameters (ParameterError) and find the weights (WeightsError)."""
    if not is_number(alpha) or not 0 < alpha <= 10:
        raise ParameterError(f"parameter alpha of extract must be a number above 0 and at most 10, got {alpha!r}")
    image_size = check_int("image_size", "extract", image_size, MINIMUM_IMAGE_SIZE, 4096)
    source = resolve_weights(weights, float(alpha), image_size, timeout=timeout)
    return Recipe(source, float(alpha), image_size, precision, images or ImageOptions(), view)


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
    precision, images = precision_of(cache.fingerprint), image_options_of(cache.fingerprint)
    view = str(cache.fingerprint.get("view", IDENTITY))
    return make_recipe(weights, alpha, size, precision, images, view if view in VIEW_TRANSFORMS else IDENTITY)


def precision_of(fingerprint: Mapping[str, Any]) -> str:
    """Return the precision of a fingerprint."""
    return {dtype: name for name, dtype in DTYPES.items()}.get(str(fingerprint.get("dtype")), "float32")


def image_options_of(fingerprint: Mapping[str, Any]) -> ImageOptions:
    """Return the image options of a fingerprint."""
    decoding = {decoder: name for name, decoder in DECODERS.items()}.get(str(fingerprint.get("decoder")), "exact")
    orientation = EXIF if fingerprint.get("orientation") == EXIF else STORED
    resizes = {text: options for options, text in RESIZES.items()}
    how, antialias = resizes.get(str(fingerprint.get("resize")), (STRETCH, False))
    value_range = STRETCH if fingerprint.get("range") == STRETCH else STORED
    return ImageOptions(decoding, orientation, how, antialias, value_range)


def decoder_of(fingerprint: Mapping[str, Any]) -> ImageDecoder:
    """Return the decoder of a fingerprint's images; of features without images, that of the default options."""
    return ImageDecoder(int(fingerprint.get("image_size", 0)), image_options_of(fingerprint))


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
    return text if len(text) <= 48 or " " in text else text[:12] + "…"  # a hash
