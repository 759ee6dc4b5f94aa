"""The inference engines, native, LiteRT and Keras (the reference, also on a GPU), and the choice between them."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import numpy as np

from ..._keras import import_keras
from ...errors import MissingPackageError, ParameterError
from ..backbone import weights_from, weights_sha256
from ..options import AUTO, DTYPES, ENGINES, ComputeOptions, check_options, engines_for
from ..processors import cpu_count
from ..recipe import Hashes, Recipe
from .convert import convert
from .fold import fold, from_bytes, to_bytes
from .litert import Interpreter
from .native import NativeSession, chosen_lanes, why_not_native
from .native_plan import make_program
from .prepared_models import (
    PreparedModel,
    is_prepared,
    load_prepared,
    make_prepared_model,
    store_prepared,
    store_weights_hash,
)
from .protocol import Engine, Features, Images, Session, check_against_reference
from .quantize import quantize
from .reference import reference_features, reference_map
from .speeds import fastest_engine, remembered_engine

PREFERENCE = "EMBEDONCE_ENGINE"
"""Environment variable that sets which engine ``auto`` chooses."""


class NativeEngine:
    """The folded weights in embedonce's compiled kernels."""

    name = "native"

    def __init__(self, prepared: PreparedModel, image_size: int, threads: int = 1) -> None:
        self.hashes = prepared.hashes
        self._program = make_program(from_bytes(prepared.model), image_size, chosen_lanes())

    def versions(self) -> dict[str, str]:
        return {"embedonce": _version("embedonce")}

    def session(self) -> Session:
        return NativeSession(self._program)

    def default_workers(self) -> int:
        return cpu_count()

    @staticmethod
    def prepare(recipe: Recipe) -> PreparedModel:
        """Fold the weights, and check the kernels against NumPy."""
        lanes = chosen_lanes()
        weights = weights_from(recipe.weights, recipe.alpha)
        folded = fold(weights)
        session = NativeSession(make_program(folded, recipe.image_size, lanes))
        check_against_reference(
            lambda images: reference_features(folded, images), session, recipe.image_size, ("native", "plain NumPy")
        )
        return make_prepared_model(recipe, weights, to_bytes(folded), f"numpy {version('numpy')}")


class LiteRTEngine:
    """The converted backbone in LiteRT."""

    name = "litert"

    def __init__(self, prepared: PreparedModel, image_size: int, threads: int = 1) -> None:
        self.hashes = prepared.hashes
        self._prepared = prepared
        self._threads = threads

    def versions(self) -> dict[str, str]:
        return {"ai-edge-litert": _version("ai-edge-litert"), "converted with": self._prepared.made_with}

    def session(self) -> Session:
        return Interpreter(self._prepared.model, self._threads)

    def default_workers(self) -> int:
        return max(1, cpu_count() // self._threads)

    @staticmethod
    def prepare(recipe: Recipe) -> PreparedModel:
        """Convert the Keras model, and check the result against Keras."""
        from ..backbone import build_backbone, build_embedder, weights_of

        backbone = build_backbone(recipe.weights, recipe.alpha, recipe.image_size)
        make = quantize if recipe.precision == "int8" else convert
        model = make(build_embedder(backbone), recipe.image_size)
        return make_prepared_model(recipe, weights_of(backbone), model, f"tensorflow {version('tensorflow')}")


class KerasEngine:
    """The Keras model, in batches of one fixed size."""

    name = "keras"
    batch_size = 32
    gpu_batch_size = 128  # a GPU idles over 32; the size changes float32 features by some 2e-6

    def __init__(self, recipe: Recipe, threads: int | None = None) -> None:
        import_keras()  # quietly
        import tensorflow as tf

        from ..backbone import build_backbone, build_embedder, weights_of

        if threads is not None:
            _limit_tensorflow(tf, threads)
        if tf.config.list_physical_devices("GPU"):
            self.batch_size = self.gpu_batch_size
        backbone = build_backbone(recipe.weights, recipe.alpha, recipe.image_size, DTYPES[recipe.precision])
        digest = weights_sha256(weights_of(backbone))
        self.hashes: Hashes = {"weights_sha256": digest}
        self._embedder: Any = build_embedder(backbone)
        self._image_size = recipe.image_size
        store_weights_hash(recipe, digest)

    def versions(self) -> dict[str, str]:
        return {name: _version(name) for name in ("tensorflow", "keras")}

    def session(self) -> Session:
        return _KerasSession(self._embedder, self.batch_size, self._image_size)

    def default_workers(self) -> int:
        return 1  # TensorFlow uses every processor by itself


class _KerasSession:
    def __init__(self, embedder: Any, batch_size: int, image_size: int) -> None:
        self._embedder = embedder
        self.batch_size = batch_size
        self._images = np.zeros((batch_size, image_size, image_size, 3), np.float32)

    def slot(self, position: int) -> Images:
        image: Images = self._images[position]
        return image

    def run(self, count: int) -> Features:
        # Always the whole batch: a smaller one would be compiled again and would change the last bits.
        features: Features = self._embedder.predict_on_batch(self._images)
        return features[:count]


_PREPARING: dict[str, type[NativeEngine] | type[LiteRTEngine]] = {"native": NativeEngine, "litert": LiteRTEngine}


def make_engine(name: str, recipe: Recipe, threads: int | None = None) -> Engine:
    """Make an engine for a recipe; ``auto`` is what `chosen_engine` says. Raises EngineError and WeightsError.

    Where the engine needs TensorFlow, which cannot be imported, ``auto`` is ``native``.
    """
    options = ComputeOptions(name, threads=threads)
    check_options(options, recipe.precision)
    chosen = chosen_engine(options, recipe.precision, recipe.alpha)
    try:
        return _make(chosen, recipe, threads)
    except MissingPackageError as error:
        if chosen == "native" or recipe.precision != "float32" or threads not in (None, 1) or why_not_native():
            raise
        if name != AUTO or preferred_engine():
            raise MissingPackageError(f"engine {chosen}: {error}. Or use engine native") from error
        return _make("native", recipe, threads)


def _make(chosen: str, recipe: Recipe, threads: int | None) -> Engine:
    if chosen not in _PREPARING:
        return KerasEngine(recipe, threads)
    prepared = load_prepared(recipe, chosen) or prepare(recipe, chosen)
    return make_prepared(chosen, prepared, recipe.image_size, threads or 1)


def prepare(recipe: Recipe, engine: str) -> PreparedModel:
    """Make what ``native`` or ``litert`` reads, check the features, and store it."""
    prepared = _PREPARING[engine].prepare(recipe)
    store_prepared(recipe, engine, prepared)
    return prepared


def make_prepared(name: str, prepared: PreparedModel, image_size: int, threads: int = 1) -> Engine:
    """Make the engine ``native`` or ``litert`` from a prepared model."""
    return _PREPARING[name](prepared, image_size, threads)


def plain_feature_map(recipe: Recipe, image: Images) -> Images:
    """Return the last feature map (h, w, d) of an image (s, s, 3), 0 to 255, computed with NumPy alone."""
    return reference_map(fold(weights_from(recipe.weights, recipe.alpha)), image)


def is_quick(options: ComputeOptions, recipe: Recipe) -> bool:
    """Return whether `make_engine` finds what earlier runs have prepared."""
    name = quickly_chosen_engine(options, recipe.precision, recipe.alpha)
    return name is not None and is_prepared(recipe, name)


def chosen_engine(options: ComputeOptions, precision: str, alpha: float) -> str:
    """Return the name of the engine that computes; ``auto`` is the only one of the precision, or the fastest one.

    The first choice for a width measures the speed of this processor.
    """
    return quickly_chosen_engine(options, precision, alpha) or fastest_engine(alpha)


def quickly_chosen_engine(options: ComputeOptions, precision: str, alpha: float) -> str | None:
    """Return what `chosen_engine` returns, or None if the speed of this processor has to be measured."""
    if options.engine != AUTO:
        return options.engine
    candidates = engines_for(precision)
    if len(candidates) == 1:
        return candidates[0]
    preferred = preferred_engine()
    if preferred not in (None, "native"):
        return preferred
    if options.threads in (None, 1) and not why_not_native():
        return "native" if preferred == "native" else remembered_engine(alpha)
    return "litert" if find_spec("ai_edge_litert") else "keras"


def preferred_engine() -> str | None:
    """Return the engine that ``$EMBEDONCE_ENGINE`` names for ``auto``, or None."""
    name = os.environ.get(PREFERENCE) or None
    if name is not None and name not in ENGINES:
        raise ParameterError(f"environment variable {PREFERENCE} must be one of {', '.join(ENGINES)}, got {name!r}")
    return name


def note_engine(engines: dict[str, dict[str, str]], name: str, versions: dict[str, str]) -> None:
    """Add an engine to those of a provenance, in place; one in other versions gets a number, such as ``litert (2)``."""
    name = label = name.partition(" (")[0]
    number = 1
    while label in engines:
        if engines[label] == versions:
            return
        number += 1
        label = f"{name} ({number})"
    engines[label] = versions


def _limit_tensorflow(tf: Any, threads: int) -> None:
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    except RuntimeError as error:  # its threads exist already, in another number
        raise ParameterError(
            "parameter threads of extract must be what TensorFlow began with in this process, "
            f"{tf.config.threading.get_intra_op_parallelism_threads() or 'all'}, got {threads}. Start a new process, "
            "or use engine litert"
        ) from error


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
