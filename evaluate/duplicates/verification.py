"""Is a pair that its signatures leave in doubt a copy? Asked of the images themselves, in 96 x 96 pixels.

Thumbnails of unrelated photographs often agree: an outline lies on an outline. Four things tell copies from them:

- The map that was found on the signatures is refined on the pictures, and fine structure is compared.
- Contrast is equalised locally, so that the faint structure between strong edges counts as much as these. Unrelated
  pictures with one edge each agree in it and in nothing else.
- There must be enough to agree in: a correlation counts by as many independent places as have structure in both
  pictures. A spot before a flat ground agrees with any other spot.
- The agreement must be unique: pictures whose structure repeats itself, and straight edges, agree as well when they are
  shifted against each other (the peak-to-sidelobe test of correlation filters; Bolme and others, 2010,
  doi:10.1109/CVPR.2010.5539960).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .gray_images import PICTURE_SIDE, Pictures
from .registration import MINIMUM_OVERLAP, Affine, Mirror, Registration, descend, plausible, warp
from .thumbnails import SIDE, gaussian

_HALF = PICTURE_SIDE // 2
_STEPS = (5, 3)  # Gauss-Newton steps at the half and at the whole size
_BANDS = ((0.7, 3.0, 5.0), (1.0, 4.0, 8.0))
"""Inner and outer blur and the neighbourhood whose contrast is equalised, in pixels of the half and the whole size."""

_HOPELESS = 0.35  # pairs that agree less at the half size, where all agree better, are left
_NOISE = 2.0  # gray levels; structure fainter than this is not enlarged to the contrast of the rest
_STRUCTURE = 0.5  # gray levels of the band from which on there is structure: several times what rounding leaves
_PLACE = 256  # pixels that count as one independent place
_EVIDENCE = 3.0  # standard deviations of Fisher's transformation of a correlation of so many places
_FEWEST_PLACES = 6  # of 36; fewer are a spot, and spots are alike
_PEAK = 6  # pixels: shifts beyond this are other places
_FARTHEST = 30
_SIDELOBE = 0.8  # of the agreement in place, at most, in another place


def verify(
    pictures: Pictures, first: npt.NDArray[np.intp], second: npt.NDArray[np.intp], registered: Registration
) -> npt.NDArray[np.float32]:
    """Compare pairs of images.

    Parameters
    ----------
    pictures : Pictures
    first, second : ndarray of intp, shape (k,)
    registered : Registered
        The maps that were found on the signatures.

    Returns
    -------
    ndarray of float32, shape (k,)
        Normalised correlation of the equalised pictures over the common area, or that at the half size where it is low;
        -1 where it is ambiguous or there is too little to compare, and NaN where an image cannot be read.
    """
    (mine, mine_there), (theirs, theirs_there) = pictures.rows(first), pictures.rows(second)
    mirror, affine = registered.mirror, _enlarged(registered.affine, _HALF / SIDE)
    halves = [_equalised(_halved(part), _BANDS[0])[0] for part in (mine, theirs)]
    score, affine = descend(halves[0], halves[1], mirror, affine, _STEPS[0])
    left = np.flatnonzero((score >= _HOPELESS) & mine_there & theirs_there)
    if len(left):
        (mine, my_structure), (theirs, their_structure) = (_equalised(part[left], _BANDS[1]) for part in (mine, theirs))
        mirror = mirror[left]
        reached, refined = descend(mine, theirs, mirror, _enlarged(affine[left], 2), _STEPS[1])
        places = (warp(my_structure, mirror, refined)[0] * their_structure).sum(1) / _PLACE
        evidence = np.arctanh(np.clip(reached, 0, 0.9999)) * np.sqrt(np.maximum(places - 3, 0))
        reached[~plausible(refined) | (evidence < _EVIDENCE) | (places < _FEWEST_PLACES)] = -1
        high = np.flatnonzero(reached >= _HOPELESS)
        repeated = _sidelobe(mine[high], theirs[high], mirror[high], refined[high])
        reached[high[repeated > _SIDELOBE]] = -1
        score[left] = reached
    score[~(mine_there & theirs_there)] = np.nan
    return score


def _sidelobe(
    first: npt.NDArray[np.float32], second: npt.NDArray[np.float32], mirror: Mirror, affine: Affine
) -> npt.NDArray[np.float32]:
    """Return the largest agreement at another shift, as a share of that in place: float32, shape (k,)."""
    from scipy import fft

    shape = (2 * PICTURE_SIDE, 2 * PICTURE_SIDE)
    moved, inside = warp(first, mirror, affine)
    fixed = second * inside

    def transform(part: npt.NDArray[np.float32]) -> npt.NDArray[np.complex64]:
        made: npt.NDArray[np.complex64] = fft.rfft2(part.reshape(-1, PICTURE_SIDE, PICTURE_SIDE), shape)
        return made

    mask = transform(inside)
    common = np.maximum(fft.irfft2(mask * mask.conj(), shape), 1)
    correlation = fft.irfft2(transform(moved * inside) * transform(fixed).conj(), shape) / common
    step = np.minimum(np.arange(shape[0]), shape[0] - np.arange(shape[0]))
    distance = np.hypot(step[:, None], step)
    elsewhere = (distance > _PEAK) & (distance <= _FARTHEST)
    enough = common >= MINIMUM_OVERLAP / 2 * PICTURE_SIDE**2
    largest = np.where(elsewhere & enough, correlation, -np.inf).max((1, 2), initial=-np.inf)
    share: npt.NDArray[np.float32] = (largest / np.maximum(correlation[:, 0, 0], 1e-6)).astype(np.float32)
    return share


def _enlarged(affine: Affine, by: float) -> Affine:
    """Return maps in pixels that are so many times smaller."""
    return affine * np.array([1, 1, by, 1, 1, by], np.float32)


def _halved(pictures: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    halves: npt.NDArray[np.float32] = pictures.reshape(-1, _HALF, 2, _HALF, 2).mean((2, 4))
    return halves


def _equalised(
    pictures: npt.NDArray[np.float32], band: tuple[float, float, float]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return band-passed pictures of equal contrast, and 1 where they have structure, both (k, side * side)."""
    inner, outer, around = (gaussian(pictures.shape[1], sigma) for sigma in band)
    kept = inner @ pictures @ inner.T - outer @ pictures @ outer.T
    contrast = np.sqrt(np.maximum(around @ kept**2 @ around.T, 0))
    equalised = (kept / (contrast + _NOISE)).reshape(len(pictures), -1)
    return equalised, (np.abs(kept) > _STRUCTURE).astype(np.float32).reshape(len(pictures), -1)
