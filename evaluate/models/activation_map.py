"""Class activation maps of a feature map, and the proof that they are those of what a head was given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ...errors import ModelFileError
from ...extract import Pixels
from ...extract.engines import allowed_difference
from ...heads import Evidence

if TYPE_CHECKING:
    from matplotlib.colors import Colormap, Normalize

SCORE_TOLERANCE = 1e-3
"""How far a map and its bias may add up beside the score, as a share of it where it is above 1."""


def heatmap_of(maps: npt.NDArray[np.float32], evidence: Evidence, chosen: int) -> npt.NDArray[np.float64]:
    """Return what each place adds to a class's score, or for heads that are not linear Grad-CAM.

    Parameters
    ----------
    maps : ndarray of float32, shape (h, w, d)
        The last feature map.
    evidence : Evidence
        Of its mean.
    chosen : int
        The class.

    Returns
    -------
    ndarray of float64, shape (h, w)

    Raises
    ------
    ModelFileError
        When map and bias of a linear head do not add up to its score.
    """
    height, width, _ = maps.shape
    heatmap: npt.NDArray[np.float64] = maps.astype(np.float64) @ evidence.weights[:, chosen] / (height * width)
    if evidence.bias is None:
        return np.maximum(heatmap, 0.0)
    score, total = float(evidence.scores[chosen]), float(heatmap.sum() + evidence.bias[chosen])
    if not abs(total - score) <= SCORE_TOLERANCE * max(1.0, abs(score)):
        raise ModelFileError(
            f"the map and the bias add up to {total:.6g}, the head's score is {score:.6g}: the feature map is not the "
            "one that the head's features come from"
        )
    return heatmap


def checked_mean(maps: npt.NDArray[np.float32], features: npt.NDArray[np.float32]) -> float:
    """Return how far the mean over the places is from the pooled features.

    Parameters
    ----------
    maps : ndarray of float32, shape (h, w, d)
        The last feature map.
    features : ndarray of float32, shape (d,)
        What the head was given.

    Returns
    -------
    float
        The largest difference of a feature.

    Raises
    ------
    ModelFileError
        When it is more than engines and processors differ by.
    """
    difference = float(np.abs(maps.mean(axis=(0, 1), dtype=np.float64) - features).max())
    allowed = allowed_difference(features)
    if not difference <= allowed:
        raise ModelFileError(
            f"the mean over the places differs from the features by {difference:.2g}, {allowed:.2g} is allowed: the "
            "image changed meanwhile, or this machine computes otherwise"
        )
    return difference


_SIGNED, _UNSIGNED = "RdBu_r", "Reds"


OPACITY = 0.6


def heatmap_colormap(heatmap: npt.NDArray[np.float64], signed: bool) -> tuple[Normalize, Colormap]:
    """Return how values become colours: around 0 when signed, otherwise from 0."""
    import matplotlib as mpl
    from matplotlib.colors import Normalize

    largest = float(np.abs(heatmap).max()) or 1.0
    return Normalize(-largest if signed else 0.0, largest), mpl.colormaps[_SIGNED if signed else _UNSIGNED]


def gray(pixels: Pixels) -> npt.NDArray[np.float64]:
    """Return the luma of an image, 0 to 255: its own colours would mix with those of a map."""
    luma: npt.NDArray[np.float64] = pixels @ np.array([0.299, 0.587, 0.114])
    return luma
