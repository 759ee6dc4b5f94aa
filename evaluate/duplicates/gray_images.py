"""Small gray pictures of a cache's images, read when a pair of them is in doubt."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache
from ...errors import ImageError
from ...extract import decoder_of
from ..shared import image_folder, read_unchanged

PICTURE_SIDE = 96
"""Pixels per side: eleven times as many pixels as a signature. Near-duplicates of photographs agree in structure of
this size, other photographs only in their outlines."""

_DECODED = 2 * PICTURE_SIDE  # pixels per side that large JPEG files keep when they are decoded
_CACHED = 12_000  # pictures: 110 MB

Gray = npt.NDArray[np.uint8]


class Pictures:
    """Gray pictures of many images, of which the last used ones stay in memory."""

    def __init__(self, read: Callable[[int], npt.NDArray[np.uint8]]) -> None:
        self._read = read
        self._cached: OrderedDict[int, Gray | None] = OrderedDict()
        self._lock = Lock()

    def rows(self, rows: npt.NDArray[np.intp]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Return the luma of some pictures, float32, shape (k, 96, 96), zeros if unreadable, and which are readable."""
        pictures = np.zeros((len(rows), PICTURE_SIDE, PICTURE_SIDE), np.float32)
        readable = np.zeros(len(rows), bool)
        for index, row in enumerate(rows.tolist()):
            picture = self._picture(row)
            if picture is not None:
                pictures[index], readable[index] = picture, True
        return pictures, readable

    def _picture(self, row: int) -> Gray | None:
        with self._lock:
            if row in self._cached:
                self._cached.move_to_end(row)
                return self._cached[row]
        try:
            picture: Gray | None = as_picture(self._read(row))
        except ImageError:
            picture = None
        with self._lock:
            self._cached[row] = picture
            if len(self._cached) > _CACHED:
                self._cached.popitem(last=False)
        return picture


def pictures_of(cache: FeatureCache, images: Path | str | None = None) -> Pictures | None:
    """Return the pictures of a cache's images, or None if their folder or archive does not exist."""
    if images is None and not cache.provenance.get("image_root"):
        return None
    root = image_folder(cache, images)
    if not root.exists():
        return None
    decode = decoder_of(cache.fingerprint)
    return Pictures(lambda row: decode(read_unchanged(cache, root, row), _DECODED))


def as_picture(pixels: npt.NDArray[np.uint8]) -> Gray:
    """Return the luma of an image in 96 x 96 pixels, averaged over areas if it is larger: uint8."""
    from PIL import Image

    gray = Image.fromarray(pixels).convert("L")
    # Bilinear resampling is antialiased in Pillow: a triangle as wide as the reduction.
    return np.asarray(gray.resize((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.BILINEAR))
