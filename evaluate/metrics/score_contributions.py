"""What every image contributes to a score: values whose mean is the score, for errors and tests over groups."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

_BLOCK = 1_000_000  # counts at a time


def contributions(
    correct: npt.NDArray[np.floating] | npt.NDArray[np.bool_], classes: npt.NDArray[np.intp] | None = None
) -> npt.NDArray[np.float64]:
    """Return values, shape (t,), whose mean is the accuracy, or the balanced accuracy over ``classes``, of correct."""
    values = np.asarray(correct, np.float64)
    if classes is None:
        return values
    _, of_row, sizes = np.unique(classes, return_inverse=True, return_counts=True)
    means = np.bincount(of_row, values) / sizes
    found: npt.NDArray[np.float64] = weights(classes, len(values)) * (values - means[of_row]) + means.mean()
    return found


def weights(classes: npt.NDArray[np.intp] | None, rows: int) -> npt.NDArray[np.float64]:
    """Return the weight of every image in a score, with a mean of 1."""
    if classes is None:
        return np.ones(rows)
    _, of_row, sizes = np.unique(classes, return_inverse=True, return_counts=True)
    found: npt.NDArray[np.float64] = rows / (len(sizes) * sizes[of_row])
    return found


def contributions_by_jackknife(
    measure: Callable[..., npt.NDArray[np.float64]],
    counts: npt.NDArray[np.float64],
    true: npt.NDArray[np.intp],
    predicted: npt.NDArray[np.intp],
) -> npt.NDArray[np.float64]:
    """Return values, shape (t,), whose mean is near a score of `Counts`: it plus what it loses without the image."""
    # the jackknife's pseudo-values (Efron, 1982, doi:10.1137/1.9781611970319); images of one cell of the confusion
    # matrix have the same
    rows, k = len(true), counts.shape[-1]
    cells, of_row = np.unique(true * k + predicted, return_inverse=True)
    whole = float(measure(counts))
    without = np.empty(len(cells))
    step = max(1, _BLOCK // counts.size)
    for start in range(0, len(cells), step):
        real, named = np.divmod(cells[start : start + step], k)
        fewer = np.repeat(counts[None], len(real), 0)
        each = np.arange(len(real))
        fewer[each, 0, real] -= real == named
        fewer[each, 1, real] -= 1
        fewer[each, 2, named] -= 1
        without[start : start + step] = measure(fewer)
    return whole + (rows - 1) * (whole - without[of_row])
