"""A recipe: all that decides what features an image gets, and the fingerprint of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..cache import display
from ..errors import FingerprintError, ParameterError, WeightsError, check_int, is_number
from .backbone import WeightsSource, resolve_weights
from .decoding import Pixels, decode
from .options import DECODERS, DTYPES
from .views import IDENTITY, TURNS

MINIMUM_IMAGE_SIZE = 32

Hashes = Mapping[str, str]
"""What is part of a fingerprint but known only when the backbone has been made once: ``weights_sha256``, over its
arrays, so that one set of weights in two kinds of file is one fingerprint; ``quantized_model_sha256``, of precision
int8 alone, because how a converter rounds is up to it."""
HASHES = ("weights_sha256", "quantized_model_sha256")


@dataclass(frozen=True)
class Recipe:
    """The parameters of an extraction that decide the feature values.

    Attributes
    ----------
    weights : WeightsSource
    alpha : float
    image_size : int
    precision : {"float32", "int8", "float16", "bfloat16"}
    decoding : {"exact", "reduced"}
    view : str
        Which view of the images is embedded: see `embedonce.extract.views.TURNS`.
    """

    weights: WeightsSource
    alpha: float
    image_size: int
    precision: str = "float32"
    decoding: str = "exact"
    view: str = IDENTITY

    @property
    def key(self) -> dict[str, Any]:
        """What the converted backbone is made from, known without loading it."""
        key = {
            "architecture": "MobileNetV2",
            "weights": self.weights.identity,
            "alpha": self.alpha,
            "image_size": self.image_size,
        }
        return key | {"precision": "int8"} if self.precision == "int8" else key  # the others share their weights

    def decode(self, data: bytes) -> Pixels:
        """Decode an image file with this recipe's decoding and view."""
        pixels = decode(data, self.image_size if self.decoding == "reduced" else None)
        return np.ascontiguousarray(TURNS[self.view](pixels))

    def fingerprint(self, hashes: Hashes) -> dict[str, Any]:
        """Return everything that decides a feature value.

        Parameters
        ----------
        hashes : mapping of str to str
            Of the backbone, as the engine has them.
        """
        turned = {} if self.view == IDENTITY else {"view": self.view}
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
            **turned,
            **hashes,
        }


def make_recipe(
    weights: Any,
    alpha: float,
    image_size: int,
    precision: str = "float32",
    decoding: str = "exact",
    view: str = IDENTITY,
    *,
    timeout: float = 30.0,
) -> Recipe:
    """Check the parameters and find the weights.

    Raises
    ------
    ParameterError
        If alpha or image_size is out of range.
    WeightsError
        If the weights cannot be found.
    """
    if not is_number(alpha) or not 0 < alpha <= 10:
        raise ParameterError(f"parameter alpha of extract must be a number above 0 and at most 10, got {alpha!r}")
    image_size = check_int("image_size", "extract", image_size, MINIMUM_IMAGE_SIZE, 4096)
    source = resolve_weights(weights, float(alpha), image_size, timeout=timeout)
    return Recipe(source, float(alpha), image_size, precision, decoding, view)


class HasFingerprint(Protocol):
    """What says how its features were made."""

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What the features depend on."""

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the weights are, and more."""


def recipe_of(cache: HasFingerprint, weights: str | Path | None = None) -> Recipe:
    """Return the recipe that a cache was made with.

    Parameters
    ----------
    cache : Manifest, FeatureCache, or what a model file keeps of one
        Its fingerprint and provenance are looked at.
    weights : str or path-like, optional
        The backbone's weights; by default where the cache says that they were.

    Raises
    ------
    WeightsError
        When the weights are gone.

    Notes
    -----
    A precision, decoding or view that only a later embedonce knows becomes the default one; the fingerprints differ
    then.
    """
    if weights is None:
        path = cache.provenance.get("weights_path")
        if path is not None and not Path(path).is_file():
            raise WeightsError(
                f"the weights file that the cache was made with, {display(path)}, is gone; give it with --weights FILE"
            )
        weights = path or cache.provenance.get("weights", "")
    alpha, size = float(cache.fingerprint["alpha"]), int(cache.fingerprint["image_size"])
    precision, decoding = precision_of(cache.fingerprint), decoding_of(cache.fingerprint)
    return make_recipe(weights, alpha, size, precision, decoding, view_of(cache.fingerprint))


def precision_of(fingerprint: Mapping[str, Any]) -> str:
    """Return the precision that a fingerprint stands for."""
    return {dtype: name for name, dtype in DTYPES.items()}.get(str(fingerprint.get("dtype")), "float32")


def decoding_of(fingerprint: Mapping[str, Any]) -> str:
    """Return the decoding that a fingerprint stands for."""
    return {decoder: name for name, decoder in DECODERS.items()}.get(str(fingerprint.get("decoder")), "exact")


def view_of(fingerprint: Mapping[str, Any]) -> str:
    """Return the view that a fingerprint stands for."""
    view = str(fingerprint.get("view", IDENTITY))
    return view if view in TURNS else IDENTITY


def least_size(fingerprint: Mapping[str, Any]) -> int | None:
    """Return the pixels that `decode` must leave of images of a fingerprint; None when it leaves all."""
    return int(fingerprint["image_size"]) if decoding_of(fingerprint) == "reduced" else None


def require_same_fingerprint(
    stored: dict[str, Any], wanted: dict[str, Any], what: str, provenance: Mapping[str, Any] | None = None
) -> None:
    """Refuse to mix features that were made in two ways.

    Parameters
    ----------
    stored, wanted : dict
        Fingerprints.
    what : str
        What holds the stored one, as the error begins.
    provenance : mapping, optional
        What stands beside the stored one; it may say how to get there.

    Raises
    ------
    FingerprintError
        Naming every field that differs.
    """
    names = sorted(set(stored) | set(wanted))
    different = [name for name in names if stored.get(name) != wanted.get(name)]
    if different:
        fields = "; ".join(
            f"{name} is {_short(stored.get(name))} there, {_short(wanted.get(name))} here" for name in different
        )
        raise FingerprintError(
            f"{what} holds features made in another way: {fields}; {_remedy(different, provenance or {})}, or another "
            "cache path"
        )


def _remedy(different: list[str], provenance: Mapping[str, Any]) -> str:
    if different != ["quantized_model_sha256"]:
        return "give the same options as then"
    engines = provenance.get("engines", {}).values()
    makers = sorted({versions["converted with"] for versions in engines if "converted with" in versions})
    made_with = f" (made with {' or '.join(makers)})" if makers else ""
    return (
        f"rounding to 8 bits gave another model here than then{made_with}: bring the folder of converted models from "
        "there, or install that TensorFlow and empty the folder here (EMBEDONCE_HOME, or embedonce in your cache "
        "folder)"
    )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 48 else text[:12] + "…"  # a hash
