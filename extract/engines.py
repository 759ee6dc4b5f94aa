"""Inference engines behind one interface: make a session per worker, call it with images.

``litert`` is the fast one on a processor; ``keras`` is the reference, and what a GPU uses.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..cache.errors import ParameterError
from ..cache.quiet import import_keras
from .options import DTYPES, Means, check_options
from .processors import available_processors
from .recipe import Hashes, Recipe
from .store import Prepared, load_prepared, prepare, remember_weights


class Session(Protocol):
    """What one worker has of an engine: slots to put images into, and a run over them."""

    @property
    def batch_size(self) -> int:
        """How many slots there are."""

    def slot(self, position: int) -> npt.NDArray[np.float32]:
        """Return where an image goes: float32, shape (s, s, 3), 0 to 255. Let go of it before the run."""

    def run(self, count: int) -> npt.NDArray[np.float32]:
        """Embed the first ``count`` slots: float32, shape (count, d), an array of its own."""


class Engine(Protocol):
    """A backbone on an inference runtime."""

    name: str
    hashes: Hashes

    def versions(self) -> dict[str, str]:
        """Return the versions of what computes, for the provenance."""

    def session(self) -> Session:
        """Return something to call from one thread."""

    def default_workers(self) -> int:
        """Return how many threads serve it best on this machine."""


class LiteRTEngine:
    """The converted backbone in LiteRT; imports no TensorFlow when the store has it."""

    name = "litert"

    def __init__(self, prepared: Prepared, threads: int = 1) -> None:
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


class KerasEngine:
    """The Keras model itself, in batches of one fixed size."""

    name = "keras"
    batch_size = 32
    gpu_batch_size = 128  # a GPU idles over 32; the size moves float32 features by some 2e-6

    def __init__(self, recipe: Recipe, threads: int | None = None) -> None:
        import_keras()  # quietly
        import tensorflow as tf

        from .backbone import build_backbone, build_embedder, weights_sha256

        if threads is not None:
            _limit_tensorflow(tf, threads)
        if tf.config.list_physical_devices("GPU"):
            self.batch_size = self.gpu_batch_size
        backbone = build_backbone(recipe.weights, recipe.alpha, recipe.image_size, DTYPES[recipe.precision])
        digest = weights_sha256(backbone)
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
    name : {"auto", "litert", "keras"}
        ``auto`` is LiteRT where it is installed and computes the recipe's precision, otherwise Keras.
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
    check_options(Means(name, threads=threads), recipe.precision)
    if needs_keras(name, recipe.precision):
        return KerasEngine(recipe, threads)
    return LiteRTEngine(load_prepared(recipe) or prepare(recipe), threads or 1)


def needs_keras(name: str, precision: str) -> bool:
    """Return whether the engine of this name is Keras, which needs the weights file at every run."""
    if name == "auto" and precision == "float32":
        return not find_spec("ai_edge_litert")
    return name == "keras" or precision in ("float16", "bfloat16")


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
