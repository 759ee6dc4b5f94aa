"""From decoded pixels to the square image of the backbone, with the arithmetic of TensorFlow, without TensorFlow.

The references are ``tf.image.resize`` with ``bilinear``, ``keras.preprocessing.image.smart_resize`` (crop) and
``tf.image.resize_with_pad`` (pad), which ``image_dataset_from_directory`` calls. The same float32 operations in the
same order give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from .decoding import STRIP_PIXELS, Pixels
from .options import CROP, PAD, STRETCH

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.intp]

_SHOWN_SIDE = 1024
"""Most pixels on a side of a padded image that is shown: the square around a narrow image can be huge."""


def resize(pixels: Pixels, image_size: int, how: str = STRETCH, antialias: bool = False) -> Floats:
    """Resize to float32 (image_size, image_size, 3), 0 to 255."""
    if how == PAD:
        (top, height), (left, width) = _padded_box(pixels.shape[0], pixels.shape[1], image_size)
        square = np.zeros((image_size, image_size, 3), np.float32)
        square[top : top + height, left : left + width] = _resize(pixels, height, width, antialias)
        return square
    return _resize(_cropped(pixels, image_size) if how == CROP else pixels, image_size, image_size, antialias)


def resize_into(out: Floats, pixels: Pixels, how: str = STRETCH, antialias: bool = False) -> None:
    """Resize pixels, if necessary, into an existing array of shape (image_size, image_size, 3)."""
    # a new array of this size costs more in page faults than the conversion
    np.copyto(out, pixels if pixels.shape == out.shape else resize(pixels, len(out), how, antialias))


def resize_read(
    read: Callable[[Places, Places], Pixels | None], height: int, width: int, image_size: int, how: str = STRETCH
) -> Floats | None:
    """Resize without antialiasing an image of which ``read`` gives the pixels of rows and columns, or None."""
    (top, height), (left, width) = _central_box(height, width, image_size) if how == CROP else ((0, height), (0, width))
    whole = (0, image_size), (0, image_size)
    (above, rows), (before, columns) = _padded_box(height, width, image_size) if how == PAD else whole
    (*vertical, y), (*horizontal, x) = _weights(height, rows), _weights(width, columns)
    pixels = read(top + np.concatenate(vertical), left + np.concatenate(horizontal))
    if pixels is None:
        return None
    start, end = (part.astype(np.float32) for part in np.split(pixels, 2, axis=1))
    lines = _between(start, end, x[None, :, None])
    resized = _between(lines[:rows], lines[rows:], y[:, None, None])
    if how != PAD:
        return resized
    square = np.zeros((image_size, image_size, 3), np.float32)
    square[above : above + rows, before : before + columns] = resized
    return square


def framed(pixels: Pixels, image_size: int, how: str) -> Pixels:
    """Return what the backbone sees of an image, in about its own size, to be shown."""
    if how == PAD:
        size = min(max(pixels.shape[:2]), _SHOWN_SIDE)
        return np.rint(resize(pixels, size, PAD, antialias=True)).astype(np.uint8)
    return _cropped(pixels, image_size) if how == CROP else pixels


def _cropped(pixels: Pixels, image_size: int) -> Pixels:
    """Return the central square, as ``smart_resize`` finds it in float32."""
    (top, rows), (left, columns) = _central_box(pixels.shape[0], pixels.shape[1], image_size)
    return pixels[top : top + rows, left : left + columns]


def _central_box(height: int, width: int, image_size: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return start and length of rows and of columns of the central square."""

    def side(own: int, other: int) -> tuple[int, int]:
        length = max(min(own, int(np.float32(other * image_size) / np.float32(image_size))), 1)
        return int(np.float32(own - length) / 2), length

    return side(height, width), side(width, height)


def _padded_box(height: int, width: int, image_size: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return start and length of rows and of columns that an image fills in its square: ``tf.image.resize_with_pad``.

    TensorFlow refuses an image whose shorter side would get less than one pixel. It gets one here.
    """
    target = np.float32(image_size)
    ratio = max(np.float32(width) / target, np.float32(height) / target)

    def side(own: int) -> tuple[int, int]:
        resized = np.float32(own) / ratio
        start, length = int(np.floor((target - resized) / 2)), max(int(np.floor(resized)), 1)
        return min(max(start, 0), image_size - length), length

    return side(height), side(width)


def _resize(pixels: Pixels, height: int, width: int, antialias: bool) -> Floats:
    return _antialiased(pixels, height, width) if antialias else _bilinear(pixels, height, width)


def _bilinear(pixels: Pixels, height: int, width: int) -> Floats:
    columns = pixels.shape[1]
    top, bottom, y = _weights(pixels.shape[0], height)
    left, right, x = _weights(columns, width)

    def row(rows: Places) -> Floats:
        if height * columns <= STRIP_PIXELS:
            part = pixels.take(rows, axis=0)
            start, end = (part.take(places, axis=1).astype(np.float32) for places in (left, right))
        else:  # whole rows would take too much memory
            start, end = (pixels[rows[:, None], places].astype(np.float32) for places in (left, right))
        return _between(start, end, x[None, :, None])

    return _between(row(top), row(bottom), y[:, None, None])


def _between(start: Floats, end: Floats, weight: Floats) -> Floats:
    """Return the values between two arrays, in the second one."""
    end -= start
    end *= weight
    end += start
    return end


@lru_cache(maxsize=64)
def _weights(size: int, target: int) -> tuple[Places, Places, Floats]:
    """Return lower index, upper index and weight of the upper one, with half-pixel centres."""
    scale = np.float32(size) / np.float32(target)
    centre = (np.arange(target, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    floor = np.floor(centre)
    lower = np.maximum(floor, 0).astype(np.intp)
    upper = np.minimum(np.ceil(centre), size - 1).astype(np.intp)
    return lower, upper, centre - floor


def _antialiased(pixels: Pixels, height: int, width: int) -> Floats:
    """Average with a triangle that is as wide as the reduction: rows first, then columns, as ScaleAndTranslate."""
    vertical, horizontal = _spans(pixels.shape[0], height), _spans(pixels.shape[1], width)
    out = np.empty((height, width, 3), np.float32)
    block = max(1, width * STRIP_PIXELS // (height * pixels.shape[1]))  # columns whose rows fit into memory
    for first in range(0, width, block):
        spans = horizontal[first : first + block]
        start, end = spans[0][0], max(start + len(weights) for start, weights in spans)
        part = np.ascontiguousarray(pixels[:, start:end])
        rows = _weighted_sums(part.reshape(len(part), -1), vertical).reshape(height, -1, 3)
        columns = np.ascontiguousarray(rows.transpose(1, 0, 2)).reshape(end - start, -1)
        sums = _weighted_sums(columns, [(place - start, weights) for place, weights in spans])
        out[:, first : first + block] = sums.reshape(-1, height, 3).transpose(1, 0, 2)
    return out


def _weighted_sums(lines: npt.NDArray[np.uint8] | Floats, spans: list[tuple[int, Floats]]) -> Floats:
    """Return, for each span, the sum of its lines times their weights, added one after the other."""
    sums = np.empty((len(spans), lines.shape[1]), np.float32)
    for number, (start, weights) in enumerate(spans):
        part = lines[start : start + len(weights)].astype(np.float32)
        part *= weights
        np.add.reduce(part, axis=0, out=sums[number])
    return sums


@lru_cache(maxsize=16)
def _spans(size: int, target: int) -> list[tuple[int, Floats]]:
    """Return, for each output line, its first input line and their weights (n, 1)."""
    one, half = np.float32(1), np.float32(0.5)
    inverse = one / (np.float32(target) / np.float32(size))
    radius = max(inverse, one)
    centres = (np.arange(target, dtype=np.float32) + half) * inverse
    starts = np.clip(np.ceil(centres - radius - half).astype(np.intp), 0, size - 1)
    ends = np.clip(np.floor(centres + radius - half).astype(np.intp), 0, size - 1) + 1
    places = starts + np.arange((ends - starts).max())[:, None]  # (n, target): sums over n are in order
    weights = np.maximum(one - np.abs((places.astype(np.float32) + half - centres) * (one / radius)), 0)
    weights[places >= ends] = 0
    weights *= one / np.add.reduce(weights, axis=0)
    counts = ends - starts
    return [(int(start), weights[: counts[line], [line]]) for line, start in enumerate(starts)]
