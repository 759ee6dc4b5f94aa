"""Views of an image, turned and mirrored: their features stand in caches of their own beside the images' cache.

Row by row they have the paths and contents of the images that they are views of, so that no view can come onto another
side of a split than its image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ParameterError

Array = npt.NDArray[Any]

IDENTITY = "identity"

TURNS: Mapping[str, Callable[[Array], Array]] = {
    IDENTITY: lambda pixels: pixels,
    "flip-left-right": np.fliplr,
    "flip-top-bottom": np.flipud,
    "rotate-180": lambda pixels: pixels[::-1, ::-1],
    "rotate-90": np.rot90,
    "rotate-270": lambda pixels: np.rot90(pixels, 3),
    "transpose": lambda pixels: pixels.transpose(1, 0, 2),
    "transverse": lambda pixels: pixels[::-1, ::-1].transpose(1, 0, 2),
}
"""What makes each view of the pixels (h, w, 3): Pillow's names, angles counterclockwise."""

VIEWS: dict[str, tuple[str, ...]] = {"none": (), "flips": tuple(TURNS)[1:4], "dihedral": tuple(TURNS)[1:]}
"""Which views there are beside the image itself."""


def view_names(views: str) -> tuple[str, ...]:
    """Return the names of the views beside the image itself.

    Raises
    ------
    ParameterError
        When there is no such choice.
    """
    if views not in VIEWS:
        raise ParameterError(f"parameter views must be one of {', '.join(VIEWS)}, got {views!r}")
    return VIEWS[views]


def view_path(cache: Path, view: str) -> Path:
    """Return where the features of a view of the images of a cache stand, in the same form."""
    stem = cache.name if cache.suffix not in (".h5", ".hdf5", ".cache") else cache.stem
    return cache.with_name(f"{stem}.views") / f"{view}{'.cache' if cache.is_dir() else '.h5'}"
