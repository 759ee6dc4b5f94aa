"""The user's store of prepared backbones, which need no TensorFlow: converted once, checked by hash at every read."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from ...cache import make_folder, read_regular, write_atomically
from ...errors import OutputError
from ..backbone import Weights, weights_sha256
from ..recipe import Hashes, Recipe

_LAYOUT = 1  # raise it when the content under a key changes
_CHECKSUM = "metadata_sha256"


class StoredModelFormat(NamedTuple):
    """Suffix of an engine's file, and the JSON keys of its SHA-256 and of the package that made it."""

    suffix: str
    digest: str
    maker: str


FORMATS = {
    "native": StoredModelFormat(".npz", "folded_sha256", "folded_with"),
    "litert": StoredModelFormat(".tflite", "model_sha256", "made_with"),
}
"""Engines that read a prepared backbone."""


class PreparedModel(NamedTuple):
    """A LiteRT model, or folded weights for the native engine: a backbone that needs no TensorFlow any more."""

    hashes: Hashes  # the part of the fingerprint that only the finished backbone gives
    model: bytes
    made_with: str  # package and version


def make_prepared_model(recipe: Recipe, weights: Weights, model: bytes, made_with: str) -> PreparedModel:
    """Return a prepared model with its hashes."""
    digest = hashlib.sha256(model).hexdigest()
    return PreparedModel(_hashes(recipe.precision, weights_sha256(weights), digest), model, made_with)


def store_folder() -> Path:
    """Return the folder: ``$EMBEDONCE_HOME``, or the platform's cache folder for ``embedonce``."""
    home = os.environ.get("EMBEDONCE_HOME")
    if home:
        return Path(home)
    import platformdirs

    return Path(platformdirs.user_cache_dir("embedonce", appauthor=False))


def load_prepared(recipe: Recipe, engine: str) -> PreparedModel | None:
    """Return the prepared backbone of a recipe; None if the store has none that is intact, or the engine reads none."""
    return _read(_path(recipe), engine, recipe.precision)


def is_prepared(recipe: Recipe, engine: str) -> bool:
    """Return whether the store seems to have what an engine reads, without reading it."""
    stored = FORMATS.get(engine)
    if stored is None:
        return known_hashes(recipe) is not None
    path = _path(recipe)
    return stored.digest in read_metadata(path) and path.with_suffix(stored.suffix).is_file()


def any_prepared(alpha: float, image_size: int, engine: str) -> PreparedModel | None:
    """Return a float32 backbone of a width and image size from the store, with any weights: all are as fast."""
    for path in sorted(store_folder().glob("mobilenetv2-*.json")):
        key = read_metadata(path).get("made_from", {})
        if (key.get("alpha"), key.get("image_size")) != (alpha, image_size) or "precision" in key:
            continue
        if (prepared := _read(path, engine, "float32")) is not None:
            return prepared
    return None


def known_hashes(recipe: Recipe) -> Hashes | None:
    """Return a recipe's hashes if an earlier run has stored them, without TensorFlow."""
    if recipe.precision == "int8":  # its model decides values, so the model itself must be there
        prepared = load_prepared(recipe, "litert")
        return prepared.hashes if prepared is not None else None
    digest = read_metadata(_path(recipe)).get("weights_sha256")
    return {"weights_sha256": digest} if isinstance(digest, str) else None


def store_weights_hash(recipe: Recipe, digest: str) -> None:
    """Store the hash of a recipe's weights, for runs of an engine that reads no prepared model."""
    path = _path(recipe)
    if not read_metadata(path):
        write_metadata(path.with_suffix(".json"), {"made_from": recipe.key, "weights_sha256": digest})


def store_prepared(recipe: Recipe, engine: str, prepared: PreparedModel) -> None:
    """Store a prepared model. A folder that cannot be written is not an error."""
    stored, path = FORMATS[engine], _path(recipe)
    metadata = read_metadata(path) | {"made_from": recipe.key, "weights_sha256": prepared.hashes["weights_sha256"]}
    metadata |= {stored.digest: hashlib.sha256(prepared.model).hexdigest(), stored.maker: prepared.made_with}
    write_metadata(path.with_suffix(".json"), metadata, path.with_suffix(stored.suffix), prepared.model)


def _read(path: Path, engine: str, precision: str) -> PreparedModel | None:
    if engine not in FORMATS:
        return None
    suffix, digest_key, maker_key = FORMATS[engine]
    metadata = read_metadata(path)
    try:
        model = read_regular(path.with_suffix(suffix))
        digest = hashlib.sha256(model).hexdigest()
        hashes = _hashes(precision, metadata["weights_sha256"], digest)
        return PreparedModel(hashes, model, metadata[maker_key]) if digest == metadata[digest_key] else None
    except (OSError, KeyError):
        return None


def _hashes(precision: str, weights_digest: str, model_digest: str) -> Hashes:
    hashes = {"weights_sha256": weights_digest}
    return hashes | {"quantized_model_sha256": model_digest} if precision == "int8" else hashes


def _path(recipe: Recipe) -> Path:
    text = json.dumps({**recipe.key, "layout": _LAYOUT}, sort_keys=True)
    return store_folder() / f"mobilenetv2-{hashlib.sha256(text.encode()).hexdigest()[:24]}.tflite"


def read_metadata(path: Path) -> dict[str, Any]:
    """Return what is stored about a recipe or a processor; an empty dict if that is missing or damaged."""
    try:
        metadata = json.loads(read_regular(path.with_suffix(".json")).decode("ascii"))
        return metadata if metadata.pop(_CHECKSUM) == _checksum(metadata) else {}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}


def _checksum(metadata: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(metadata, sort_keys=True).encode()).hexdigest()


def write_metadata(path: Path, metadata: dict[str, Any], model_path: Path | None = None, model: bytes = b"") -> None:
    """Write what `read_metadata` reads, after a model. A folder that cannot be written is not an error."""
    text = json.dumps({**metadata, _CHECKSUM: _checksum(metadata)}, indent=1)
    with contextlib.suppress(OutputError):  # a read-only home only costs time at every run
        make_folder(path.parent, "converted models")
        if model_path is not None:
            write_atomically(model_path, model)
        write_atomically(path, text.encode("ascii"))
