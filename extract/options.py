"""Options of an extraction: their allowed values, and which of them exclude each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import ParameterError, check_choice, check_flag, check_int

EngineName = Literal["auto", "native", "litert", "keras"]
Precision = Literal["float32", "int8", "float16", "bfloat16"]
Decoding = Literal["exact", "reduced"]
Orientation = Literal["stored", "exif"]
Layout = Literal["auto", "classes"]
Resize = Literal["stretch", "crop", "pad"]
ValueRange = Literal["stored", "stretch"]
Views = Literal["none", "flips", "dihedral"]

AUTO = "auto"
STORED, EXIF = "stored", "exif"
ORIENTATIONS = (STORED, EXIF)
LAYOUTS = ("auto", "classes")
VALUE_RANGES = (STORED, "stretch")
STRETCH, CROP, PAD = "stretch", "crop", "pad"

ENGINES = {"native": ("float32",), "litert": ("float32", "int8"), "keras": ("float32", "float16", "bfloat16")}
"""Engine: the precisions that it computes."""

DTYPES = {"float32": "float32", "int8": "int8", "float16": "mixed_float16", "bfloat16": "mixed_bfloat16"}
"""Precision: its ``dtype`` in the fingerprint."""

DECODERS = {"exact": "tensorflow decode_image", "reduced": "tensorflow decode_image, large JPEG reduced"}
"""Decoding: its ``decoder`` in the fingerprint."""

FRAMES = {STRETCH: "", CROP: ", cropped to the central square", PAD: ", padded with 0 to a square"}
RESIZES = {
    (how, antialias): f"bilinear, {'' if antialias else 'no '}antialiasing{frame}"
    for how, frame in FRAMES.items()
    for antialias in (False, True)
}
"""Resize, and whether with antialiasing: their ``resize`` in the fingerprint."""


@dataclass(frozen=True)
class ImageOptions:
    """How image files become the pixels of the backbone. Each value is in the fingerprint."""

    decoding: str = "exact"
    orientation: str = STORED
    resize: str = STRETCH
    antialias: bool = False
    value_range: str = STORED


@dataclass(frozen=True)
class ComputeOptions:
    """Engine, threads that embed, and threads inside each interpreter (None: default); they change no feature."""

    engine: str = AUTO
    workers: int | None = None
    threads: int | None = None


def engines_for(precision: str) -> list[str]:
    """Return the names of the engines that compute a precision."""
    return [name for name, precisions in ENGINES.items() if precision in precisions]


def check_options(options: ComputeOptions, precision: str, images: ImageOptions | None = None) -> None:
    """Raise ParameterError for an unknown value, and for options that exclude each other."""
    check_choice("engine", "extract", options.engine, (AUTO, *ENGINES))
    check_choice("precision", "extract", precision, DTYPES)
    images = images or ImageOptions()
    check_choice("decoding", "extract", images.decoding, DECODERS)
    check_choice("orientation", "extract", images.orientation, ORIENTATIONS)
    check_choice("resize", "extract", images.resize, FRAMES)
    check_flag("antialias", "extract", images.antialias)
    check_choice("value_range", "extract", images.value_range, VALUE_RANGES)
    for name, value in (("workers", options.workers), ("threads", options.threads)):
        if value is not None:
            check_int(name, "extract", value, 1)
    if options.engine == "native" and options.threads not in (None, 1):
        raise ParameterError(
            f"parameter threads of extract must be 1 for engine native, got {options.threads}. Use --workers: native "
            "sessions share their weights and need a few megabytes each. Or use engine litert"
        )
    allowed = (AUTO, *engines_for(precision))
    if options.engine not in allowed:
        raise ParameterError(
            f"parameter engine of extract must be {' or '.join(allowed)} for precision {precision}, got "
            f"{options.engine!r}; {options.engine} computes {' or '.join(ENGINES[options.engine])}"
        )
