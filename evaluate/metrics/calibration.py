"""Calibration of probabilities: reliability, calibration error, and accuracy at a confidence."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

BINS = 15
TARGETS = (0.95, 0.99, 0.999)
_POINTS = 200

Probabilities = npt.NDArray[np.float64]


def probability_scores(true: npt.NDArray[np.intp], probabilities: Probabilities) -> dict[str, float]:
    """Return ``brier`` (0 to 2, summed over classes) and ``ece`` of probabilities, shape (t, k)."""
    # Brier, 1950, doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2
    # expected calibration error: Guo et al., 2017, https://proceedings.mlr.press/v70/guo17a.html
    truth = np.zeros_like(probabilities)
    truth[np.arange(len(true)), true] = 1
    bins = reliability(true, probabilities)
    gaps = [filled["count"] * abs(filled["accuracy"] - filled["confidence"]) for filled in bins]
    return {"brier": float(((probabilities - truth) ** 2).sum(axis=1).mean()), "ece": float(sum(gaps) / len(true))}


def reliability(true: npt.NDArray[np.intp], probabilities: Probabilities, bins: int = BINS) -> list[dict[str, Any]]:
    """Return the accuracy by confidence, with Wilson's 95 % interval, in bins of equal width that have images."""
    from scipy.stats import binomtest

    confidence, correct = _confidence(true, probabilities)
    bin_of_image = np.minimum((confidence * bins).astype(int), bins - 1)
    filled = []
    for number in np.unique(bin_of_image):
        mask = bin_of_image == number
        ends = binomtest(int(correct[mask].sum()), int(mask.sum())).proportion_ci(method="wilson")
        filled.append(
            {
                "confidence": float(confidence[mask].mean()),
                "accuracy": float(correct[mask].mean()),
                "count": int(mask.sum()),
                "low": float(ends.low),
                "high": float(ends.high),
            }
        )
    return filled


def coverage(true: npt.NDArray[np.intp], probabilities: Probabilities) -> dict[str, Any]:
    """Return the accuracy of the most confident predictions: a curve, and the largest coverage by target."""
    # risk and coverage: Geifman and El-Yaniv, 2017, https://arxiv.org/abs/1705.08500
    confidence, correct = _confidence(true, probabilities)
    order = np.argsort(-confidence, kind="stable")
    ordered = confidence[order]
    accuracy = np.cumsum(correct[order]) / np.arange(1, len(order) + 1)
    # images of equal confidence are included together
    ends = np.flatnonzero(np.r_[ordered[1:] != ordered[:-1], True])
    targets = []
    for target in TARGETS:
        reached = ends[accuracy[ends] >= target]
        point = None if not len(reached) else _point(int(reached[-1]), ordered, accuracy)
        targets.append({"target": target, "at": point})
    chosen = ends[np.unique(np.linspace(0, len(ends) - 1, _POINTS).round().astype(int))]
    return {"curve": [_point(int(place), ordered, accuracy) for place in chosen], "targets": targets}


def _point(place: int, confidence: npt.NDArray[Any], accuracy: npt.NDArray[Any]) -> dict[str, float]:
    fraction = (place + 1) / len(confidence)
    return {"threshold": float(confidence[place]), "coverage": fraction, "accuracy": float(accuracy[place])}


def _confidence(
    true: npt.NDArray[np.intp], probabilities: Probabilities
) -> tuple[Probabilities, npt.NDArray[np.bool_]]:
    predicted = probabilities.argmax(axis=1)
    return probabilities[np.arange(len(true)), predicted], predicted == true
