"""Inference engines behind one interface: make a session per worker, call it with images.

``litert`` is the fast one on a processor; ``keras`` is the reference, and what a GPU uses.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..cache.errors import EngineError
from .processors import available_processors
from .recipe import Recipe
from .store import Prepared, load_prepared, prepare, remember_weights

ENGINES = ("auto", "litert", "keras")


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
        self._image_size = recipe.image_size
        remember_weights(recipe, self.weights_sha256)

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


def check_engine(name: str) -> None:
    """Raise `EngineError` for a name that `make_engine` does not know."""
    if name not in ENGINES:
        raise EngineError(f"parameter engine of extract must be one of {', '.join(ENGINES)}, got {name!r}")


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
    check_engine(name)
    if name == "auto":
        name = "litert" if find_spec("ai_edge_litert") else "keras"
    if name == "keras":
        return KerasEngine(recipe)
    return LiteRTEngine(load_prepared(recipe) or prepare(recipe))


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
