"""Calibration of probabilities: reliability, calibration error, and accuracy by confidence."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from .clusters import Clusters, effective_size, units
from .intervals import LEVEL, accuracy_interval

BINS = 15
_POINTS = 200
_DRAWS = 2000

Probabilities = npt.NDArray[np.float64]


def probability_scores(
    true: npt.NDArray[np.intp], probabilities: Probabilities, groups: npt.NDArray[np.integer] | None = None
) -> dict[str, Any]:
    """Return scores of probabilities, shape (t, k): ``brier`` (0 to 2, summed over classes), and of their calibration.

    ``ece`` is the expected calibration error of the predicted class, ``ece_debiased`` an estimate without the part that
    chance adds, and ``ece_low`` and ``ece_high`` are the 95 % range of a perfectly calibrated head on as many images
    and groups. ``calibration_slope`` and ``calibration_intercept`` are those of a logistic regression of being correct
    on the log odds of the predicted class, 1 and 0 if calibrated, below 1 if overconfident; None without errors.
    """
    # Brier, 1950, doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2
    # expected calibration error: Guo et al., 2017, https://proceedings.mlr.press/v70/guo17a.html
    from scipy.special import ndtr

    truth = np.zeros_like(probabilities)
    truth[np.arange(len(true)), true] = 1
    confidence, correct = _confidence(true, probabilities)
    clusters = units(groups, len(true))
    gaps, errors, chance, weights = [], [], [], []
    for rows in _bins(confidence):
        part = clusters.take(rows)
        gaps.append(float(correct[rows].mean() - confidence[rows].mean()))
        errors.append(_error(gaps[-1] + float(confidence[rows].mean()), correct[rows], part))
        chance.append(_error(float(confidence[rows].mean()), correct[rows], part))
        weights.append(len(rows) / len(true))
    # debiased by the bias of the absolute value of a normal variable (Kumar, Liang and Ma, 2019,
    # https://proceedings.neurips.cc/paper/2019/hash/f8c0c968632845cd133308b1a494967f-Abstract.html)
    error, size = np.array(errors), np.abs(gaps)
    ratio = np.divide(size, error, out=np.full(len(size), np.inf), where=error > 0)
    density = np.exp(-(ratio**2) / 2) / math.sqrt(2 * math.pi)
    bias = 2 * (error * density - np.where(error > 0, size, 0) * ndtr(-ratio))
    drawn = np.abs(np.random.default_rng(0).normal(size=(_DRAWS, len(chance))) * chance) @ np.array(weights)
    low, high = np.quantile(drawn, [0.025, 0.975]).tolist()
    slope, intercept = _calibration_line(confidence, correct)
    return {
        "brier": float(((probabilities - truth) ** 2).sum(axis=1).mean()),
        "ece": float(size @ weights),
        "ece_debiased": max(0.0, float((size - bias) @ weights)),
        "ece_low": low,
        "ece_high": high,
        "calibration_slope": slope,
        "calibration_intercept": intercept,
    }


def _bins(confidence: Probabilities) -> list[npt.NDArray[np.intp]]:
    """Return the rows of every bin of equal width that has images."""
    of_row = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return [np.flatnonzero(of_row == number) for number in np.unique(of_row)]


def _error(fraction: float, correct: npt.NDArray[np.bool_], clusters: Clusters) -> float:
    """Return the standard error of a fraction of these images, if it were the true one."""
    return float(np.sqrt(max(fraction * (1 - fraction), 0.0) / effective_size(correct, clusters, LEVEL)))


def _calibration_line(confidence: Probabilities, correct: npt.NDArray[np.bool_]) -> tuple[float | None, float | None]:
    """Return slope and intercept by logistic regression on the log odds of the confidence."""
    # Cox, 1958, doi:10.1093/biomet/45.3-4.562; Newton's method, which has no finite optimum without errors
    if correct.all() or not correct.any():
        return None, None
    clipped = np.clip(confidence.astype(np.float64), 1e-7, 1 - 1e-7)
    design = np.column_stack([np.log(clipped / (1 - clipped)), np.ones(len(clipped))])
    line = np.array([1.0, 0.0])
    for _ in range(50):
        expected = 1 / (1 + np.exp(-np.clip(design @ line, -30, 30)))
        curvature = design.T @ (design * (expected * (1 - expected))[:, None])
        step = np.linalg.lstsq(curvature, design.T @ (correct - expected), rcond=None)[0]
        line = line + step
        if not np.isfinite(line).all() or np.abs(line).max() > 1e3:
            return None, None
        if np.abs(step).max() < 1e-8:
            break
    return float(line[0]), float(line[1])


def reliability(
    true: npt.NDArray[np.intp], probabilities: Probabilities, groups: npt.NDArray[np.integer] | None = None
) -> list[dict[str, Any]]:
    """Return the accuracy by confidence, with its 95 % interval, in bins of equal width that have images."""
    confidence, correct = _confidence(true, probabilities)
    clusters = units(groups, len(true))
    filled = []
    for rows in _bins(confidence):
        low, high = accuracy_interval(correct[rows], clusters.take(rows))
        filled.append(
            {
                "confidence": float(confidence[rows].mean()),
                "accuracy": float(correct[rows].mean()),
                "count": len(rows),
                "low": low,
                "high": high,
            }
        )
    return filled


def coverage(true: npt.NDArray[np.intp], probabilities: Probabilities) -> list[dict[str, float]]:
    """Return the accuracy of the most confident predictions, as points of a curve."""
    # risk and coverage: Geifman and El-Yaniv, 2017, https://arxiv.org/abs/1705.08500; a threshold that is chosen on
    # these images would be too low, so none is given
    confidence, correct = _confidence(true, probabilities)
    order = np.argsort(-confidence, kind="stable")
    ordered = confidence[order]
    accuracy = np.cumsum(correct[order]) / np.arange(1, len(order) + 1)
    # images of equal confidence are included together
    ends = np.flatnonzero(np.r_[ordered[1:] != ordered[:-1], True])
    chosen = ends[np.unique(np.linspace(0, len(ends) - 1, _POINTS).round().astype(int))]
    return [{"coverage": (place + 1) / len(ordered), "accuracy": float(accuracy[place])} for place in chosen.tolist()]


def _confidence(
    true: npt.NDArray[np.intp], probabilities: Probabilities
) -> tuple[Probabilities, npt.NDArray[np.bool_]]:
    predicted = probabilities.argmax(axis=1)
    return probabilities[np.arange(len(true)), predicted], predicted == true
