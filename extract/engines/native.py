"""The native engine: embedonce's compiled kernels, with the same bits for every width of vectors."""

from __future__ import annotations

import ctypes
import os
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import EngineError, ParameterError, first_line
from .native_plan import Program, aligned

LANES = "EMBEDONCE_LANES"
"""Environment variable that sets the width of the vectors, in floats."""
_WIDTHS = (16, 8, 4)  # AVX-512, AVX2, NEON
_POINTER = ctypes.c_void_p


class NativeSession:
    """A program with the memory for one thread; sessions can share the program."""

    batch_size = 1

    def __init__(self, program: Program) -> None:
        library = require_native()
        size = program.plan.size
        self._image = aligned(size * size * 3).reshape(size, size, 3)
        self._features, self._written = program.features, program.plan.features
        self._arena = aligned(program.arena)
        self._pointers = (ctypes.c_void_p * program.plan.pixels)()
        self._program = program  # keeps its weights alive
        self._embed = getattr(library, f"embedonce_embed_{program.lanes}")
        self._embed.restype = None
        self._fixed = (
            ctypes.byref(program.plan),
            program.blocks,
            _POINTER(program.weights.ctypes.data),
            _POINTER(self._arena.ctypes.data),
            self._pointers,
            _POINTER(self._image.ctypes.data),
        )

    def slot(self, position: int) -> npt.NDArray[np.float32]:
        """Return the input: float32, shape (s, s, 3), 0 to 255."""
        return self._image

    def run(self, count: int) -> npt.NDArray[np.float32]:
        """Embed the image in the slot: float32, shape (1, d)."""
        features = np.empty((1, self._written), np.float32)
        self._embed(*self._fixed, _POINTER(features.ctypes.data))  # other Python threads run meanwhile
        return features[:, : self._features]


def require_native() -> Any:
    """Return the compiled kernels, for ctypes; raise EngineError when this machine cannot run them."""
    library = _library()
    if isinstance(library, str):
        raise EngineError(f"the engine native cannot run here: {library}. Use --engine litert")
    return library


def why_not_native() -> str:
    """Return why the native engine cannot run on this machine; an empty string when it can."""
    library = _library()
    return library if isinstance(library, str) else ""


def supported_lanes() -> list[int]:
    """Return the widths of vectors that this processor has kernels for, in floats, widest first."""
    library = _library()
    return [] if isinstance(library, str) else [lanes for lanes in _WIDTHS if library.embedonce_supported(lanes)]


def chosen_lanes() -> int:
    """Return the widest vectors of this processor, or those that ``$EMBEDONCE_LANES`` sets."""
    require_native()
    possible = [str(lanes) for lanes in supported_lanes()]
    wanted = os.environ.get(LANES) or possible[0]
    if wanted not in possible:
        raise ParameterError(
            f"environment variable {LANES} must be one of {', '.join(possible)} on this processor, got {wanted!r}"
        )
    return int(wanted)


@lru_cache(maxsize=1)
def _library() -> Any | str:
    """Return the compiled kernels, or the reason why there are none."""
    spec = find_spec(f"{__package__}._kernels")
    if spec is None or spec.origin is None:
        return "its kernels were not compiled, because there was no C compiler when embedonce was installed"
    try:
        library = ctypes.CDLL(spec.origin)
        supported = any(library.embedonce_supported(lanes) for lanes in _WIDTHS)
    except (OSError, AttributeError) as error:
        return f"its kernels cannot be loaded ({first_line(error)})"
    if not supported:
        return "it needs an x86-64 processor with AVX2 and FMA, or a 64-bit ARM processor"
    return library
