"""Thresholds of decisions from held-out predictions in groups: which answers to give, and sets of labels."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .clusters import Clusters, mean_error, units
from .intervals import LEVEL

_STEPS = 50  # fractions of answered images that are tested
_STARTS = (1.5, 2.5)
"""Where sequences of tests begin: at so many times the groups that show an accuracy if none has an error."""

Groups = npt.NDArray[np.integer]


class AnswerThreshold(NamedTuple):
    """Lowest probability of an answer, the fraction of answers, their accuracy, and its lower bound."""

    threshold: float
    answered: float
    accuracy: float
    lower: float


class AnswerCurve:
    """Accuracy of the most confident answers, with lower bounds that take groups into account."""

    def __init__(
        self, confidence: npt.NDArray[np.float64], correct: npt.NDArray[np.bool_], groups: Groups | None = None
    ) -> None:
        ordered = np.sort(confidence)[::-1]
        places = np.unique(np.round(np.linspace(1 / _STEPS, 1, _STEPS) * len(ordered)).astype(int).clip(1))
        self.thresholds = np.unique(ordered[places - 1])[::-1]  # of few answers first
        self.points: list[AnswerThreshold] = []
        self.effective: list[float] = []
        for threshold in self.thresholds.tolist():
            mask = confidence >= threshold
            clusters = units(None if groups is None else groups[mask], int(mask.sum()))
            values = correct[mask].astype(np.float64)
            lower = lower_bound(values, clusters, (1 - LEVEL) / len(_STARTS))
            self.points.append(AnswerThreshold(threshold, float(mask.mean()), float(values.mean()), lower))
            self.effective.append(clusters.effective)

    def threshold_for(self, accuracy: float) -> AnswerThreshold | None:
        """Return the threshold with most answers whose accuracy is at least this with 95 % confidence, if any."""
        # fixed sequences of tests (Angelopoulos, Bates, Candes, Jordan and Lei, 2021, arXiv:2110.01052): from some
        # starts, which depend on no label and share the level, to more answers until a lower bound is below
        fewest, last = self.fewest(accuracy), len(self.points) - 1
        best = -1
        for times in _STARTS:
            place = next((place for place, size in enumerate(self.effective) if size >= times * fewest), last)
            while place < len(self.points) and self.points[place].lower >= accuracy:
                best = max(best, place)
                place += 1
        if best < 0:
            return None
        chosen = self.points[best]
        return chosen._replace(threshold=0.0) if best == last else chosen

    def highest(self) -> float | None:
        """Return the highest accuracy, in steps of 0.01, that has a threshold."""
        return next((value / 100 for value in range(99, 0, -1) if self.threshold_for(value / 100)), None)

    @staticmethod
    def fewest(accuracy: float) -> float:
        """Return the effective number of groups that show an accuracy if none has an error."""
        return math.log((1 - LEVEL) / len(_STARTS)) / math.log(accuracy)


def lower_bound(values: npt.NDArray[np.float64], clusters: Clusters, error: float) -> float:
    """Return the lower bound of a fraction that fails with probability ``error``, over groups."""
    # exact binomial for the effective number of images (Korn and Graubard, 1998, Survey Methodology 24, 193-201)
    from scipy.stats import beta, norm, t

    size, mean = float(len(values)), float(values.mean())
    if not clusters.alone:
        size = clusters.effective
        if 0 < mean < 1:
            quantiles = norm.ppf(1 - error) / t.ppf(1 - error, max(clusters.groups - 1, 1))
            size = min(len(values), mean * (1 - mean) / mean_error(values, clusters) ** 2) * float(quantiles**2)
    return float(beta.ppf(error, mean * size, (1 - mean) * size + 1)) if mean > 0 else 0.0


def label_threshold(of_label: npt.NDArray[np.float64], coverage: float, groups: Groups | None = None) -> float | None:
    """Return the probability from which on classes are in the set of labels, by the probabilities of true labels.

    A further image of a further group has its label in the set with probability ``coverage``. None if there are too few
    groups.
    """
    # conformal prediction for hierarchical data (Lee, Barber and Willett, 2023, arXiv:2306.06342): groups have equal
    # weights, and that of one more group is beyond all scores
    clusters = units(groups, len(of_label))
    weights = 1 / (np.bincount(clusters.of_row)[clusters.of_row] * (clusters.groups + 1.0))
    order = np.argsort(-of_label, kind="stable")
    reached = np.flatnonzero(np.cumsum(weights[order]) >= coverage - 1e-9)
    return float(of_label[order[reached[0]]]) if len(reached) else None
