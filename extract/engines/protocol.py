"""What every engine offers, and the proof that it computes what it should."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ...errors import EngineError
from ..backbone import Weights
from ..recipe import Hashes
from .tolerance import allowed_difference

Expect = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]


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


class PreparedModel(NamedTuple):
    """What an engine reads, made of a recipe's weights.

    Attributes
    ----------
    weights : mapping of str to ndarray
    model : bytes
    made_with : str
        Package and version.
    """

    weights: Weights
    model: bytes
    made_with: str


def check_against_reference(expect: Expect, session: Session, image_size: int, engine: str, reference: str) -> None:
    """Run two images through an engine, smooth and rough, before anybody relies on it.

    Parameters
    ----------
    expect : callable
        Gives the features, shape (n, d), of images of float32, shape (n, s, s, 3), 0 to 255.
    session : Session
    image_size : int
    engine, reference : str
        As the error names the engine and what ``expect`` computes with.

    Raises
    ------
    EngineError
        When their features differ by more than float32 explains.
    """
    rows = np.linspace(0, 255, image_size, dtype=np.float32)
    smooth = np.stack(
        [np.add.outer(rows, rows) / 2, np.tile(rows, (image_size, 1)), np.tile(rows[:, None], image_size)]
    )
    rough = np.random.RandomState(0).uniform(0, 255, (image_size, image_size, 3))
    images = np.stack([smooth.transpose(1, 2, 0), rough]).astype(np.float32)
    expected = expect(images)
    got = []
    for image in images:
        np.copyto(session.slot(0), image)
        got.append(session.run(1)[0])
    difference = float(np.abs(np.stack(got) - expected).max())
    if not difference <= allowed_difference(expected):
        raise EngineError(
            f"the engine {engine} differs from {reference} by {difference:.2g} on this machine; use another --engine"
        )
