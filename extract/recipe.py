"""A recipe: all that decides what features an image gets, and the fingerprint of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..cache.errors import FingerprintError, WeightsError
from ..cache.manifest import Manifest
from ..cache.names import display
from ..cache.reader import FeatureCache
from .weights import WeightsSource, resolve_weights

MINIMUM_IMAGE_SIZE = 32


@dataclass(frozen=True)
class Recipe:
    """The parameters of an extraction that decide the feature values.

    Attributes
    ----------
    weights : WeightsSource
    alpha : float
    image_size : int
    """

    weights: WeightsSource
    alpha: float
    image_size: int

    @property
    def key(self) -> dict[str, Any]:
        """What the backbone is made from, known without loading it."""
        return {
            "architecture": "MobileNetV2",
            "weights": self.weights.identity,
            "alpha": self.alpha,
            "image_size": self.image_size,
        }

    def fingerprint(self, weights_sha256: str) -> dict[str, Any]:
        """Return everything that decides a feature value.

        Parameters
        ----------
        weights_sha256 : str
            Of the backbone's arrays, so that one set of weights in two kinds of file is one fingerprint.
        """
        return {
            "architecture": "MobileNetV2",
            "alpha": self.alpha,
            "image_size": self.image_size,
            "pooling": "avg",
            "weights_sha256": weights_sha256,
            "decoder": "tensorflow decode_image",
            "color": "rgb",
            "resize": "bilinear, no antialiasing",
            "scaling": "-1 to 1",
            "dtype": "float32",
        }


def make_recipe(weights: Any, alpha: float, image_size: int, *, timeout: float = 30.0) -> Recipe:
    """Check the parameters and find the weights.

    Raises
    ------
    WeightsError
        When alpha or image_size cannot be, or the weights are not to be had.
    """
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 < alpha <= 10:
        raise WeightsError(f"parameter alpha of extract must be a number above 0 and at most 10, got {alpha!r}")
    if isinstance(image_size, bool) or not isinstance(image_size, int) or not MINIMUM_IMAGE_SIZE <= image_size <= 4096:
        raise WeightsError(
            f"parameter image_size of extract must be a whole number from {MINIMUM_IMAGE_SIZE} to 4096, "
            f"got {image_size!r}"
        )
    source = resolve_weights(weights, float(alpha), image_size, timeout=timeout)
    return Recipe(source, float(alpha), image_size)


def recipe_of(cache: Manifest | FeatureCache, weights: str | Path | None = None) -> Recipe:
    """Return the recipe that a cache was made with.

    Parameters
    ----------
    cache : Manifest or FeatureCache
        Its fingerprint and provenance are looked at.
    weights : str or path-like, optional
        The backbone's weights; by default where the cache says that they were.

    Raises
    ------
    WeightsError
        When the weights are gone.
    """
    if weights is None:
        path = cache.provenance.get("weights_path")
        if path is not None and not Path(path).is_file():
            raise WeightsError(
                f"the weights file that the cache was made with, {display(path)}, is gone; give it with --weights FILE"
            )
        weights = path or cache.provenance.get("weights", "")
    return make_recipe(weights, float(cache.fingerprint["alpha"]), int(cache.fingerprint["image_size"]))


def require_same_fingerprint(stored: dict[str, Any], wanted: dict[str, Any], what: str) -> None:
    """Refuse to mix features that were made in two ways.

    Parameters
    ----------
    stored, wanted : dict
        Fingerprints.
    what : str
        What holds the stored one, as the error begins.

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
            f"{what} holds features made in another way: {fields}; give the same options as then, or another cache path"
        )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else text[:12] + "…"
