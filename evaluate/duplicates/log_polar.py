"""Agreement of two thumbnails over all rotations about the centre, mirrorings and zooms at once.

Log-polar sampling: on rings whose radii grow by a fixed ratio, a rotation is a shift along the rings, and a zoom one
from ring to ring (Reddy and Chatterji, 1996, doi:10.1109/83.506761, use it on spectra).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .kernels import kernels
from .thumbnails import PIXELS, SIDE, Thumbnails

RINGS = 20
ANGLES = 64
WAVES = ANGLES // 2 + 1
FIRST_RADIUS = 2.0  # pixels; nearer to the centre, 64 angles see the same few pixels
LAST_RADIUS = SIDE / 2 - 0.5
RATIO = (LAST_RADIUS / FIRST_RADIUS) ** (1 / (RINGS - 1))
MAXIMUM_ZOOM = 1.8
ZOOMS = int(np.ceil(np.log(MAXIMUM_ZOOM) / np.log(RATIO)))
"""Largest shift between rings, either way."""


class Spectra:
    """Fourier coefficients along the rings of thumbnails, weighted by area and scaled to an energy of 1 an image.

    They take 2.7 kB an image, and are made of the rows that are asked for.
    """

    def __init__(self, thumbnails: Thumbnails) -> None:
        count = len(thumbnails)
        self.thumbnails = thumbnails
        self.halves = np.empty((count, WAVES, RINGS, 2), np.float16)  # half precision halves the memory
        self.energy = np.empty((count, RINGS), np.float32)
        self.made = np.zeros(count, bool)

    def add(self, rows: npt.NDArray[np.intp]) -> None:
        """Make the coefficients of some rows, unless they are made already; a row must be in one call at a time."""
        rows = rows[~self.made[rows]]
        sampling, weight = _sampling()
        rings = (self.thumbnails.bands(rows) @ sampling).reshape(-1, RINGS, ANGLES)
        rings -= rings.mean((1, 2), keepdims=True)
        rings *= weight[:, None]
        rings /= np.sqrt(np.maximum((rings**2).sum((1, 2), keepdims=True), 1e-12))
        self.energy[rows] = (rings**2).sum(2)
        values = np.ascontiguousarray(np.fft.rfft(rings, axis=2).transpose(0, 2, 1), np.complex64)
        self.halves[rows] = values.view(np.float32).reshape(len(rows), WAVES, RINGS, 2)
        self.made[rows] = True

    def values(self, rows: npt.NDArray[np.intp] | int) -> npt.NDArray[np.float32]:
        """Return the coefficients of some images or of one, shape (k, 33, 20, 2)."""
        return self.halves[rows].astype(np.float32)


class Centred(NamedTuple):
    """The best agreement of each pair, arrays of shape (k,)."""

    score: npt.NDArray[np.float32]  # normalised correlation over the rings that both have, -1 to 1
    mirror: npt.NDArray[np.bool_]
    zoom: npt.NDArray[np.intp]  # ring of the first image that matches the first ring of the second
    shift: npt.NDArray[np.intp]  # angle of the first image, in 1/64 turns, that matches angle 0 of the second

    def at(self, which: npt.NDArray[Any]) -> Centred:
        """Return some of the pairs, by mask or by index."""
        return Centred(self.score[which], self.mirror[which], self.zoom[which], self.shift[which])

    def put(self, where: Any, agreement: Centred) -> None:
        """Write the agreement of some pairs, by mask, slice or index."""
        self.score[where], self.mirror[where] = agreement.score, agreement.mirror
        self.zoom[where], self.shift[where] = agreement.zoom, agreement.shift


def empty(count: int) -> Centred:
    """Return zeros for the agreement of ``count`` pairs."""
    whole = np.zeros(count, np.intp)
    return Centred(np.zeros(count, np.float32), np.zeros(count, bool), whole, whole.copy())


def ring_spectra(thumbnails: Thumbnails) -> Spectra:
    """Return the spectra of all thumbnails."""
    spectra = Spectra(thumbnails)
    for start in range(0, len(thumbnails), 256):
        spectra.add(np.arange(start, min(start + 256, len(thumbnails))))
    return spectra


def correlate(spectra: Spectra, row: int, others: npt.NDArray[np.intp], waves: int = WAVES) -> Centred:
    """Compare one image with others, shape (k,), over all rotations, both mirrorings and all zooms.

    Fewer ``waves`` along the rings, an even number, are faster: then scores are those without fine structure.
    """
    library = kernels()
    if library is None:
        return _correlate(spectra, row, others, waves)
    best = empty(len(others))
    library.embedonce_correlate(
        spectra.halves.view(np.uint16),
        spectra.energy,
        row,
        np.ascontiguousarray(others),
        *(len(others), ZOOMS, waves),
        best.score,
        best.mirror,
        best.zoom,
        best.shift,
    )
    return best


def _correlate(spectra: Spectra, row: int, others: npt.NDArray[np.intp], waves: int) -> Centred:
    """Compare them in NumPy."""
    shifts = 2 * ZOOMS + 1
    ring = np.arange(RINGS)[:, None] + np.arange(-ZOOMS, ZOOMS + 1)  # of the image, by ring of the other and zoom
    inside = (ring >= 0) & (ring < RINGS)
    ring = np.clip(ring, 0, RINGS - 1)
    one = np.where(inside, spectra.values(row).view(np.complex64)[:, ring, 0], 0)  # (33, 20, zooms)
    other = spectra.values(others).view(np.complex64)[..., 0].transpose(1, 0, 2)  # (33, k, 20)
    one, other = one[:waves], other[:waves]
    products = np.stack([other.conj() @ one, other @ one])  # (2, 33, k, zooms)
    correlation = np.fft.irfft(products, ANGLES, axis=1)  # (2, 64, k, zooms)
    energy_of_one = np.where(inside, spectra.energy[row][ring], 0).sum(0)
    energy = energy_of_one * (spectra.energy[others] @ inside.astype(np.float32))  # (k, zooms)
    correlation /= np.sqrt(np.maximum(energy, 1e-12))
    flat = correlation.transpose(2, 0, 3, 1).reshape(len(others), 2 * shifts * ANGLES)
    best = flat.argmax(1)
    mirror, rest = np.divmod(best, shifts * ANGLES)
    zoom, shift = np.divmod(rest, ANGLES)
    score = flat[np.arange(len(others)), best].astype(np.float32)
    return Centred(score, mirror.astype(bool), zoom - ZOOMS, shift)


def as_affine(centred: Centred) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
    """Return the maps of `registration` from the second image to the first: mirror, bool (k,), and affine (k, 6)."""
    # angles are sampled in the middle of their steps, so that reversing them shifts them by one
    angle = 2 * np.pi * (centred.shift + centred.mirror) / ANGLES
    scale = RATIO**centred.zoom
    cosine, sine, zero = scale * np.cos(angle), scale * np.sin(angle), np.zeros(len(angle))
    return centred.mirror, np.stack([cosine, -sine, zero, sine, cosine, zero], 1).astype(np.float32)


@lru_cache(maxsize=1)
def _sampling() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the matrix (784, 20 * 64) of bilinear sampling on the rings, and each ring's weight."""
    radius = FIRST_RADIUS * RATIO ** np.arange(RINGS)
    angle = 2 * np.pi * (np.arange(ANGLES) + 0.5) / ANGLES
    centre = (SIDE - 1) / 2
    x = (centre + radius[:, None] * np.cos(angle)).ravel()
    y = (centre + radius[:, None] * np.sin(angle)).ravel()
    matrix = np.zeros((PIXELS, RINGS * ANGLES), np.float32)
    left = np.minimum(np.floor(x).astype(int), SIDE - 2)
    top = np.minimum(np.floor(y).astype(int), SIDE - 2)
    column = np.arange(len(x))
    for down in (0, 1):
        for right in (0, 1):
            weight = np.abs(1 - right - (x - left)) * np.abs(1 - down - (y - top))
            np.add.at(matrix, ((top + down) * SIDE + left + right, column), weight)
    return matrix, np.sqrt(radius / radius.sum()).astype(np.float32)
