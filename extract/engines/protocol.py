"""The interface of an engine, and the check that it computes the reference's features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ...errors import EngineError
from ..recipe import Hashes
from .tolerance import allowed_difference

Images = npt.NDArray[np.float32]
Features = npt.NDArray[np.float32]


class Session(Protocol):
    """One worker's part of an engine: slots for images, and a run over them."""

    @property
    def batch_size(self) -> int:
        """Number of slots."""

    def slot(self, position: int) -> Images:
        """Return a slot: float32, shape (s, s, 3), 0 to 255. Drop the reference before the run."""

    def run(self, count: int) -> Features:
        """Embed the first ``count`` slots: float32, shape (count, d), a new array."""


class Engine(Protocol):
    """A backbone on an inference runtime."""

    name: str
    hashes: Hashes

    def versions(self) -> dict[str, str]:
        """Return the versions of the runtime, for the provenance."""

    def session(self) -> Session:
        """Return a session for one thread."""

    def default_workers(self) -> int:
        """Return the number of threads that is fastest on this machine."""


def check_against_reference(
    reference: Callable[[Images], Features], session: Session, image_size: int, names: tuple[str, str]
) -> None:
    """Raise EngineError when the features of two images, smooth and rough, differ from those of a reference."""
    # the reference maps images (n, s, s, 3), 0 to 255, to features (n, d); names are those of engine and reference
    rows = np.linspace(0, 255, image_size, dtype=np.float32)
    smooth = np.stack(
        [np.add.outer(rows, rows) / 2, np.tile(rows, (image_size, 1)), np.tile(rows[:, None], image_size)]
    )
    rough = np.random.RandomState(0).uniform(0, 255, (image_size, image_size, 3))
    images = np.stack([smooth.transpose(1, 2, 0), rough]).astype(np.float32)
    expected = reference(images)
    features = []
    for image in images:
        np.copyto(session.slot(0), image)
        features.append(session.run(1)[0])
    difference = float(np.abs(np.stack(features) - expected).max())
    if not difference <= allowed_difference(expected):
        raise EngineError(
            f"the engine {names[0]} differs from {names[1]} by {difference:.2g} on this machine. Use another --engine"
        )
