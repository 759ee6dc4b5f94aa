"""Where a crop may come from: the best translation of one thumbnail over another, in each of eight positions."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from .registration import Affine, Mirror
from .thumbnails import LEVELS, SIDE, Thumbnails

_COARSE = 2  # the coarse level is so smooth that every second pixel tells the same
_HALF = SIDE // _COARSE
_PADDED = 2 * _HALF
_MINIMUM_OVERLAP = 0.35
_KEPT = 2  # of the eight positions


def shift_hypotheses(
    thumbnails: Thumbnails, first: npt.NDArray[np.intp], second: npt.NDArray[np.intp]
) -> list[tuple[Mirror, Affine]]:
    """Return starting maps for pairs that may be shifted against each other.

    Parameters
    ----------
    thumbnails : Thumbnails
    first, second : ndarray of intp, shape (k,)

    Returns
    -------
    list of (mirror, affine)
        The two most promising of the four rotations by a quarter turn with and without mirroring, each with the
        translation whose overlap correlates most: as :func:`~embedonce.evaluate.registration.register` takes them.
    """
    mine = thumbnails.bands(first, LEVELS[0]).reshape(-1, SIDE, SIDE)
    theirs = thumbnails.bands(second, LEVELS[0]).reshape(-1, SIDE, SIDE)
    mine, theirs = _halved(mine), _halved(theirs)
    transformed = _transform(mine).conj()
    energy = _transform(mine**2).conj()
    overlap, ones = _overlap()
    scores = np.empty((8, len(first)), np.float32)
    steps = np.empty((8, len(first), 2), np.float32)
    for number, (mirror, turns) in enumerate(_POSITIONS):
        moved = np.rot90(theirs[:, ::-1] if mirror else theirs, -turns, axes=(1, 2))
        product = _back(_transform(moved) * transformed)
        norm = _back(ones * energy) * _back(_transform(moved**2) * ones.conj())
        correlation = np.where(overlap, product / np.sqrt(np.maximum(norm, 1e-6)), -1).reshape(len(first), -1)
        best = correlation.argmax(1)
        scores[number] = correlation[np.arange(len(first)), best]
        down, right = np.divmod(best, _PADDED)
        steps[number] = np.stack([right, down], 1) - np.where(np.stack([right, down], 1) >= _HALF, _PADDED, 0)
    order = np.argsort(-scores, axis=0)[:_KEPT]
    return [_maps(kept, steps[kept, np.arange(len(first))]) for kept in order]


_POSITIONS = [(mirror, turns) for mirror in (False, True) for turns in range(4)]


def _maps(positions: npt.NDArray[np.intp], steps: npt.NDArray[np.float32]) -> tuple[Mirror, Affine]:
    """Return the maps from the second image to the first.

    The second, mirrored and turned, agrees with the first when it is moved back by ``steps``.
    """
    mirror = np.array([mirror for mirror, _ in _POSITIONS])[positions]
    quarter = np.array([turns for _, turns in _POSITIONS])[positions]
    cosine, sine = np.array([1, 0, -1, 0])[quarter], np.array([0, 1, 0, -1])[quarter]
    right, down = -_COARSE * steps[:, 0], -_COARSE * steps[:, 1]
    return mirror, np.stack([cosine, -sine, right, sine, cosine, down], 1).astype(np.float32)


def _halved(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    halves: npt.NDArray[np.float32] = images.reshape(-1, _HALF, _COARSE, _HALF, _COARSE).mean((2, 4))
    return halves


def _transform(images: npt.NDArray[np.float32]) -> npt.NDArray[np.complex64]:
    from scipy import fft

    transformed: npt.NDArray[np.complex64] = fft.rfft2(images, (_PADDED, _PADDED))
    return transformed


def _back(products: npt.NDArray[np.complex64]) -> npt.NDArray[np.float32]:
    from scipy import fft

    images: npt.NDArray[np.float32] = fft.irfft2(products, (_PADDED, _PADDED))
    return images


@lru_cache(maxsize=1)
def _overlap() -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.complex64]]:
    """Return which translations leave enough in common, and the transform of a picture of ones."""
    ones = _transform(np.ones((1, _HALF, _HALF), np.float32))
    common = _back(ones * ones.conj())[0]
    return common >= _MINIMUM_OVERLAP * _HALF**2, ones
