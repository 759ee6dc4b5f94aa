"""The user's store of prepared backbones: converted once, checked by hash whenever read.

Converting MobileNetV2 needs TensorFlow (seconds to import, 2 GB installed); running the result does not.
So what an engine reads, such as the converted model or the folded weights, and the hash of the weights are kept in
the user's cache folder, keyed by everything they were made from. A file that does not match its hash is made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...cache import make_folder, write_atomically
from ...errors import OutputError
from ..backbone import weights_sha256
from ..engine_registry import ENGINES, engine_class
from ..recipe import Hashes, Recipe
from .protocol import PreparedModel

_LAYOUT = 1  # raise it when what is kept under a key changes


@dataclass(frozen=True)
class Prepared:
    """A backbone that needs no TensorFlow any more.

    Attributes
    ----------
    hashes : mapping of str to str
        The part of the fingerprint that only the finished backbone knows.
    model : bytes
        What the engine reads: for litert a LiteRT model, for native the folded weights.
    made_with : str
        The package that made it, and its version.
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
    engine : str
        Which reads it; None comes back for one that reads no prepared backbone.
    """
    return _read(_path(recipe), _about(recipe), engine, recipe.precision)


def is_prepared(recipe: Recipe, engine: str) -> bool:
    """Return whether the store seems to have what an engine reads, without reading it."""
    form = ENGINES[engine].form
    return form is not None and form.digest in _about(recipe) and _path(recipe).with_suffix(form.ending).is_file()


def _read(path: Path, about: dict[str, Any], engine: str, precision: str = "float32") -> Prepared | None:
    form = ENGINES[engine].form
    if form is None:
        return None
    try:
        model = path.with_suffix(form.ending).read_bytes()
        digest = hashlib.sha256(model).hexdigest()
        prepared = Prepared(_hashes(precision, about["weights_sha256"], digest), model, about[form.maker])
        intact = digest == about[form.digest]
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
    engine : str
        One that reads a prepared backbone.

    Raises
    ------
    WeightsError
        When the weights do not fit.
    EngineError
        When the engine computes something else.
    """
    form = ENGINES[engine].form
    assert form is not None
    made: PreparedModel = engine_class(engine).prepare(recipe)
    of_weights, of_model = weights_sha256(made.weights), hashlib.sha256(made.model).hexdigest()
    about = _about(recipe) | {"made_from": recipe.key, "weights_sha256": of_weights}
    about |= {form.digest: of_model, form.maker: made.made_with}
    path = _path(recipe)
    _keep(path.with_suffix(".json"), about, path.with_suffix(form.ending), made.model)
    return Prepared(_hashes(recipe.precision, of_weights, of_model), made.model, made.made_with)


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
