"""Starting maps for crops: the best translation of one thumbnail over another, in 8 positions and 3 zooms."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from .kernels import kernels
from .pairs import Rows
from .registration import Affine, Mirror
from .thumbnails import LEVELS, SIDE, Bands, Thumbnails

_COARSE = 2  # the coarse level is so smooth that every second pixel suffices
_HALF = SIDE // _COARSE
_PADDED = 2 * _HALF
_MINIMUM_OVERLAP = 0.35
_REDUCED = 0.8
_ZOOMS = ((1.0, 1.0), (1.0, _REDUCED), (_REDUCED, 1.0))
"""Scales of the first and the second image: a crop must be reduced to match its original. Registration converges from a
zoom that is off by an eighth, so these cover crops down to seven tenths of a side."""

_HYPOTHESES = 3  # the most promising of the positions and zooms

_POSITIONS = [(mirror, turns) for mirror in (False, True) for turns in range(4)]


def shift_hypotheses(thumbnails: Thumbnails, first: Rows, second: Rows) -> list[tuple[Mirror, Affine]]:
    """Return the three most promising starting maps of pairs that may be shifted against each other."""
    one, other = thumbnails.bands(first, LEVELS[0]), thumbnails.bands(second, LEVELS[0])
    scores, steps = _best_shifts(one, other)
    order = np.argsort(-scores, axis=0, kind="stable")[:_HYPOTHESES]
    return [_maps(chosen, steps[chosen, np.arange(len(first))]) for chosen in order]


def _best_shifts(one: Bands, other: Bands) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the best score, (24, k), and its shift, (24, k, 2), in each zoom and position."""
    library = kernels()
    scores = np.empty((len(_ZOOMS) * len(_POSITIONS), len(one)), np.float32)
    steps = np.empty((*scores.shape, 2), np.float32)
    if library is None:
        _fill_best_shifts(one, other, scores, steps)
        return scores, steps
    sizes = [np.stack([_reduced(images, zoom) for zoom in (1.0, _REDUCED)], 1) for images in (one, other)]
    library.embedonce_shift(*sizes, *_masks_and_shifts(), len(one), scores, steps)
    return scores, steps


@lru_cache(maxsize=1)
def _masks_and_shifts() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Return pictures of ones in both sizes, and the shifts of each zoom that leave enough overlap."""
    masks = np.concatenate([_reduced(np.ones((1, SIDE * SIDE), np.float32), zoom) for zoom in (1.0, _REDUCED)])
    return masks, np.concatenate([_overlaps(*zooms) for zooms in _ZOOMS])


def _overlaps(first: float, second: float) -> npt.NDArray[np.bool_]:
    overlaps: npt.NDArray[np.bool_] = _back(_mask(second) * _mask(first).conj()) >= _MINIMUM_OVERLAP * _HALF**2
    return overlaps


def _fill_best_shifts(
    one: Bands, other: Bands, scores: npt.NDArray[np.float32], steps: npt.NDArray[np.float32]
) -> None:
    """Write them with Fourier transforms in NumPy."""
    originals = {zoom: _reduced(one, zoom) for zoom in (1.0, _REDUCED)}
    transformed = {zoom: _transform(picture).conj() for zoom, picture in originals.items()}
    energies = {zoom: _transform(picture**2).conj() for zoom, picture in originals.items()}
    for zoom in (1.0, _REDUCED):
        picture = _reduced(other, zoom)
        moved = [_transform(_in_position(picture, position)) for position in _POSITIONS]
        energy = _transform(picture**2)
        for zoom_index, zooms in enumerate(_ZOOMS):
            if zooms[1] != zoom:
                continue
            # Masks are equal in every position, so the energy of a rotated picture is the rotated map of its energy.
            energy_of_one = _back(energies[zooms[0]] * _mask(zoom))
            energy_of_other = _back(energy * _mask(zooms[0]).conj())
            overlap = _overlaps(*zooms)
            for number, position in enumerate(_POSITIONS):
                norm = energy_of_one * _in_position(energy_of_other, position)
                product = _back(moved[number] * transformed[zooms[0]])
                correlation = np.where(overlap, product / np.sqrt(np.maximum(norm, 1e-6)), -1).reshape(len(one), -1)
                best = correlation.argmax(1)
                row = zoom_index * len(_POSITIONS) + number
                scores[row] = correlation[np.arange(len(one)), best]
                down, right = np.divmod(best, _PADDED - 1)
                steps[row] = np.stack([right, down], 1) - (_HALF - 1)


def _in_position(pictures: npt.NDArray[np.float32], position: tuple[bool, int]) -> npt.NDArray[np.float32]:
    """Return pictures mirrored and rotated about their centre."""
    mirror, turns = position
    return np.rot90(pictures[:, ::-1] if mirror else pictures, -turns, axes=(1, 2))


def _maps(chosen: npt.NDArray[np.intp], steps: npt.NDArray[np.float32]) -> tuple[Mirror, Affine]:
    """Return the maps from the second image to the first, which it matches when moved back by ``steps``."""
    zoom_index, position = np.divmod(chosen, len(_POSITIONS))
    mirror = np.array([mirror for mirror, _ in _POSITIONS])[position]
    quarter = np.array([turns for _, turns in _POSITIONS])[position]
    zoom_of_first, zoom_of_second = np.array(_ZOOMS)[zoom_index].T
    cosine, sine = np.array([1, 0, -1, 0])[quarter], np.array([0, 1, 0, -1])[quarter]
    scale = zoom_of_second / zoom_of_first
    right, down = -_COARSE * steps.T / zoom_of_first
    return mirror, np.stack([scale * cosine, -scale * sine, right, scale * sine, scale * cosine, down], 1).astype(
        np.float32
    )


def _reduced(images: Bands, zoom: float) -> npt.NDArray[np.float32]:
    """Return pictures of 14 x 14 pixels: halved, and reduced by a zoom about the centre, zero around it."""
    matrix = _reduction(zoom)
    return np.asarray(matrix @ images.reshape(-1, SIDE, SIDE) @ matrix.T, np.float32)


@lru_cache(maxsize=2)
def _reduction(zoom: float) -> npt.NDArray[np.float32]:
    """Return the matrix (14, 28) that averages a column over areas; an area that ends outside has less weight."""
    borders = np.clip((np.arange(_HALF + 1) - _HALF / 2) * _COARSE / zoom + SIDE / 2, 0, SIDE)[:, None]
    pixel = np.arange(SIDE)
    covered = np.clip(np.minimum(borders[1:], pixel + 1) - np.maximum(borders[:-1], pixel), 0, None)
    matrix: npt.NDArray[np.float32] = (covered * zoom / _COARSE).astype(np.float32)
    return matrix


@lru_cache(maxsize=2)
def _mask(zoom: float) -> npt.NDArray[np.complex64]:
    """Return the transform of a picture of ones, reduced."""
    return _transform(_reduced(np.ones((1, SIDE * SIDE), np.float32), zoom))


def _transform(images: npt.NDArray[np.float32]) -> npt.NDArray[np.complex64]:
    from scipy import fft

    transformed: npt.NDArray[np.complex64] = fft.rfft2(images, (_PADDED, _PADDED))
    return transformed


def _back(products: npt.NDArray[np.complex64]) -> npt.NDArray[np.float32]:
    """Return the map of all translations by up to 13 pixels, with zero in the middle: (k, 27, 27)."""
    from scipy import fft

    images: npt.NDArray[np.float32] = fft.fftshift(fft.irfft2(products, (_PADDED, _PADDED)), axes=(1, 2))
    return images[:, 1:, 1:]
