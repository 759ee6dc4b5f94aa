"""What can be chosen about an extraction: the names of the choices, and which of them exclude each other.

Precision and decoding decide feature values, and are part of the fingerprint; the means decide none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..errors import ParameterError, check_int
from .engine_registry import ENGINES, engines_for

AUTO = "auto"

DTYPES = {"float32": "float32", "int8": "int8", "float16": "mixed_float16", "bfloat16": "mixed_bfloat16"}
"""Precision: what the fingerprint has as ``dtype``."""

DECODERS = {"exact": "tensorflow decode_image", "reduced": "tensorflow decode_image, large JPEG reduced"}
"""Decoding: what the fingerprint has as ``decoder``."""


@dataclass(frozen=True)
class ComputeOptions:
    """What computes, and with how much of the machine.

    Attributes
    ----------
    engine : str
        ``auto``, or one of :data:`embedonce.extract.engine_registry.ENGINES`.
    workers : int or None
        Threads that read, decode and embed; None for what suits the engine.
    threads : int or None
        Threads inside each interpreter, or of TensorFlow; None for what suits the engine.
    """

    engine: str = AUTO
    workers: int | None = None
    threads: int | None = None


def check_options(means: ComputeOptions, precision: str, decoding: str = "exact") -> None:
    """Refuse what cannot be, before any work.

    Raises
    ------
    ParameterError
        When there is no such choice, or two of them exclude each other.
    """
    _require_one_of("engine", means.engine, (AUTO, *ENGINES))
    _require_one_of("precision", precision, DTYPES)
    _require_one_of("decoding", decoding, DECODERS)
    for name, value in (("workers", means.workers), ("threads", means.threads)):
        if value is not None:
            check_int(name, "extract", value, 1)
    if means.engine == "native" and means.threads not in (None, 1):
        raise ParameterError(
            f"parameter threads of extract must be 1 for engine native, got {means.threads}; its sessions share their "
            "weights and need a few megabytes each: use --workers, or engine litert"
        )
    allowed = (AUTO, *engines_for(precision))
    if means.engine not in allowed:
        raise ParameterError(
            f"parameter engine of extract must be {' or '.join(allowed)} for precision {precision}, got "
            f"{means.engine!r}; {means.engine} computes {' or '.join(ENGINES[means.engine].precisions)}"
        )


def _require_one_of(name: str, value: Any, allowed: Iterable[str]) -> None:
    if value not in tuple(allowed):
        raise ParameterError(f"parameter {name} of extract must be one of {', '.join(allowed)}, got {value!r}")
