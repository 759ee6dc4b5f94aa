"""Augmented views: mirrored and rotated images, with their own caches of the same rows next to that of the images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ParameterError, describe

Array = npt.NDArray[Any]

IDENTITY = "identity"

VIEW_TRANSFORMS: Mapping[str, Callable[[Array], Array]] = {
    IDENTITY: lambda pixels: pixels,
    "flip-left-right": np.fliplr,
    "flip-top-bottom": np.flipud,
    "rotate-180": lambda pixels: pixels[::-1, ::-1],
    "rotate-90": np.rot90,
    "rotate-270": lambda pixels: np.rot90(pixels, 3),
    "transpose": lambda pixels: pixels.transpose(1, 0, 2),
    "transverse": lambda pixels: pixels[::-1, ::-1].transpose(1, 0, 2),
}
"""Transform of pixels (h, w, 3) for each view: Pillow's names, angles counterclockwise."""

VIEWS: dict[str, tuple[str, ...]] = {
    "none": (),
    "flips": tuple(VIEW_TRANSFORMS)[1:4],
    "dihedral": tuple(VIEW_TRANSFORMS)[1:],
}
"""Augmented views of each choice, without the image itself."""


def view_names(views: str) -> tuple[str, ...]:
    """Return the augmented views of a choice, without the image itself; raise ParameterError for an unknown choice."""
    if not isinstance(views, str) or views not in VIEWS:
        raise ParameterError(f"parameter views must be one of {', '.join(VIEWS)}, got {describe(views)}")
    return VIEWS[views]


def view_path(cache: Path, view: str) -> Path:
    """Return the path of the cache of an augmented view, in the form of the images' cache."""
    stem = cache.name if cache.suffix not in (".h5", ".hdf5", ".cache") else cache.stem
    return cache.with_name(f"{stem}.views") / f"{view}{'.cache' if cache.is_dir() else '.h5'}"
