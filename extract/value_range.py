"""Images of 16 bits: which files have them, and their values stretched to 0 to 255."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import ImageError
from .orientation import tiff_number

if TYPE_CHECKING:
    from PIL import Image

Box = tuple[int, int, int, int]
Read = Callable[[Box], npt.NDArray[Any]]
"""Returns the values of a part of an image: uint8, uint16 or int32 of shape (h, w) or (h, w, c)."""

_BITS_PER_SAMPLE = 0x0102
_PNM = re.compile(rb"P[56]" + 3 * rb"(?:\s|#[^\r\n]*[\r\n])+(\d{1,9})" + rb"\s")
_JPEG_2000 = b"\xff\x4f\xff\x51"
_OTHER_BYTE = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
"""Byte order in Pillow's names of colours of 16 bits, of which it keeps the high byte: the order that keeps the low."""


def has_16_bits(data: bytes) -> bool:
    """Return whether a PNG, TIFF, binary PNM or JPEG 2000 file has samples of 9 to 16 bits."""
    if data.startswith(b"\x89PNG"):
        return data[24:25] == b"\x10"
    if data.startswith((b"II", b"MM")):
        return 8 < tiff_number(data, _BITS_PER_SAMPLE) <= 16
    if header := _PNM.match(data):
        return int(header[3]) > 255
    place = data.find(_JPEG_2000) if data.startswith((_JPEG_2000, b"\0\0\0\x0cjP")) else -1
    return place >= 0 and (data[place + 42 : place + 43] or b"\0")[0] & 127 >= 8


def reader_of(data: bytes, image: Image.Image, opened: Callable[[], Image.Image]) -> Read:
    """Return a function that reads values of an image of 16 bits; without alpha.

    ``image`` is loaded, and ``opened`` opens it again. Values have 8 bits where Pillow gives no more: in colour TIFF
    files of separate planes or of CMYK, and in colour JPEG 2000 files.
    """
    if header := _PNM.match(data):
        values = np.frombuffer(data, ">u2", offset=header.end(), count=(len(data) - header.end()) // 2)
        shape = (image.height, image.width, *(3,) * (data[:2] == b"P6"))
        if values.size < np.prod(shape):
            raise ImageError("truncated PNM: its end is missing")
        rows = values[: np.prod(shape)].reshape(shape)
        return lambda box: rows[box[1] : box[3], box[0] : box[2]]
    if image.mode.startswith("I"):
        return lambda box: np.asarray(image.crop(box))
    with opened() as again:
        layout = _layout(again)
        if layout == "LA;16B":  # two samples of 16 bits are read as four of 8
            pairs = _loaded_as(again, "RGBA")
            return lambda box: _joined(*(np.asarray(pairs.crop(box))[..., channel] for channel in (0, 1)))
        other = layout[:-1] + _OTHER_BYTE.get(layout[-1:], "")
        if other in ("RGB;16B", "RGB;16L", "RGBA;16B", "RGBA;16L", "RGBX;16B", "RGBX;16L"):
            low = _loaded_as(again, other)
            return lambda box: _joined(*(np.asarray(part.crop(box))[..., :3] for part in (image, low)))
    return lambda box: np.asarray(image.crop(box).convert("RGB"))


def _layout(image: Any) -> str:
    """Return Pillow's name of the layout of an image's samples; empty if it has several."""
    layouts = {tile.args if isinstance(tile.args, str) else str(tile.args[0]) for tile in image.tile if tile.args}
    return layouts.pop() if len(layouts) == 1 else ""


def _loaded_as(image: Any, layout: str) -> Image.Image:
    """Return an image, opened and not loaded, with its samples read as another layout."""
    image.tile = [
        tile._replace(args=layout if isinstance(tile.args, str) else (layout, *tile.args[1:])) for tile in image.tile
    ]
    image.load()
    loaded: Image.Image = image
    return loaded


def _joined(high: npt.NDArray[np.uint8], low: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
    values: npt.NDArray[np.uint16] = high.astype(np.uint16) * np.uint16(256) + low
    return values


def stretched(read: Read, height: int, width: int, rows: int) -> npt.NDArray[np.uint8]:
    """Return an image whose smallest and largest value became 0 and 255, by reading some rows at once, twice."""
    boxes = [(0, top, width, min(top + rows, height)) for top in range(0, height, rows)]
    low = min(int(read(box).min()) for box in boxes)
    high = max(int(read(box).max()) for box in boxes)
    levels = np.rint((np.arange(high + 1) - low) * (255 / max(high - low, 1))).clip(0).astype(np.uint8)
    pixels = np.empty((height, width, 3), np.uint8)
    for box in boxes:
        part = levels[read(box)]
        pixels[box[1] : box[3]] = part if part.ndim == 3 else part[..., None]
    return pixels
