"""How far two computations of one feature may stand apart."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

TOLERANCE = 1e-3
"""Of a feature, as a share of the largest one where that is above 1. Engines and processors differ by some 3e-5."""


def allowed_difference(features: npt.NDArray[np.float32]) -> float:
    """Return the largest absolute difference from ``features`` that counts as agreement."""
    return TOLERANCE * max(1.0, float(np.abs(features).max(initial=0.0)))
