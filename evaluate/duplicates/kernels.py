"""The compiled inner loops of the search, if there was a C compiler: they take a twentieth of the time of NumPy's."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np


@lru_cache(maxsize=1)
def kernels() -> Any | None:
    """Return the compiled functions, which take contiguous arrays and run without Python's lock, or None."""
    spec = find_spec(f"{__package__}._kernels")
    if spec is None or spec.origin is None:
        return None
    kinds = np.float32, np.uint16, np.bool_, np.int64
    floats, halves, flags, whole = (np.ctypeslib.ndpointer(kind, flags="C") for kind in kinds)
    count, number, real = ctypes.c_int64, ctypes.c_int32, ctypes.c_float
    functions = {
        "embedonce_descend": [floats, floats, flags, floats, floats, count, number, number, number, real, real],
        "embedonce_correlate": [halves, floats, count, whole, count, number, number, floats, flags, whole, whole],
        "embedonce_shift": [floats, floats, floats, flags, count, floats, floats],
    }
    try:
        library = ctypes.CDLL(spec.origin)
        for name, arguments in functions.items():
            function = getattr(library, name)
            function.argtypes, function.restype = arguments, None
    except (OSError, AttributeError):  # of another processor, or of a compiler without vectors
        return None
    return library
