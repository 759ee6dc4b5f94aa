"""Image formats that TensorFlow does not read: WebP, TIFF, JPEG 2000, AVIF, PNM, HEIC and DICOM."""

from __future__ import annotations

import contextlib
import ctypes
import io
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ImageError

if TYPE_CHECKING:
    from PIL import Image

OTHER_SUFFIXES = tuple(b".avif .dcm .heic .heif .jp2 .pbm .pgm .pnm .ppm .tif .tiff .webp".split())
EXTRA_PACKAGES = ("pillow-heif", "pydicom")
"""Packages of extras, which read HEIC and DICOM."""

SMALLER_LIMITS = {"WebP": 36_000_000, "JPEG 2000": 25_000_000}
"""Most pixels in formats whose decoders need 16 to 24 bytes for each, so that one image never takes 600 MB."""

CheckSize = Callable[[int, int], None]
_STRIP_PIXELS = 4_000_000
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_PILLOW = {"WebP": "WEBP", "TIFF": "TIFF", "JPEG 2000": "JPEG2000", "AVIF": "AVIF", "PNM": "PPM"}
_MAGICS = (
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),  # of more than 4 GB, and others that programs write in this form
    (0, b"MM\0+", "TIFF"),
    (0, b"\0\0\0\x0cjP", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\0\x0cJXL", "JPEG XL"),
    (0, b"%PDF", "PDF"),
    (0, b"8BPS", "Photoshop"),
    (0, b"<", "HTML or XML text"),
    (8, b"WEBP", "WebP"),
    (128, b"DICM", "DICOM"),
)
_AVIF = {b"avif", b"avis"}
_HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}


def other_format(data: bytes) -> str:
    """Return the format of a file that is none of TensorFlow's, by its content; an empty text if it is unknown."""
    for place, magic, name in _MAGICS:
        if data.startswith(magic, place):
            return name
    if data[:1] == b"P" and data[1:2] in b"123456" and data[2:3].isspace():
        return "PNM"
    if data[4:8] == b"ftyp":
        brands = {data[8:12], *(data[start : start + 4] for start in range(16, min(data[3], 128), 4))}
        if brands & _AVIF:
            return "AVIF"
        if brands & _HEIC:
            return "HEIC"
    return ""


def decoder_versions() -> dict[str, str]:
    """Return the versions of the installed packages of extras, by name."""
    from importlib.metadata import PackageNotFoundError, version  # parsers of e-mail headers, which take 20 ms

    versions = {}
    for name in EXTRA_PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def open_other(data: bytes, name: str, check_size: CheckSize) -> Image.Image:
    """Open a file of a format of `other_format`; raise ImageError if it cannot be read here.

    ``check_size`` (height, width) raises an error for an image that is too large to be decoded.
    """
    from PIL import Image, features

    if name == "HEIC":
        try:
            from pillow_heif import HeifImageFile
        except ImportError as error:
            raise ImageError("HEIC files need another package. Install embedonce[heic], or convert it") from error
        heif: Image.Image = HeifImageFile(io.BytesIO(data))
        return heif
    if name == "DICOM":
        return _open_dicom(data, check_size)
    if name not in _PILLOW:
        raise ImageError(f"unsupported format: {name}. Convert it to JPEG or PNG")
    if name in ("AVIF", "WebP") and not features.check(name.lower()):
        raise ImageError(f"this Pillow does not read {name} files. Install another build of Pillow, or convert it")
    if name == "PNM" and data[1:2] in b"123":  # Pillow reads the text in Python, a megapixel in a second
        raise ImageError("unsupported format: PNM as text. Convert it to binary PNM, JPEG or PNG")
    if name == "TIFF":
        _silence_libtiff()
    image = Image.open(io.BytesIO(data), formats=[_PILLOW[name]])
    if image.mode in ("F", "LAB", "HSV") or (name == "TIFF" and image.mode == "I"):
        numbers = {"F": "fractions", "I": "numbers of 32 bits"}.get(image.mode, f"colours of the kind {image.mode}")
        raise ImageError(f"unsupported {name}: {numbers}. Save it with 8 or 16 bits, gray or RGB")
    return image


def open_lazily(file: Any, name: str) -> Image.Image | None:
    """Open a file object of a format of `other_format` without its pixels; None if only its decoder knows its size."""
    from PIL import Image

    if name not in _PILLOW:
        return None
    if name == "TIFF":
        _silence_libtiff()
    return Image.open(file, formats=[_PILLOW[name]])


@lru_cache(maxsize=1)
def _silence_libtiff() -> None:
    """Keep libtiff from writing about damaged files to standard error; Pillow raises an error anyway."""
    from PIL import _imaging

    with contextlib.suppress(OSError, AttributeError):  # where it is linked in another way
        ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)


def _open_dicom(data: bytes, check_size: CheckSize) -> Image.Image:
    """Return the first frame of a DICOM file, gray or RGB, with its window of values as they are shown."""
    from PIL import Image

    try:
        from pydicom import dcmread
        from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, pixel_array
    except ImportError as error:
        raise ImageError("DICOM files need another package. Install embedonce[dicom], or convert it") from error
    if _DEFLATED in data[:2000]:  # of which a few kilobytes can become gigabytes
        raise ImageError("unsupported DICOM: deflated as a whole. Save it in another transfer syntax")
    dataset: Any = dcmread(io.BytesIO(data))
    if "PixelData" not in dataset or "Rows" not in dataset or "Columns" not in dataset:
        raise ImageError("this DICOM file has no pixels")
    check_size(int(dataset.Rows), int(dataset.Columns))
    pixels = pixel_array(dataset, index=0)  # YBR becomes RGB
    kind = str(dataset.PhotometricInterpretation)
    is_gray = pixels.ndim == 2 and kind != "PALETTE COLOR"
    if kind == "PALETTE COLOR":
        low, high = 0.0, 2.0 ** dataset.RedPaletteColorLookupTableDescriptor[2]
    else:
        low, high = _range_of(dataset) if is_gray else (0.0, 2.0**dataset.BitsStored)
    shown = np.empty(pixels.shape[:2] if is_gray else (*pixels.shape[:2], 3), np.uint8)
    for row in range(0, len(pixels), rows := max(1, _STRIP_PIXELS // pixels.shape[1])):  # a copy of all takes too much
        part = pixels[row : row + rows]
        if kind == "PALETTE COLOR":
            part = apply_color_lut(part, dataset)
        elif is_gray:
            part = apply_voi_lut(apply_modality_lut(part, dataset), dataset, index=0)
        shown[row : row + rows] = np.clip((part.astype(np.float32) - low) * (256 / (high - low)), 0, 255)
    return Image.fromarray(255 - shown if kind == "MONOCHROME1" else shown)


def _range_of(dataset: Any) -> tuple[float, float]:
    """Return the range of the values that are shown, from black to beyond white (DICOM PS3.3, C.11.1 and C.11.2)."""
    for sequence in ("VOILUTSequence", "ModalityLUTSequence"):
        if dataset.get(sequence) and not (sequence == "VOILUTSequence" and "WindowWidth" in dataset):
            return 0.0, 2.0 ** dataset[sequence][0].LUTDescriptor[2]
    start = -(2.0 ** (dataset.BitsStored - 1)) if dataset.PixelRepresentation else 0.0
    slope, intercept = float(dataset.get("RescaleSlope") or 1), float(dataset.get("RescaleIntercept") or 0)
    low, high = start * slope + intercept, (start + 2.0**dataset.BitsStored) * slope + intercept
    return (low, high) if low < high else (high, low)
