"""How far two computations of one feature may stand apart."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

TOLERANCES = {"float32": 1e-3, "float16": 0.05, "bfloat16": 0.2, "int8": 0.2}
"""Of a feature, as a share of the largest one where that is above 1, for each precision.

One machine gives equal bits each time. What was measured otherwise, on 120 lung images with trained weights of alpha
1.0 and 0.35:

- float32: engines and processors differ by some 3e-5.
- float16 and bfloat16: 0.033 and 0.146 from float32, which bounds what another order of summation can do.
- int8: 0.17 between LiteRT's three implementations of the same model (XNNPACK, its own, its reference): a rounding the
  other way goes on through the layers. The features of the nearest other image are 0.23 away, the median 0.45."""


def allowed_difference(features: npt.NDArray[np.float32], precision: str = "float32") -> float:
    """Return the largest absolute difference from ``features`` that counts as agreement."""
    return TOLERANCES[precision] * max(1.0, float(np.abs(features).max(initial=0.0)))
