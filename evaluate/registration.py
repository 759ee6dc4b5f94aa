"""Registration of pairs of thumbnails: the affine map under which one shows what the other shows, and how well.

Gauss-Newton steps on the difference of the two normalised pictures, from coarse to fine (Lucas and Kanade, 1981; the
normalisation against brightness and contrast after Evangelidis and Psarakis, 2008, doi:10.1109/TPAMI.2008.113). Many
pairs take their steps together.

A map is six numbers ``a b c d e f``: a place (x, y) of the second image, in pixels from the centre and with y reversed
when it is mirrored, stands at (a x + b y + c, d x + e y + f) of the first.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .thumbnails import LEVELS, PIXELS, SIDE, Bands, Thumbnails

Affine = npt.NDArray[np.float32]
Mirror = npt.NDArray[np.bool_]

CENTRE = (SIDE - 1) / 2
MINIMUM_OVERLAP = 0.3
"""Share of the second image that must lie inside the first for a score to count."""

STEPS = (8, 4, 3)  # Gauss-Newton steps on each level
_STRIDE = (2, 1, 1)  # the coarse level is so smooth that every second pixel tells the same
_DAMPING = 1.02
_LIMIT = SIDE - 1 - 1e-3


def register(
    thumbnails: Thumbnails,
    first: npt.NDArray[np.intp],
    second: npt.NDArray[np.intp],
    hypotheses: list[tuple[Mirror, Affine]],
) -> npt.NDArray[np.float32]:
    """Register pairs of images and score them.

    Parameters
    ----------
    thumbnails : Thumbnails
    first, second : ndarray of intp, shape (k,)
        Rows of the pairs.
    hypotheses : list of (mirror, affine)
        Maps to start from, each with one map for every pair: bool (k,) and float32 (k, 6). The one that leads furthest
        on the coarsest level is refined.

    Returns
    -------
    ndarray of float32, shape (k,)
        Normalised correlation of the finest level over the common area, -1 to 1; -1 where the two share too little.
    """
    score = np.full(len(first), -1, np.float32)
    mirror, affine = (part.copy() for part in hypotheses[0])
    for level, blur in enumerate(LEVELS):
        pictures = thumbnails.bands(first, blur), thumbnails.bands(second, blur)
        if level:
            score, affine = _descend(*pictures, mirror, affine, STEPS[level], _STRIDE[level])
            continue
        for start_mirror, start in hypotheses:
            reached, refined = _descend(*pictures, start_mirror, start, STEPS[level], _STRIDE[level])
            better = reached > score
            score = np.where(better, reached, score)
            affine[better], mirror[better] = refined[better], start_mirror[better]
    return score


def _descend(
    first: Bands, second: Bands, mirror: Mirror, affine: Affine, steps: int, stride: int
) -> tuple[npt.NDArray[np.float32], Affine]:
    """Take Gauss-Newton steps and return the best score on the way and its map."""
    grid = np.arange(0, SIDE, stride)
    x = np.tile(grid - CENTRE, len(grid)).astype(np.float32)
    y = np.where(mirror[:, None], -1, 1).astype(np.float32) * np.repeat(grid - CENTRE, len(grid)).astype(np.float32)
    fixed = second.reshape(-1, SIDE, SIDE)[:, ::stride, ::stride].reshape(len(second), -1)
    flat = first.reshape(-1)
    image = (np.arange(len(first)) * PIXELS)[:, None]
    best, best_affine = np.full(len(first), -1, np.float32), affine.copy()
    jacobian = np.empty((len(first), 6, len(x)), np.float32)
    diagonal = np.arange(6)
    for step in range(steps + 1):
        column = affine[:, 0:1] * x + affine[:, 1:2] * y + (affine[:, 2:3] + np.float32(CENTRE))
        row = affine[:, 3:4] * x + affine[:, 4:5] * y + (affine[:, 5:6] + np.float32(CENTRE))
        inside = ((column >= 0) & (column <= SIDE - 1) & (row >= 0) & (row <= SIDE - 1)).astype(np.float32)
        np.clip(column, 0, _LIMIT, out=column)
        np.clip(row, 0, _LIMIT, out=row)
        left, top = column.astype(np.int32), row.astype(np.int32)
        column -= left
        row -= top
        place = image + (top * SIDE + left)
        upper, lower = flat[place], flat[place + SIDE]
        along_upper, along_lower = flat[place + 1] - upper, flat[place + SIDE + 1] - lower
        upper += along_upper * column
        lower += along_lower * column
        lower -= upper  # from here on the slope along y
        moved = upper + lower * row

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
        along_lower -= along_upper
        along_lower *= row
        slope_x = (along_upper + along_lower) * inside
        slope_y = lower * inside
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
