"""Signatures as pictures: the band-passed thumbnails of images, for registration."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ...extract import SIGNATURE_SIZE

SIDE = SIGNATURE_SIZE
PIXELS = SIDE * SIDE
OUTER = 4.0  # pixels; coarser structure is illumination and staining, not tissue
LEVELS = (1.5, 0.7, 0.0)
"""Blur of the levels from coarse to fine, in pixels: a wide blur lets a registration converge from far."""

MINIMUM_TEXTURE = 1.5
"""Standard deviation, in gray levels, below which a thumbnail is flat: too little structure to compare."""

_ROUNDING = 0.01  # gray levels; the deviation of a flat thumbnail, while a single other pixel gives 0.03

Gray = npt.NDArray[np.uint8]
Bands = npt.NDArray[np.float32]


class Thumbnails:
    """The signatures of many images, uint8, shape (n, 784): luma thumbnails of 28 x 28 pixels."""

    def __init__(self, signatures: Gray) -> None:
        self.signatures = signatures

    def __len__(self) -> int:
        return len(self.signatures)

    def bands(self, rows: npt.NDArray[np.intp], blur: float = 0.0) -> Bands:
        """Return band-passed thumbnails with mean 0 and deviation 1, zeros if flat: float32, shape (k, 784)."""
        images = self.signatures[rows].reshape(-1, SIDE, SIDE).astype(np.float32)
        outer = gaussian(SIDE, OUTER)
        bands = np.asarray(-(outer @ images @ outer.T), np.float32)
        bands += gaussian(SIDE, blur) @ images @ gaussian(SIDE, blur).T if blur else images
        flat: Bands = bands.reshape(-1, PIXELS)
        flat -= flat.mean(1, keepdims=True)
        deviation = np.sqrt(np.einsum("nk,nk->n", flat, flat) / PIXELS)[:, None]
        flat /= np.where(deviation > _ROUNDING, deviation, np.inf)
        return flat

    def textured(self, block: int = 4096) -> npt.NDArray[np.bool_]:
        """Return which thumbnails have enough structure to be compared: bool, shape (n,)."""
        outer = gaussian(SIDE, OUTER)
        parts = []
        for start in range(0, len(self), block):
            images = self.signatures[start : start + block].reshape(-1, SIDE, SIDE).astype(np.float32)
            parts.append((images - outer @ images @ outer.T).std((1, 2)) >= MINIMUM_TEXTURE)
        return np.concatenate([np.zeros(0, bool), *parts])


@lru_cache(maxsize=16)
def gaussian(side: int, sigma: float) -> npt.NDArray[np.float32]:
    """Return the matrix that blurs a column of pixels; its rows sum to 1, so that the border does not darken."""
    position = np.arange(side)
    weights = np.exp(-((position[:, None] - position) ** 2) / (2 * sigma**2))
    weights[weights < 1e-12] = 0  # far below rounding; products of subnormal numbers take ten times as long
    matrix: npt.NDArray[np.float32] = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    return matrix
