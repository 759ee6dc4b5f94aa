"""Class activation maps of a feature map, checked against the features and the score of a head."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ...errors import ModelFileError
from ...extract import Pixels
from ...extract.engines import allowed_difference
from ...heads import Evidence
from ..shared import default_style

if TYPE_CHECKING:
    from matplotlib.colors import Colormap, Normalize

OPACITY = 0.6
SCORE_TOLERANCE = 1e-3
"""Largest difference between the sum of a map and its bias and the score, relative to the score if it is above 1."""


def heatmap_of(maps: npt.NDArray[np.float32], evidence: Evidence, index: int) -> npt.NDArray[np.float64]:
    """Return the contribution of each region to the score of class `index`: float64, shape (h, w)."""
    # maps: the last feature map (h, w, d); evidence: that of its mean. Without a bias, the heatmap is Grad-CAM.
    height, width, _ = maps.shape
    heatmap: npt.NDArray[np.float64] = maps.astype(np.float64) @ evidence.weights[:, index] / (height * width)
    if evidence.bias is None:
        return np.maximum(heatmap, 0.0)
    score, total = float(evidence.scores[index]), float(heatmap.sum() + evidence.bias[index])
    if not abs(total - score) <= SCORE_TOLERANCE * max(1.0, abs(score)):
        raise ModelFileError(
            f"the map and the bias add up to {total:.6g}, the head's score is {score:.6g}: the feature map is not the "
            "one that the head's features come from"
        )
    return heatmap


def check_mean(maps: npt.NDArray[np.float32], features: npt.NDArray[np.float32]) -> float:
    """Return the largest difference between the mean over the regions (h, w, d) and the pooled features (d,)."""
    difference = float(np.abs(maps.mean(axis=(0, 1), dtype=np.float64) - features).max())
    allowed = allowed_difference(features)
    if not difference <= allowed:
        raise ModelFileError(
            f"the mean over the regions differs from the features by {difference:.2g}, {allowed:.2g} is allowed: the "
            "image has changed in the meantime, or this machine computes differently"
        )
    return difference


@default_style()
def heatmap_colormap(heatmap: npt.NDArray[np.float64], signed: bool) -> tuple[Normalize, Colormap]:
    """Return norm and colormap of a heatmap: symmetric around 0 if signed, otherwise from 0."""
    import matplotlib as mpl
    from matplotlib.colors import Normalize

    largest = float(np.abs(heatmap).max()) or 1.0
    return Normalize(-largest if signed else 0.0, largest), mpl.colormaps["RdBu_r" if signed else "Reds"]


def gray(pixels: Pixels) -> npt.NDArray[np.float64]:
    """Return the luma of an image, 0 to 255: its own colours would mix with those of a map."""
    luma: npt.NDArray[np.float64] = pixels @ np.array([0.299, 0.587, 0.114])
    return luma
