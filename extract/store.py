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

import numpy as np

from ..cache.errors import EngineError, OutputError
from ..cache.files import make_folder, write_atomically
from ..cache.quiet import quiet_native_output
from .recipe import Recipe
from .tolerance import allowed_difference

_LAYOUT = 1  # raise it when what is kept under a key changes


@dataclass(frozen=True)
class Prepared:
    """A backbone that needs no TensorFlow any more.

    Attributes
    ----------
    weights_sha256 : str
        Of the backbone's arrays.
    model : bytes
        LiteRT model: float32 (1, s, s, 3), 0 to 255, to float32 (1, d).
    made_with : str
        The TensorFlow that converted it.
    """

    weights_sha256: str
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
        prepared = Prepared(about["weights_sha256"], model, about["made_with"])
        intact = hashlib.sha256(model).hexdigest() == about["model_sha256"]
    except (OSError, KeyError):
        return None
    return prepared if intact else None


def known_weights(recipe: Recipe) -> str | None:
    """Return the hash of a recipe's weights when an earlier run has written it down, without TensorFlow."""
    digest = _about(recipe).get("weights_sha256")
    return digest if isinstance(digest, str) else None


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
    embedder = build_embedder(backbone)
    with quiet_native_output():
        model = _convert(embedder, recipe.image_size)
    _prove(embedder, model, recipe.image_size)
    prepared = Prepared(weights_sha256(backbone), model, f"tensorflow {version('tensorflow')}")
    about = {
        "made_from": recipe.key,
        "made_with": prepared.made_with,
        "weights_sha256": prepared.weights_sha256,
        "model_sha256": hashlib.sha256(model).hexdigest(),
    }
    _keep(_path(recipe).with_suffix(".json"), about, model)
    return prepared


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


def _convert(embedder: Any, image_size: int) -> bytes:
    import tensorflow as tf

    def embed(image: Any) -> Any:
        return embedder(image, training=False)

    signature = tf.TensorSpec((1, image_size, image_size, 3), tf.float32)
    function = tf.function(embed, input_signature=[signature]).get_concrete_function()
    # Without the Keras model as second argument the weights become constants, which XNNPACK needs; with it
    # they stay variables, and LiteRT 2.3 computes NaN. from_keras_model gives the same model in four times the time.
    model: bytes = tf.lite.TFLiteConverter.from_concrete_functions([function]).convert()
    return model


def _prove(embedder: Any, model: bytes, image_size: int) -> None:
    """Run two images through both, smooth and rough, before anybody relies on the conversion."""
    from .litert import Interpreter

    rows = np.linspace(0, 255, image_size, dtype=np.float32)
    smooth = np.stack(
        [np.add.outer(rows, rows) / 2, np.tile(rows, (image_size, 1)), np.tile(rows[:, None], image_size)]
    )
    rough = np.random.RandomState(0).uniform(0, 255, (image_size, image_size, 3))
    images = np.stack([smooth.transpose(1, 2, 0), rough]).astype(np.float32)
    expected = np.asarray(embedder(images, training=False))
    session, got = Interpreter(model), []
    for image in images:
        np.copyto(session.slot(0), image)
        got.append(session.run(1)[0])
    difference = float(np.abs(np.stack(got) - expected).max())
    if not difference <= allowed_difference(expected):
        raise EngineError(
            f"the converted model differs from Keras by {difference:.2g} on this machine; use --engine keras"
        )
