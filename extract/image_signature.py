"""Signatures: thumbnails for the search for near-duplicates, as docs/FORMAT.md defines them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

SIGNATURE_SIZE = 28

_LUMA = (299, 587, 114)  # thousandths of red, green and blue: ITU-R BT.601


def signature(image: npt.NDArray[np.float32] | npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the luma of an image (s, s, 3), 0 to 255, averaged over 28 x 28 areas: uint8, shape (784,), row by row."""
    return signature_and_color(image)[0]


def signature_and_color(
    image: npt.NDArray[np.float32] | npt.NDArray[np.uint8],
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return the signature, and the rounded means of red, green and blue: uint8, shapes (784,) and (3,)."""
    # whole numbers give the same bytes in float32 and uint8, because every sum has one order
    size = len(image)
    rows = _sums(image.reshape(size, -1))
    across = np.ascontiguousarray(rows.T).reshape(size, -1)  # so that both passes add whole rows
    sums = _sums(across).reshape(SIGNATURE_SIZE, 3, SIGNATURE_SIZE).astype(np.float64)
    red, green, blue = (weight * sums[:, channel].T for channel, weight in enumerate(_LUMA))
    luma: npt.NDArray[np.uint8] = np.rint((red + green + blue) / _thousandfold_areas(size)).astype(np.uint8)
    color: npt.NDArray[np.uint8] = np.rint(sums.sum((0, 2)) / size**2).astype(np.uint8)
    return luma.reshape(-1), color


def _sums(lines: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return the sums of 28 blocks of rows; those of whole numbers are exact in float32."""
    size, width = lines.shape
    if size % SIGNATURE_SIZE == 0:  # the same additions in one call
        whole: npt.NDArray[np.float32] = lines.reshape(SIGNATURE_SIZE, -1, width).sum(axis=1, dtype=np.float32)
        return whole
    sums = np.empty((SIGNATURE_SIZE, width), np.float32)
    borders = _borders(size)
    for index in range(SIGNATURE_SIZE):
        np.add.reduce(lines[borders[index] : borders[index + 1]], axis=0, dtype=np.float32, out=sums[index])
    return sums


@lru_cache(maxsize=8)
def _borders(size: int) -> list[int]:
    """Return the borders of the areas: k * size / 28, rounded, halves up."""
    return [(2 * size * k + SIGNATURE_SIZE) // (2 * SIGNATURE_SIZE) for k in range(SIGNATURE_SIZE + 1)]


@lru_cache(maxsize=8)
def _thousandfold_areas(size: int) -> npt.NDArray[np.float64]:
    lengths = np.diff(_borders(size)).astype(np.float64)
    return 1000 * np.outer(lengths, lengths)
