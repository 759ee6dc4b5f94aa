"""Registration of pairs of thumbnails: the affine map under which both show the same, and how well they agree.

Gauss-Newton steps on the difference of normalised pictures, from coarse to fine (Lucas and Kanade, 1981; Evangelidis
and Psarakis, 2008, doi:10.1109/TPAMI.2008.113). A map ``a b c d e f`` takes the position (x, y) of the second image, in
pixels from the centre and with y reversed if it is mirrored, to (a x + b y + c, d x + e y + f) in the first.
"""

from __future__ import annotations

from math import isqrt
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .kernels import kernels
from .pairs import Rows
from .thumbnails import LEVELS, Bands, Thumbnails

Affine = npt.NDArray[np.float32]
Mirror = npt.NDArray[np.bool_]

MINIMUM_OVERLAP = 0.3
"""Fraction of the second image that must lie inside the first for a score to count."""

MAXIMUM_SCALE = 2.2
MAXIMUM_STRETCH = 2.1
"""A map with a larger scale, or a larger ratio of scales, is implausible: it maps a whole picture onto a spot or an
edge, and spots are similar in many pictures."""

STEPS = (8, 4, 3)  # Gauss-Newton steps on each level
_STRIDE = (2, 1, 1)  # the coarse level is so smooth that every second pixel suffices
_HOPELESS = (0.5, 0.4)
"""Scores of the coarse and the middle level below which a pair is abandoned: of about 3,900 accepted pairs of
histology, none had less than 0.68 on the coarse level."""

_DAMPING = 1.02


class Registration(NamedTuple):
    """Pairs after registration: score (-1 to 1; -1 if the map is implausible), mirror, and map, shape (k, 6)."""

    score: npt.NDArray[np.float32]  # normalised correlation over the common area; of the last level it reached
    mirror: Mirror
    affine: Affine

    def at(self, which: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Registration:
        """Return some of the pairs, by mask or by index."""
        return Registration(self.score[which], self.mirror[which], self.affine[which])


def register(
    thumbnails: Thumbnails, first: Rows, second: Rows, hypotheses: list[tuple[Mirror, Affine]]
) -> Registration:
    """Register pairs of rows from the best of some maps to start from, and score them on the finest level."""
    score = np.full(len(first), -1, np.float32)
    mirror, affine = hypotheses[0][0].copy(), hypotheses[0][1].copy()
    pictures = thumbnails.bands(first, LEVELS[0]), thumbnails.bands(second, LEVELS[0])
    for start_mirror, start in hypotheses:
        reached, refined = descend(*pictures, start_mirror, start, STEPS[0], _STRIDE[0])
        better = reached > score
        score = np.where(better, reached, score)
        affine[better], mirror[better] = refined[better], start_mirror[better]
    for level, minimum in enumerate(_HOPELESS, 1):
        left = np.flatnonzero(score >= minimum)
        if not len(left):
            break
        pictures = thumbnails.bands(first[left], LEVELS[level]), thumbnails.bands(second[left], LEVELS[level])
        reached, refined = descend(*pictures, mirror[left], affine[left], STEPS[level], _STRIDE[level])
        score[left], affine[left] = reached, refined
    score[~plausible(affine)] = -1
    return Registration(score, mirror, affine)


def plausible(affine: Affine) -> npt.NDArray[np.bool_]:
    """Return which maps augmentation could have made: bool, shape (k,)."""
    scales = np.linalg.svd(affine[:, [0, 1, 3, 4]].reshape(-1, 2, 2), compute_uv=False)
    large, small = scales[:, 0], scales[:, 1]
    in_range: npt.NDArray[np.bool_] = (
        (large <= MAXIMUM_SCALE) & (small >= 1 / MAXIMUM_SCALE) & (large <= MAXIMUM_STRETCH * small)
    )
    return in_range


def descend(
    first: Bands, second: Bands, mirror: Mirror, affine: Affine, steps: int, stride: int = 1
) -> tuple[npt.NDArray[np.float32], Affine]:
    """Take Gauss-Newton steps and return the best scores, float32, shape (k,), and their maps, shape (k, 6)."""
    # pictures are of shape (k, side * side), maps in their pixels; of the second, every stride-th row and column counts
    side = isqrt(first.shape[1])
    library = kernels()
    if library is None:
        return _descend(first, second, mirror, affine, steps, stride)
    best, best_affine = np.empty(len(first), np.float32), affine.astype(np.float32)
    library.embedonce_descend(
        first,
        second,
        mirror,
        best_affine,
        best,
        *(len(first), side, stride, steps, MINIMUM_OVERLAP, _DAMPING),
    )
    return best, best_affine


def _descend(
    first: Bands, second: Bands, mirror: Mirror, affine: Affine, steps: int, stride: int
) -> tuple[npt.NDArray[np.float32], Affine]:
    """Take the same steps in NumPy."""
    side = isqrt(first.shape[1])
    x, y = _grid(side, stride, mirror)
    fixed = second.reshape(-1, side, side)[:, ::stride, ::stride].reshape(len(second), -1)
    best, best_affine = np.full(len(first), -1, np.float32), affine.copy()
    jacobian = np.empty((len(first), 6, len(x)), np.float32)
    diagonal = np.arange(6)
    for step in range(steps + 1):
        moved, inside, slope_x, slope_y = _sample(first, x, y, affine)
        count = np.maximum(inside.sum(1), 1)
        moved = (moved - (np.einsum("nk,nk->n", moved, inside) / count)[:, None]) * inside
        target = (fixed - (np.einsum("nk,nk->n", fixed, inside) / count)[:, None]) * inside
        moved_norm = np.sqrt(np.einsum("nk,nk->n", moved, moved))
        target_norm = np.sqrt(np.einsum("nk,nk->n", target, target)) + 1e-6
        score = np.einsum("nk,nk->n", moved, target) / (moved_norm * target_norm + 1e-6)
        score[count < MINIMUM_OVERLAP * len(x)] = -1
        better = score > best
        best = np.where(better, score, best)
        best_affine[better] = affine[better]
        if step == steps:
            break
        residual = target * (moved_norm / target_norm)[:, None] - moved
        slope_x *= inside
        slope_y *= inside
        np.multiply(slope_x, x, out=jacobian[:, 0])
        np.multiply(slope_x, y, out=jacobian[:, 1])
        jacobian[:, 2] = slope_x
        np.multiply(slope_y, x, out=jacobian[:, 3])
        np.multiply(slope_y, y, out=jacobian[:, 4])
        jacobian[:, 5] = slope_y
        curvature = jacobian @ jacobian.transpose(0, 2, 1)
        curvature[:, diagonal, diagonal] *= _DAMPING
        curvature[:, diagonal, diagonal] += 1e-2
        affine = affine + np.linalg.solve(curvature, jacobian @ residual[..., None])[..., 0]
    return best, best_affine


def warp(first: Bands, mirror: Mirror, affine: Affine) -> tuple[Bands, Bands]:
    """Return the first pictures mapped onto the second ones, and 1 where they overlap, else 0: (k, side * side)."""
    x, y = _grid(isqrt(first.shape[1]), 1, mirror)
    return _sample(first, x, y, affine)[:2]


def _grid(side: int, stride: int, mirror: Mirror) -> tuple[Bands, Bands]:
    """Return the positions of the second pictures' pixels: x of shape (p,), y of shape (k, p)."""
    grid = np.arange(0, side, stride) - np.float32((side - 1) / 2)
    x = np.tile(grid, len(grid)).astype(np.float32)
    y = np.where(mirror[:, None], -1, 1).astype(np.float32) * np.repeat(grid, len(grid)).astype(np.float32)
    return x, y


def _sample(first: Bands, x: Bands, y: Bands, affine: Affine) -> tuple[Bands, Bands, Bands, Bands]:
    """Return pictures at mapped positions: values, 1 for inside and 0 for outside, slopes along x and y."""
    side = isqrt(first.shape[1])
    centre, limit = np.float32((side - 1) / 2), side - 1 - 1e-3
    column = affine[:, 0:1] * x + affine[:, 1:2] * y + (affine[:, 2:3] + centre)
    row = affine[:, 3:4] * x + affine[:, 4:5] * y + (affine[:, 5:6] + centre)
    inside = ((column >= 0) & (column <= side - 1) & (row >= 0) & (row <= side - 1)).astype(np.float32)
    np.clip(column, 0, limit, out=column)
    np.clip(row, 0, limit, out=row)
    left, top = column.astype(np.int32), row.astype(np.int32)
    column -= left
    row -= top
    flat = first.reshape(-1)
    index = (np.arange(len(first)) * side * side)[:, None] + (top * side + left)
    upper, lower = flat[index], flat[index + side]
    along_upper, along_lower = flat[index + 1] - upper, flat[index + side + 1] - lower
    upper += along_upper * column
    lower += along_lower * column
    lower -= upper  # now the slope along y
    along_lower -= along_upper
    along_lower *= row
    along_lower += along_upper
    return upper + lower * row, inside, along_lower, lower
