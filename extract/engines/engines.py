"""Inference engines behind one interface: make a session per worker, call it with images.

``native`` is the fastest on processors with AVX2 and no AVX-512, ``litert`` on others; ``keras`` is the reference, and
what a GPU uses.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from ..._keras import import_keras
from ...errors import ParameterError
from ..backbone import Weights, weights_from, weights_sha256
from ..engine_registry import ENGINES, engine_class, engines_for
from ..options import AUTO, DTYPES, ComputeOptions, check_options
from ..processors import available_processors
from ..recipe import Hashes, Recipe
from .convert import convert
from .fold import fold, from_bytes, to_bytes
from .native import NativeSession, native_is_fastest, require_native
from .native_plan import make_program
from .prepared_models import Prepared, is_prepared, known_hashes, load_prepared, prepare, remember_weights
from .protocol import Engine, PreparedModel, Session, check_against_reference
from .quantize import quantize
from .reference import reference_features


class NativeEngine:
    """The folded weights in kernels of our own; imports no TensorFlow when the store has them."""

    name = "native"

    def __init__(self, prepared: Prepared, image_size: int, threads: int = 1) -> None:
        require_native()
        self.hashes: Hashes = prepared.hashes
        self._program = make_program(from_bytes(prepared.model), image_size)

    def versions(self) -> dict[str, str]:
        return {"embedonce": _version("embedonce")}

    def session(self) -> Session:
        return NativeSession(self._program)

    def default_workers(self) -> int:
        return available_processors()

    @staticmethod
    def prepare(recipe: Recipe) -> PreparedModel:
        """Fold the weights, and check the result against plain NumPy."""
        require_native()
        weights = _weights(recipe)
        folded = fold(weights)
        session = NativeSession(make_program(folded, recipe.image_size))
        check_against_reference(
            lambda images: reference_features(folded, images), session, recipe.image_size, "native", "plain NumPy"
        )
        return PreparedModel(weights, to_bytes(folded), f"numpy {version('numpy')}")


class LiteRTEngine:
    """The converted backbone in LiteRT; imports no TensorFlow when the store has it."""

    name = "litert"

    def __init__(self, prepared: Prepared, image_size: int, threads: int = 1) -> None:
        self.hashes: Hashes = prepared.hashes
        self._prepared = prepared
        self._threads = threads

    def versions(self) -> dict[str, str]:
        return {"ai-edge-litert": _version("ai-edge-litert"), "converted with": self._prepared.made_with}

    def session(self) -> Session:
        from .litert import Interpreter

        return Interpreter(self._prepared.model, self._threads)

    def default_workers(self) -> int:
        return max(1, available_processors() // self._threads)

    @staticmethod
    def prepare(recipe: Recipe) -> PreparedModel:
        """Convert the Keras model: float32 (1, s, s, 3), 0 to 255, to float32 (1, d); checked against Keras."""
        from ..backbone import build_backbone, build_embedder, weights_of

        backbone = build_backbone(recipe.weights, recipe.alpha, recipe.image_size)
        make = quantize if recipe.precision == "int8" else convert
        model = make(build_embedder(backbone), recipe.image_size)
        return PreparedModel(weights_of(backbone), model, f"tensorflow {version('tensorflow')}")


class KerasEngine:
    """The Keras model itself, in batches of one fixed size."""

    name = "keras"
    batch_size = 32
    gpu_batch_size = 128  # a GPU idles over 32; the size moves float32 features by some 2e-6

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
        remember_weights(recipe, digest)

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

    def slot(self, position: int) -> npt.NDArray[np.float32]:
        image: npt.NDArray[np.float32] = self._images[position]
        return image

    def run(self, count: int) -> npt.NDArray[np.float32]:
        # Always the whole batch: a smaller one would be compiled anew and would move the last bits.
        features: npt.NDArray[np.float32] = self._embedder.predict_on_batch(self._images)
        return features[:count]


def _weights(recipe: Recipe) -> Weights:
    """Return the weights of a recipe, without Keras where that is possible."""
    if (weights := weights_from(recipe.weights, recipe.alpha)) is not None:
        return weights
    from ..backbone import build_backbone, weights_of

    return weights_of(build_backbone(recipe.weights, recipe.alpha, recipe.image_size))


def _limit_tensorflow(tf: Any, threads: int) -> None:
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    except RuntimeError as error:  # it has made its threads, and another number
        raise ParameterError(
            "parameter threads of extract must be what TensorFlow began with in this process, "
            f"{tf.config.threading.get_intra_op_parallelism_threads() or 'all'}, got {threads}; give it before "
            "anything else uses TensorFlow, in a new process, or use engine litert"
        ) from error


def make_engine(name: str, recipe: Recipe, threads: int | None = None) -> Engine:
    """Make an engine ready for a recipe.

    Parameters
    ----------
    name : str
        One of :data:`embedonce.extract.engine_registry.ENGINES`, or ``auto``, the fastest that is installed
        and computes the recipe's precision: see :func:`chosen_engine`.
    recipe : Recipe
    threads : int, optional
        Inside each interpreter, by default 1; or of TensorFlow, by default all.

    Raises
    ------
    EngineError
        When the name is unknown, the engine does not compute the recipe's precision, or it is not installed.
    WeightsError
        When the weights do not fit.
    """
    means = ComputeOptions(name, threads=threads)
    check_options(means, recipe.precision)
    chosen = chosen_engine(means, recipe.precision)
    if ENGINES[chosen].form is None:
        made: Engine = engine_class(chosen)(recipe, threads)
        return made
    prepared = load_prepared(recipe, chosen) or prepare(recipe, chosen)
    return make_prepared(chosen, prepared, recipe.image_size, threads or 1)


def make_prepared(name: str, prepared: Prepared, image_size: int, threads: int = 1) -> Engine:
    """Make an engine that reads a prepared backbone."""
    made: Engine = engine_class(name)(prepared, image_size, threads)
    return made


def is_quick(means: ComputeOptions, recipe: Recipe) -> bool:
    """Return whether :func:`make_engine` finds what earlier runs have prepared."""
    chosen = chosen_engine(means, recipe.precision)
    return known_hashes(recipe) is not None if ENGINES[chosen].form is None else is_prepared(recipe, chosen)


def chosen_engine(means: ComputeOptions, precision: str) -> str:
    """Return which engine computes.

    ``auto`` is the one that computes the precision, where there is one alone. Otherwise it is native where that is the
    fastest, unless threads inside an interpreter are asked for; then LiteRT, where it is installed; then Keras.
    """
    if means.engine != AUTO:
        return means.engine
    able = engines_for(precision)
    if len(able) == 1:
        return able[0]
    if native_is_fastest() and means.threads in (None, 1):
        return "native"
    return "litert" if find_spec("ai_edge_litert") else "keras"


def note_engine(engines: dict[str, dict[str, str]], name: str, versions: dict[str, str]) -> None:
    """Add an engine to the engines of a provenance; the same engine in other versions gets a number behind its name.

    Parameters
    ----------
    engines : dict of str to dict
        Changed in place.
    name : str
        Such as ``litert``, or ``litert (2)`` from another provenance.
    versions : dict of str to str
    """
    name = label = name.partition(" (")[0]
    number = 1
    while label in engines:
        if engines[label] == versions:
            return
        number += 1
        label = f"{name} ({number})"
    engines[label] = versions


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
