"""Verification of doubtful pairs on gray pictures of 96 x 96 pixels.

Thumbnails of unrelated photographs often agree: one outline covers another. So the map is refined on larger pictures,
contrast is equalised locally (faint structure counts as much as edges), there must be enough patches with structure in
both, and the agreement must be unique: repeated structure and straight edges agree as well when shifted (the
peak-to-sidelobe test; Bolme and others, 2010, doi:10.1109/CVPR.2010.5539960).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .gray_images import PICTURE_SIDE, Pictures
from .pairs import Rows, Scores
from .registration import MINIMUM_OVERLAP, Affine, Mirror, Registration, descend, plausible, warp
from .thumbnails import SIDE, Bands, gaussian

_HALF = PICTURE_SIDE // 2
_STEPS = (5, 3)  # Gauss-Newton steps at the half and at the whole size
_BANDS = ((0.7, 3.0, 5.0), (1.0, 4.0, 8.0))
"""Inner and outer blur and the neighbourhood whose contrast is equalised, in pixels of the half and the whole size."""

_HOPELESS = 0.35  # pairs that agree less at half the size, where all agree better, are rejected
_NOISE = 2.0  # gray levels; fainter structure is not amplified to the contrast of the rest
_STRUCTURE = 0.5  # gray levels of the band that count as structure: several times the rounding
_PATCH = 256  # pixels that count as one independent patch
_EVIDENCE = 3.0  # standard deviations of Fisher's transformation of a correlation of that many patches
_MINIMUM_PATCHES = 6  # of 36; fewer are a spot, and all spots are similar
_PEAK = 6  # pixels; larger shifts are other positions
_FARTHEST = 30
_PADDED = 128  # at least PICTURE_SIDE + _FARTHEST, so that these shifts do not wrap around
_SIDELOBE = 0.8  # maximum agreement in another position, relative to that in place


def verify(pictures: Pictures, first: Rows, second: Rows, registered: Registration) -> Scores:
    """Return the agreement of pairs on the images, float32, shape (k,); NaN if an image cannot be read."""
    (one, first_readable), (other, second_readable) = pictures.rows(first), pictures.rows(second)
    mirror, affine = registered.mirror, _enlarged(registered.affine, _HALF / SIDE)
    halves = [_equalised(_halved(part), _BANDS[0])[0] for part in (one, other)]
    score, affine = descend(halves[0], halves[1], mirror, affine, _STEPS[0])
    left = np.flatnonzero((score >= _HOPELESS) & first_readable & second_readable)
    if len(left):
        (one, first_structure), (other, second_structure) = (_equalised(part[left], _BANDS[1]) for part in (one, other))
        mirror = mirror[left]
        reached, refined = descend(one, other, mirror, _enlarged(affine[left], 2), _STEPS[1])
        patches = (warp(first_structure, mirror, refined)[0] * second_structure).sum(1) / _PATCH
        evidence = np.arctanh(np.clip(reached, 0, 0.9999)) * np.sqrt(np.maximum(patches - 3, 0))
        reached[~plausible(refined) | (evidence < _EVIDENCE) | (patches < _MINIMUM_PATCHES)] = -1
        high = np.flatnonzero(reached >= _HOPELESS)
        repeated = _sidelobe(one[high], other[high], mirror[high], refined[high])
        reached[high[repeated > _SIDELOBE]] = -1
        score[left] = reached
    score[~(first_readable & second_readable)] = np.nan
    return score


def _sidelobe(first: Bands, second: Bands, mirror: Mirror, affine: Affine) -> Scores:
    """Return the largest agreement at another shift, relative to that in place: float32, shape (k,)."""
    from scipy import fft

    shape = (_PADDED, _PADDED)
    moved, inside = warp(first, mirror, affine)
    fixed = second * inside

    def transform(part: npt.NDArray[np.float32]) -> npt.NDArray[np.complex64]:
        transformed: npt.NDArray[np.complex64] = fft.rfft2(part.reshape(-1, PICTURE_SIDE, PICTURE_SIDE), shape)
        return transformed

    mask = transform(inside)
    common = np.maximum(fft.irfft2(mask * mask.conj(), shape), 1)
    correlation = fft.irfft2(transform(moved * inside) * transform(fixed).conj(), shape) / common
    step = np.minimum(np.arange(shape[0]), shape[0] - np.arange(shape[0]))
    distance = np.hypot(step[:, None], step)
    elsewhere = (distance > _PEAK) & (distance <= _FARTHEST)
    enough = common >= MINIMUM_OVERLAP / 2 * PICTURE_SIDE**2
    largest = np.where(elsewhere & enough, correlation, -np.inf).max((1, 2), initial=-np.inf)
    ratio: npt.NDArray[np.float32] = (largest / np.maximum(correlation[:, 0, 0], 1e-6)).astype(np.float32)
    return ratio


def _enlarged(affine: Affine, by: float) -> Affine:
    """Return maps for pictures with ``by`` times as many pixels per side."""
    return affine * np.array([1, 1, by, 1, 1, by], np.float32)


def _halved(pictures: Bands) -> Bands:
    """Return the means of 2 x 2 pixels."""
    rows = pictures[:, ::2] + pictures[:, 1::2]
    halves: Bands = (rows[:, :, ::2] + rows[:, :, 1::2]) * np.float32(0.25)
    return halves


def _equalised(pictures: Bands, band: tuple[float, float, float]) -> tuple[Bands, Bands]:
    """Return band-passed pictures of equal contrast, and 1 where they have structure, both (k, side * side)."""
    inner, outer, around = (gaussian(pictures.shape[1], sigma) for sigma in band)
    band_passed = inner @ pictures @ inner.T - outer @ pictures @ outer.T
    contrast = np.sqrt(np.maximum(around @ band_passed**2 @ around.T, 0))
    equalised = (band_passed / (contrast + _NOISE)).reshape(len(pictures), -1)
    structure = (np.abs(band_passed) > _STRUCTURE).astype(np.float32).reshape(len(pictures), -1)
    return np.asarray(equalised, np.float32), structure
