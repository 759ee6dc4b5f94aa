"""The EXIF orientation of image files: how a camera was held, which most decoders ignore."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

from .jpeg_header import exif_of_jpeg

_ORIENTATION = 0x0112
_SHORT = 3


def orientation_of(data: bytes) -> int:
    """Return the orientation of a JPEG, PNG or WebP file, 2 to 8; 1 for an upright image, or if there is none.

    The decoders of TIFF, HEIC and AVIF turn their images themselves.
    """
    if data.startswith(b"\xff\xd8\xff"):
        exif = exif_of_jpeg(data) if b"Exif\0\0" in data else b""
    elif data.startswith(b"\x89PNG"):
        exif = exif_of_png(data)
    elif data[8:12] == b"WEBP":
        exif = _exif_of_chunks(data, 12, b"EXIF", "<4sI", skipped=0)
    else:
        return 1
    return _orientation(exif.removeprefix(b"Exif\0\0"))


def upright(pixels: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """Return pixels (h, w, 3) as they are shown, by their orientation (EXIF 2.32, 4.6.4 A)."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def exif_of_png(data: bytes) -> bytes:
    """Return the EXIF data of a PNG file; empty if there are none."""
    return _exif_of_chunks(data, 8, b"eXIf", ">I4s", skipped=4)


def _exif_of_chunks(data: bytes, place: int, wanted: bytes, layout: str, skipped: int) -> bytes:
    """Return the content of a chunk; ``skipped`` bytes follow each, and WebP pads odd lengths."""
    while place + 8 <= len(data):
        first, second = struct.unpack_from(layout, data, place)
        name, length = (first, second) if isinstance(first, bytes) else (second, first)
        if name == wanted:
            return data[place + 8 : place + 8 + length]
        place += 8 + length + skipped + (length % 2 if not skipped else 0)
    return b""


def _orientation(exif: bytes) -> int:
    value = tiff_number(exif, _ORIENTATION)
    return value if 1 <= value <= 8 else 1


def tiff_number(data: bytes, wanted: int) -> int:
    """Return the first value of a tag of short integers in a TIFF file, or EXIF data; 0 if there is none."""
    order = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}.get(data[:4])
    if order is None or len(data) < 16:
        return 0
    big = b"+" in data[:4]  # BigTIFF
    number, short, size, head = (f"{order}Q", f"{order}Q", 8, 12) if big else (f"{order}I", f"{order}H", 4, 8)
    (start,) = struct.unpack_from(number, data, 8 if big else 4)
    first, length = start + struct.calcsize(short), head + size
    if first > len(data):
        return 0
    (count,) = struct.unpack_from(short, data, start)
    for place in range(first, min(first + length * min(count, 65_535), len(data) - length + 1), length):
        tag, kind, values = struct.unpack_from(f"{order}HH{number[1:]}", data, place)
        if tag == wanted and kind == _SHORT:
            value = place + head
            if 2 * values > size:  # they are elsewhere
                (value,) = struct.unpack_from(number, data, value)
            return int(struct.unpack_from(f"{order}H", data, value)[0]) if value <= len(data) - 2 else 0
    return 0
