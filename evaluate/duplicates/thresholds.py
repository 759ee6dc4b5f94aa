"""From which score on two images are copies, as the scores of a data set itself tell.

Plain pictures, such as digits, agree by chance far better than tissue does, so no fixed score will do. Two things are
asked of a threshold, after Fisher's transformation, under which the spread of a correlation hardly depends on its size:

- Unrelated pairs lie far below it (:func:`null_limit`).
- There is a gap below it (:func:`gap_limit`). Where there are copies, candidates fall into those that agree and those
  that do not; where there are none, scores thin out steadily, and the best of them mean nothing. While the density of
  chance scores falls fast, the pairs just below a threshold are no fewer than the chance pairs above it, so their ratio
  estimates the share of false ones among the proven, from above, in the manner of an empirical false discovery rate
  (Efron, 2004, doi:10.1198/016214504000000089).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float32]

NULL_DEVIATIONS = 5.0
GAP = 0.3
"""Width of the interval below a threshold that must be nearly empty, after Fisher's transformation: from 0.59 to 0.75,
or from 0.982 to 0.990."""

EQUAL = 0.9995
"""What only equal pictures reach, after rounding; Fisher's transformation is cut off here."""

_FEWEST = 20


def null_limit(scores: Scores) -> float:
    """Return a score far above those of unrelated pairs: five standard deviations above their median.

    Parameters
    ----------
    scores : ndarray of float32, shape (k,)
        Of pairs drawn at random; those of -1 do not count. Fewer than 20 tell nothing, and give 0.

    Notes
    -----
    The deviation is taken from quartiles: where few originals have many copies, there are copies among these pairs too,
    far outside.
    """
    z = _fisher(scores[scores > -1])  # of NaN neither
    if len(z) < _FEWEST:
        return 0.0
    low, middle, high = np.quantile(z, [0.25, 0.5, 0.75])
    deviation = max(middle - low, high - middle) / 0.6745
    return float(np.tanh(middle + NULL_DEVIATIONS * deviation))


def gap_limit(scores: Scores, least: float, share: float) -> float:
    """Return the smallest threshold, not below ``least``, under which there is a gap.

    Parameters
    ----------
    scores : ndarray of float32, shape (k,)
        Of candidates, the likeliest copies of each image.
    least : float
    share : float
        So many scores may lie in the interval below the threshold for each one above it.

    Returns
    -------
    float
        At most 0.9995, which only equal pictures reach.
    """
    z = np.sort(_fisher(scores[scores > -1]))
    begin = float(_fisher(np.array([least])).item())
    # the count below falls only where a score leaves the interval
    places = np.concatenate([[begin], np.nextafter(z[z + GAP > begin] + GAP, np.inf)])
    at = np.searchsorted(z, places)
    below = at - np.searchsorted(z, places - GAP)
    enough = below <= share * (len(z) - at)
    return float(min(np.tanh(places[enough.argmax()]), EQUAL))


def _fisher(scores: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    z: npt.NDArray[np.float64] = np.arctanh(np.clip(scores.astype(np.float64), -EQUAL, EQUAL))
    return z
