"""Thresholds of decisions: chosen on held-out training images, and scored on others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache
from ...errors import HeadError, ParameterError, describe
from ..metrics import AnswerCurve, accuracy_interval, label_threshold, units
from ..scoring import Views, fit_and_score
from ..shared import Record, percent
from ..splits import Groups, Split, inner_folds
from .decisions import KINDS, Decision, in_set

_FOLDS = 5


@dataclass(frozen=True)
class DecisionScores(Record):
    """What a rule did on the images of a cache: the fraction with an answer, or the mean number of labels.

    ``score`` is the accuracy of the answers, or the fraction of images whose label is in the set; with its 95 %
    confidence interval.
    """

    kind: str
    target: float
    measured: float
    score: float | None
    low: float | None
    high: float | None
    images: int

    @property
    def text(self) -> str:
        """The scores as a sentence."""
        ends = (
            ""
            if self.low is None or self.high is None
            else f" (95 % interval {percent(self.low)} to {percent(self.high)})"
        )
        if self.kind == "coverage":
            return (
                f"the label is in the set for {percent(self.score or 0.0)} of {self.images:,} images{ends}; the target "
                f"is {percent(self.target)}, and sets have {self.measured:.2f} labels on average"
            )
        if self.score is None:
            return f"the model answers none of {self.images:,} images and asks a person"
        return (
            f"the model answers {percent(self.measured)} of {self.images:,} images, and {percent(self.score)} of the "
            f"answers are correct{ends}; the target is {percent(self.target)}"
        )


def read_targets(decide: str | None) -> dict[str, float]:
    """Return the targets of the parameter ``decide``: ``accuracy=VALUE``, ``coverage=VALUE``, or both with a comma."""
    if decide is None:
        return {}
    targets: dict[str, float] = {}
    for text in decide.split(",") if isinstance(decide, str) else [""]:
        kind, _, value = text.strip().partition("=")
        try:
            target = float(value)
        except ValueError:
            target = np.nan
        if kind not in KINDS or kind in targets or not 0 < target < 1:
            raise ParameterError(
                "parameter decide of train must be accuracy=VALUE or coverage=VALUE, with a value between 0 and 1, or "
                f"both with a comma, got {describe(decide)}"
            )
        targets[kind] = target
    return targets


def choose_decisions(
    name: str,
    head: Any,
    cache: FeatureCache,
    split: Split,
    groups: Groups | None,
    views: Views | None,
    targets: dict[str, float],
    seed: int,
) -> list[Decision]:
    """Choose the thresholds on folds of the training part, whose images heads like this were not trained on."""
    from sklearn.base import clone

    if not hasattr(head, "predict_proba"):
        raise HeadError(f"parameter decide of train needs a head with probabilities, got {name!r}")
    trained = None if views is None or not views.train else replace(views, average=False)
    parts = []
    if split.method == "random":
        split = replace(split, method="custom")  # groups stay together in the folds
    for fold in inner_folds(cache, split, groups, _FOLDS, seed):
        result = fit_and_score(name, clone(head), cache, fold, groups, trained)
        true = cache.labels[fold.test].astype(np.intp)
        parts.append((fold.test, true, result.predicted, result.probabilities))
    rows, true, predicted, probabilities = (np.concatenate(part) for part in zip(*parts, strict=True))
    every = np.arange(len(rows))
    of_label, confidence = probabilities[every, true], probabilities[every, predicted]
    ids = None if groups is None else groups.ids[rows]
    known = len(rows) if ids is None else len(np.unique(ids))
    decisions = []
    for kind, target in targets.items():
        if kind == "accuracy":
            threshold, measured = _answers(confidence, predicted == true, ids, target)
        else:
            found = label_threshold(of_label, target, ids)
            if found is None:
                raise HeadError(
                    f"coverage={target:g} needs at least {int(np.ceil(target / (1 - target))):,} groups of held-out "
                    f"images, got {known:,}. Give a lower coverage, or more groups"
                )
            threshold = found
            measured = float(in_set(probabilities, predicted, threshold).sum(axis=1).mean())
        decisions.append(Decision(kind, target, threshold, measured, len(rows), known))
    return decisions


def _answers(
    confidence: npt.NDArray[np.float64],
    correct: npt.NDArray[np.bool_],
    ids: npt.NDArray[np.intp] | None,
    target: float,
) -> tuple[float, float]:
    curve = AnswerCurve(confidence, correct, ids)
    chosen = curve.threshold_for(target)
    if chosen is not None:
        return chosen.threshold, chosen.answered
    known = len(confidence) if ids is None else len(np.unique(ids))
    unit, in_groups, even = "groups", f" in {known:,} groups", " of equal size"
    if known == len(confidence):
        unit, in_groups, even = "images", "", ""
    needed = int(np.ceil(AnswerCurve.fewest(target)))
    best = max(curve.points, key=lambda point: point.lower)
    reached = curve.highest()
    lower = "no lower one is reached either" if reached is None else f"accuracy={reached:g} is reached"
    raise HeadError(
        f"no threshold reaches accuracy={target:g} with 95 % confidence on {len(confidence):,} held-out "
        f"images{in_groups}: at best {percent(best.accuracy)} of the answers are correct, at least "
        f"{percent(best.lower)}, on {percent(best.answered)} of the images. At least {needed:,} {unit}{even} without "
        f"an error are needed. Give a lower accuracy ({lower}), or more {unit}"
    )


def score_decisions(
    decisions: Sequence[Decision],
    true: npt.NDArray[np.intp],
    predicted: npt.NDArray[np.intp],
    probabilities: npt.NDArray[np.float64],
    groups: npt.NDArray[np.intp] | None,
) -> list[DecisionScores]:
    """Score the decisions on images with known classes."""
    scores = []
    for one in decisions:
        if one.kind == "accuracy":
            counted = probabilities[np.arange(len(true)), predicted] >= one.threshold
            successes = (predicted == true)[counted]
            measured = float(counted.mean())
        else:
            inside = in_set(probabilities, predicted, one.threshold)
            counted = np.ones(len(true), np.bool_)
            successes = inside[np.arange(len(true)), true]
            measured = float(inside.sum(axis=1).mean())
        score = low = high = None
        if len(successes):
            score = float(successes.mean())
            ids = None if groups is None else groups[counted]
            low, high = accuracy_interval(successes, units(ids, len(successes)))
        scores.append(DecisionScores(one.kind, one.target, measured, score, low, high, len(true)))
    return scores
