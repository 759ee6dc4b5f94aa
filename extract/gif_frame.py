"""The first frame of a GIF file, as TensorFlow shows it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ..errors import ImageError


def first_frame(data: bytes, check_size: Callable[[int, int], None]) -> npt.NDArray[np.uint8]:
    """Decode the first frame: uint8, shape (height, width, 3). Transparent pixels are black."""
    # the picture has the size of the largest frame, not of the screen; the first frame keeps its offset in it
    from PIL import Image

    flags = data[10]
    place = 13
    palette, place = _palette(data, place, flags)
    transparent, frames, first = -1, [], None
    while place < len(data) and (kind := data[place]) != 0x3B:
        if kind == 0x21:
            if first is None and transparent < 0 and data[place + 1 : place + 3] == b"\xf9\x04" and data[place + 3] & 1:
                transparent = data[place + 6]
            place = _after_blocks(data, place + 2)
        elif kind == 0x2C:
            left, top, width, height = np.frombuffer(data, "<u2", 4, place + 1).tolist()
            flags = data[place + 9]
            local, place = _palette(data, place + 10, flags)
            bits, start = data[place], place + 1
            place = _after_blocks(data, start)
            frames.append((height, width))
            if first is None:
                first = left, top, width, height, bits, bool(flags & 64), data[start:place], local
        else:
            break
    if first is None:
        raise ImageError("truncated GIF: it has no image")
    left, top, width, height, bits, interlaced, blocks, local = first
    palette = palette if local is None else local
    total_height, total_width = max(h for h, _ in frames), max(w for _, w in frames)
    check_size(total_height, total_width)
    if palette is None:
        raise ImageError("damaged GIF: it has no palette")
    frame = Image.frombytes("L", (width, height), blocks, "gif", bits, int(interlaced), -1)
    indices = np.asarray(frame)[: max(total_height - top, 0), : max(total_width - left, 0)]
    visible = indices != transparent
    if (indices[visible] >= len(palette)).any():
        raise ImageError("damaged GIF: a colour is not in its palette")
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(palette)] = palette
    if transparent >= 0:
        colours[transparent] = 0
    pixels = np.zeros((total_height, total_width, 3), np.uint8)
    pixels[top : top + height, left : left + width] = colours[indices]
    return pixels


def _palette(data: bytes, place: int, flags: int) -> tuple[npt.NDArray[np.uint8] | None, int]:
    if not flags & 0x80:
        return None, place
    size = 2 << (flags & 7)
    return np.frombuffer(data, np.uint8, 3 * size, place).reshape(-1, 3), place + 3 * size


def _after_blocks(data: bytes, place: int) -> int:
    """Return the place after a chain of blocks; of a truncated one, the end of the file."""
    while place < len(data) and data[place]:
        place += data[place] + 1
    return min(place + 1, len(data))
