"""Inference engines behind one interface: make a session per worker, call it with images.

``litert`` is the fast one on a processor; ``keras`` is the reference, and what a GPU uses.
"""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..cache.errors import EngineError
from .recipe import Recipe
from .store import Prepared, load_prepared, prepare, remember_weights

ENGINES = ("auto", "litert", "keras")


class Session(Protocol):
    """What a worker calls: float32 images (b, s, s, 3), 0 to 255, to float32 features (b, d)."""

    @property
    def batch_size(self) -> int:
        """How many images it likes at once."""

    def __call__(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Embed ``batch_size`` images or fewer."""


class Engine(Protocol):
    """A backbone on an inference runtime."""

    name: str
    weights_sha256: str

    def versions(self) -> dict[str, str]:
        """Return the versions of what computes, for the provenance."""

    def session(self) -> Session:
        """Return something to call from one thread."""

    def default_workers(self) -> int:
        """Return how many threads serve it best on this machine."""


class LiteRTEngine:
    """The converted backbone in LiteRT; imports no TensorFlow when the store has it."""

    name = "litert"

    def __init__(self, prepared: Prepared) -> None:
        self.weights_sha256 = prepared.weights_sha256
        self._prepared = prepared

    def versions(self) -> dict[str, str]:
        return {"ai-edge-litert": _version("ai-edge-litert"), "converted with": self._prepared.made_with}

    def session(self) -> Session:
        from .litert import Interpreter

        return Interpreter(self._prepared.model)

    def default_workers(self) -> int:
        return available_processors()


class KerasEngine:
    """The Keras model itself, in batches of one fixed size."""

    name = "keras"
    batch_size = 32

    def __init__(self, recipe: Recipe) -> None:
        from .backbone import build_backbone, build_embedder, weights_sha256

        backbone = build_backbone(recipe.weights, recipe.alpha, recipe.image_size)
        self.weights_sha256 = weights_sha256(backbone)
        self._embedder: Any = build_embedder(backbone)
        remember_weights(recipe, self.weights_sha256)

    def versions(self) -> dict[str, str]:
        return {name: _version(name) for name in ("tensorflow", "keras")}

    def session(self) -> Session:
        return _KerasSession(self._embedder, self.batch_size)

    def default_workers(self) -> int:
        return 1  # TensorFlow uses every processor by itself


class _KerasSession:
    def __init__(self, embedder: Any, batch_size: int) -> None:
        self._embedder = embedder
        self.batch_size = batch_size

    def __call__(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        # A last, smaller batch would be compiled anew and would move the last bits of its features.
        missing = self.batch_size - len(images)
        if missing > 0:
            images = np.concatenate([images, np.zeros((missing, *images.shape[1:]), np.float32)])
        features: npt.NDArray[np.float32] = self._embedder.predict_on_batch(images)
        return features[: self.batch_size - missing] if missing > 0 else features


def make_engine(name: str, recipe: Recipe) -> Engine:
    """Make an engine ready for a recipe.

    Parameters
    ----------
    name : {"auto", "litert", "keras"}
        ``auto`` is LiteRT where it is installed, otherwise Keras.
    recipe : Recipe

    Raises
    ------
    EngineError
        When the name is unknown or the engine is not installed.
    WeightsError
        When the weights do not fit.
    """
    if name not in ENGINES:
        raise EngineError(f"parameter engine of extract must be one of {', '.join(ENGINES)}, got {name!r}")
    if name == "auto":
        name = "litert" if find_spec("ai_edge_litert") else "keras"
    if name == "keras":
        return KerasEngine(recipe)
    return LiteRTEngine(load_prepared(recipe) or prepare(recipe))


def available_processors() -> int:
    """Return the number of processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
