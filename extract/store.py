"""The user's store of prepared backbones: converted once, checked by hash whenever read.

Converting MobileNetV2 needs TensorFlow (seconds to import, 2 GB installed); running the result does not.
So the converted model, or the folded weights, and the hash of the weights are kept in the user's cache folder, keyed
by everything they were made from. A file that does not match its hash is made again.
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
from .architecture import Weights, random_weights, weights_sha256
from .convert import convert
from .fold import fold, to_bytes
from .native import NativeSession
from .native_plan import make_program
from .quantize import quantize
from .recipe import Hashes, Recipe
from .reference import reference_features
from .session import prove
from .weights_file import read_weights

_LAYOUT = 1  # raise it when what is kept under a key changes

FORMS = {"litert": (".tflite", "model_sha256", "made_with"), "native": (".npz", "folded_sha256", "folded_with")}
"""What each engine reads: the end of its file's name, and what its hash and its maker are written down as."""


@dataclass(frozen=True)
class Prepared:
    """A backbone that needs no TensorFlow any more.

    Attributes
    ----------
    hashes : mapping of str to str
        The part of the fingerprint that only the finished backbone knows.
    model : bytes
        For engine litert a LiteRT model: float32 (1, s, s, 3), 0 to 255, to float32 (1, d). For engine native the
        folded weights, as :func:`embedonce.extract.fold.to_bytes` writes them.
    made_with : str
        The TensorFlow that converted it, or the NumPy that folded it.
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


def load_prepared(recipe: Recipe, engine: str = "litert") -> Prepared | None:
    """Return the prepared backbone of a recipe, or None when it is not in the store or is damaged.

    Parameters
    ----------
    recipe : Recipe
    engine : {"litert", "native"}
        Which reads it.
    """
    return _read(_path(recipe), _about(recipe), engine, recipe.precision)


def is_prepared(recipe: Recipe, engine: str) -> bool:
    """Return whether the store seems to have what an engine reads, without reading it."""
    ending, name, _ = FORMS[engine]
    return name in _about(recipe) and _path(recipe).with_suffix(ending).is_file()


def _read(path: Path, about: dict[str, Any], engine: str, precision: str = "float32") -> Prepared | None:
    ending, name, maker = FORMS[engine]
    try:
        model = path.with_suffix(ending).read_bytes()
        digest = hashlib.sha256(model).hexdigest()
        prepared = Prepared(_hashes(precision, about["weights_sha256"], digest), model, about[maker])
        intact = digest == about[name]
    except (OSError, KeyError, TypeError):
        return None
    return prepared if intact else None


def any_prepared(alpha: float, image_size: int, engine: str = "litert") -> Prepared | None:
    """Return any float32 backbone of a width and image size from the store, whatever its weights: all are as fast."""
    for path in sorted(store_folder().glob("mobilenetv2-*.json")):
        try:
            about = json.loads(path.read_text(encoding="ascii"))
            made_from = about["made_from"]
            if (made_from["alpha"], made_from["image_size"]) != (alpha, image_size) or "precision" in made_from:
                continue
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if (prepared := _read(path, about, engine)) is not None:
            return prepared
    return None


def known_hashes(recipe: Recipe) -> Hashes | None:
    """Return a recipe's hashes when an earlier run has written them down, without TensorFlow."""
    if recipe.precision == "int8":  # its model decides values: what is promised must be there
        prepared = load_prepared(recipe)
        return prepared.hashes if prepared is not None else None
    digest = _about(recipe).get("weights_sha256")
    return {"weights_sha256": digest} if isinstance(digest, str) else None


def _hashes(precision: str, weights_sha256: str, model_sha256: str) -> Hashes:
    hashes = {"weights_sha256": weights_sha256}
    return hashes | {"quantized_model_sha256": model_sha256} if precision == "int8" else hashes


def remember_weights(recipe: Recipe, weights_sha256: str) -> None:
    """Write down the hash of a recipe's weights, for runs of an engine that needs no converted model."""
    path = _path(recipe).with_suffix(".json")
    if not path.exists():
        _keep(path, {"made_from": recipe.key, "weights_sha256": weights_sha256})


def prepare(recipe: Recipe, engine: str = "litert") -> Prepared:
    """Make what an engine reads, check what the engine makes of it, and keep it.

    Parameters
    ----------
    recipe : Recipe
    engine : {"litert", "native"}
        ``litert`` is converted by TensorFlow from the Keras model, and checked against that. ``native`` needs neither
        for random weights and files of weights, and is checked against plain NumPy.

    Raises
    ------
    WeightsError
        When the weights do not fit.
    EngineError
        When the engine computes something else.
    """
    size = recipe.image_size
    if engine == "native":
        weights = _weights(recipe)
        folded = fold(weights)
        session = NativeSession(make_program(folded, size))
        prove(lambda images: reference_features(folded, images), session, size, engine, "plain NumPy")
        model, made_with = to_bytes(folded), f"numpy {version('numpy')}"
    else:
        from .backbone import build_backbone, build_embedder, weights_of

        backbone = build_backbone(recipe.weights, recipe.alpha, size)
        weights = weights_of(backbone)
        make = quantize if recipe.precision == "int8" else convert
        model, made_with = make(build_embedder(backbone), size), f"tensorflow {version('tensorflow')}"
    ending, name, maker = FORMS[engine]
    digests = {"weights_sha256": weights_sha256(weights), name: hashlib.sha256(model).hexdigest()}
    path = _path(recipe)
    about = _about(recipe) | {"made_from": recipe.key, maker: made_with, **digests}
    _keep(path.with_suffix(".json"), about, path.with_suffix(ending), model)
    return Prepared(_hashes(recipe.precision, digests["weights_sha256"], digests[name]), model, made_with)


def _weights(recipe: Recipe) -> Weights:
    """Return the weights of a recipe, without Keras where that is possible."""
    source = recipe.weights
    if source.seed is not None:
        return random_weights(source.seed, recipe.alpha)
    assert source.path is not None
    if (weights := read_weights(source.path, recipe.alpha)) is not None:
        return weights
    from .backbone import build_backbone, weights_of  # a saved model, or a file that Keras has a word to say on

    return weights_of(build_backbone(source, recipe.alpha, recipe.image_size))


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


def _keep(path: Path, about: dict[str, Any], model_path: Path | None = None, model: bytes = b"") -> None:
    with contextlib.suppress(OutputError):  # a read-only home costs time at every run, nothing else
        make_folder(path.parent, "converted models")
        if model_path is not None:
            write_atomically(model_path, model)
        write_atomically(path, json.dumps(about, indent=1).encode("ascii"))
