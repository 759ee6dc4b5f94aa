"""Large JPEG files: only the pixels that the resize reads are decoded, two rows and two columns for each of its own.

The bits are those of `decode` and `resize`, in half the time, and with some rows of the image in memory.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .decoding import MAX_PIXELS, Pixels
from .jpeg_header import frame_size
from .jpeg_pixels import jpeg_pixels
from .resizing import Floats, Places, resize_read

FEWEST, LARGE = 100_000, 14
"""Pixels of such a file, at least: this number, and multiple of the resized image. Smaller files are as fast whole."""


def resized_jpeg(data: bytes, image_size: int, how: str, turn: Callable[[Pixels], Pixels]) -> Floats | None:
    """Return the resized image of a large JPEG file, turned before; None if `decode` must read it."""
    if not data.startswith(b"\xff\xd8\xff"):
        return None
    height, width, _ = frame_size(data)
    if not FEWEST + LARGE * image_size**2 <= height * width <= MAX_PIXELS:
        return None
    corner, neighbor = turn(np.arange(4, dtype=np.uint8).reshape(2, 2, 1))[0, :, 0].tolist()
    transposed = abs(neighbor - corner) == 2

    def read(rows: Places, columns: Places) -> Pixels | None:
        if transposed:
            rows, columns = columns, rows
        if corner & 2:
            rows = height - 1 - rows[::-1]
        if corner & 1:
            columns = width - 1 - columns[::-1]
        pixels = jpeg_pixels(data, rows, columns)
        return None if pixels is None else turn(pixels)

    return resize_read(read, *((width, height) if transposed else (height, width)), image_size, how)
