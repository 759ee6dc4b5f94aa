"""Thresholds for the scores of near-duplicates, as the scores of a data set determine them.

Plain pictures, such as digits, agree by chance far better than tissue does, so a fixed score does not work. The ratio
of scores just below a threshold to those above it is an upper estimate of the fraction of false pairs, like an
empirical false discovery rate (Efron, 2004, doi:10.1198/016214504000000089).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .pairs import Scores

NULL_DEVIATIONS = 5.0
GAP = 0.3
"""Width of the interval below a threshold that must be nearly empty, after Fisher's transformation: from 0.59 to 0.75,
or from 0.982 to 0.990."""

EQUAL = 0.9995
"""Only equal pictures reach it, after rounding; Fisher's transformation is cut off here."""

_MINIMUM_SCORES = 20


def null_limit(scores: Scores, deviations: float = NULL_DEVIATIONS) -> float:
    """Return a score far above those of unrelated pairs: five standard deviations above their median."""
    # the deviation is taken from quartiles: with few originals, some of these pairs are near-duplicates, far outside
    z = _fisher(scores[scores > -1])  # of NaN neither
    if len(z) < _MINIMUM_SCORES:
        return 0.0
    low, middle, high = np.quantile(z, [0.25, 0.5, 0.75])
    deviation = max(middle - low, high - middle) / 0.6745
    return float(np.tanh(middle + deviations * deviation))


def gap_limit(scores: Scores, minimum: float, fraction: float) -> float:
    """Return the smallest threshold that has at most ``fraction`` scores in the gap below it for each one above."""
    z = np.sort(_fisher(scores[scores > -1]))
    begin = float(_fisher(np.array([minimum])).item())
    # the count below falls only where a score leaves the interval
    limits = np.concatenate([[begin], np.nextafter(z[z + GAP > begin] + GAP, np.inf)])
    position = np.searchsorted(z, limits)
    below = position - np.searchsorted(z, limits - GAP)
    enough = below <= fraction * (len(z) - position)
    return float(min(np.tanh(limits[enough.argmax()]), EQUAL))


def _fisher(scores: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    z: npt.NDArray[np.float64] = np.arctanh(np.clip(scores.astype(np.float64), -EQUAL, EQUAL))
    return z
