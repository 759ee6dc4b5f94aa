"""The images of a cache as small gray pictures, read when a pair of them is in doubt."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache
from ...errors import ImageError
from ...extract import decode, minimum_size
from ..shared import image_folder, read_unchanged

PICTURE_SIDE = 96
"""Pixels a side: eleven times as many as a signature has. Copies of photographs agree in structure of this size, other
photographs only in their outlines."""

_KEPT = 12_000  # pictures: 110 MB

Gray = npt.NDArray[np.uint8]


class Pictures:
    """Gray pictures of many images, of which the last used ones are kept.

    Parameters
    ----------
    read : callable
        Returns the pixels of a row as uint8, shape (height, width, 3), or raises ImageError.
    """

    def __init__(self, read: Callable[[int], npt.NDArray[np.uint8]]) -> None:
        self._read = read
        self._kept: OrderedDict[int, Gray | None] = OrderedDict()
        self._lock = Lock()

    def rows(self, rows: npt.NDArray[np.intp]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Return some pictures.

        Parameters
        ----------
        rows : ndarray of intp, shape (k,)

        Returns
        -------
        pictures : ndarray of float32, shape (k, 96, 96)
            Luma, 0 to 255.
        there : ndarray of bool, shape (k,)
            Which could be read; the others are zeros.
        """
        pictures = np.zeros((len(rows), PICTURE_SIDE, PICTURE_SIDE), np.float32)
        there = np.zeros(len(rows), bool)
        for place, row in enumerate(rows.tolist()):
            picture = self._picture(row)
            if picture is not None:
                pictures[place], there[place] = picture, True
        return pictures, there

    def _picture(self, row: int) -> Gray | None:
        with self._lock:
            if row in self._kept:
                self._kept.move_to_end(row)
                return self._kept[row]
        try:
            picture: Gray | None = as_picture(self._read(row))
        except ImageError:
            picture = None
        with self._lock:
            self._kept[row] = picture
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return picture


def pictures_of(cache: FeatureCache, images: Path | str | None = None) -> Pictures | None:
    """Return the pictures of a cache's images, or None when their folder is not at hand.

    Parameters
    ----------
    cache : FeatureCache
    images : path-like, optional
        The image folder; by default the one that was embedded. An image that is gone or has changed has no picture.
    """
    if images is None and not cache.provenance.get("image_root"):
        return None
    root = image_folder(cache, images)
    if not root.is_dir():
        return None
    least = minimum_size(cache.fingerprint)
    return Pictures(lambda row: decode(read_unchanged(cache, root, row), least))


def as_picture(pixels: npt.NDArray[np.uint8]) -> Gray:
    """Return the luma of an image in 96 x 96 pixels, averaged over areas where it is larger: uint8, (96, 96)."""
    from PIL import Image

    gray = Image.fromarray(pixels).convert("L")
    # Bilinear resampling is antialiased in Pillow: a triangle as wide as the reduction.
    return np.asarray(gray.resize((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.BILINEAR))
