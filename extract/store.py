"""The user's store of prepared backbones: converted once, checked by hash whenever read.

Converting MobileNetV2 needs TensorFlow (seconds to import, 2 GB installed); running the result does not.
So the converted model and the hash of its weights are kept in the user's cache folder, keyed by everything
they were made from. A file that does not match its hash is made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..cache.errors import OutputError
from ..cache.files import make_folder, write_atomically
from .convert import convert
from .quantize import quantize
from .recipe import Hashes, Recipe

_LAYOUT = 1  # raise it when what is kept under a key changes


@dataclass(frozen=True)
class Prepared:
    """A backbone that needs no TensorFlow any more.

    Attributes
    ----------
    hashes : mapping of str to str
        The part of the fingerprint that only the finished backbone knows.
    model : bytes
        LiteRT model: float32 (1, s, s, 3), 0 to 255, to float32 (1, d).
    made_with : str
        The TensorFlow that converted it.
    """

    hashes: Hashes
    model: bytes
    made_with: str


def store_folder() -> Path:
    """Return the folder: ``$EMBEDONCE_HOME``, or the platform's cache folder for ``embedonce``."""
    home = os.environ.get("EMBEDONCE_HOME")
    if home:
        return Path(home)
    import platformdirs

    return Path(platformdirs.user_cache_dir("embedonce", appauthor=False))


def load_prepared(recipe: Recipe) -> Prepared | None:
    """Return the prepared backbone of a recipe, or None when it is not in the store or is damaged."""
    about = _about(recipe)
    try:
        model = _path(recipe).read_bytes()
        digest = hashlib.sha256(model).hexdigest()
        prepared = Prepared(_hashes(recipe, about["weights_sha256"], digest), model, about["made_with"])
        intact = digest == about["model_sha256"]
    except (OSError, KeyError):
        return None
    return prepared if intact else None


def any_prepared(alpha: float, image_size: int) -> Prepared | None:
    """Return any float32 backbone of a width and image size from the store, whatever its weights: all are as fast."""
    for path in sorted(store_folder().glob("mobilenetv2-*.json")):
        try:
            about = json.loads(path.read_text(encoding="ascii"))
            made_from = about["made_from"]
            if (made_from["alpha"], made_from["image_size"]) != (alpha, image_size) or "precision" in made_from:
                continue
            model = path.with_suffix(".tflite").read_bytes()
            if hashlib.sha256(model).hexdigest() == about["model_sha256"]:
                return Prepared({"weights_sha256": about["weights_sha256"]}, model, about["made_with"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def known_hashes(recipe: Recipe) -> Hashes | None:
    """Return a recipe's hashes when an earlier run has written them down, without TensorFlow."""
    if recipe.precision == "int8":  # its model decides values: what is promised must be there
        prepared = load_prepared(recipe)
        return prepared.hashes if prepared is not None else None
    digest = _about(recipe).get("weights_sha256")
    return {"weights_sha256": digest} if isinstance(digest, str) else None


def _hashes(recipe: Recipe, weights_sha256: str, model_sha256: str) -> Hashes:
    hashes = {"weights_sha256": weights_sha256}
    return hashes | {"quantized_model_sha256": model_sha256} if recipe.precision == "int8" else hashes


def remember_weights(recipe: Recipe, weights_sha256: str) -> None:
    """Write down the hash of a recipe's weights, for runs of an engine that needs no converted model."""
    path = _path(recipe).with_suffix(".json")
    if not path.exists():
        _keep(path, {"made_from": recipe.key, "weights_sha256": weights_sha256})


def prepare(recipe: Recipe) -> Prepared:
    """Build the backbone in Keras, convert it, check it against Keras, and keep it. Imports TensorFlow.

    Raises
    ------
    WeightsError
        When the weights do not fit.
    EngineError
        When the converted model disagrees with Keras.
    """
    from .backbone import build_backbone, build_embedder, weights_sha256

    backbone = build_backbone(recipe.weights, recipe.alpha, recipe.image_size)
    make = quantize if recipe.precision == "int8" else convert
    model = make(build_embedder(backbone), recipe.image_size)
    digests = {"weights_sha256": weights_sha256(backbone), "model_sha256": hashlib.sha256(model).hexdigest()}
    made_with = f"tensorflow {version('tensorflow')}"
    about = {"made_from": recipe.key, "made_with": made_with, **digests}
    _keep(_path(recipe).with_suffix(".json"), about, model)
    return Prepared(_hashes(recipe, **digests), model, made_with)


def _path(recipe: Recipe) -> Path:
    text = json.dumps({**recipe.key, "layout": _LAYOUT}, sort_keys=True)
    return store_folder() / f"mobilenetv2-{hashlib.sha256(text.encode()).hexdigest()[:24]}.tflite"


def _about(recipe: Recipe) -> dict[str, Any]:
    """Return what is written down about a recipe; nothing when that is missing or damaged."""
    try:
        about = json.loads(_path(recipe).with_suffix(".json").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def _keep(path: Path, about: dict[str, Any], model: bytes | None = None) -> None:
    with contextlib.suppress(OutputError):  # a read-only home costs time at every run, nothing else
        make_folder(path.parent, "converted models")
        if model is not None:
            write_atomically(path.with_suffix(".tflite"), model)
        write_atomically(path, json.dumps(about, indent=1).encode("ascii"))
