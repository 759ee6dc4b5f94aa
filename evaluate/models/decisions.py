"""Decisions in a model file: which images a person must classify, and sets of labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import ModelFileError
from ..shared import Record

ANSWER, ASK = "answer", "ask a person"
KINDS = ("accuracy", "coverage")


@dataclass(frozen=True)
class Decision(Record):
    """A rule of a model, and what it did on held-out training images.

    Attributes
    ----------
    kind : {"accuracy", "coverage"}
    target : float
        Accuracy of the answers, with 95 % confidence; or probability that the label is in the set.
    threshold : float
        Lowest probability of an answer; or of a class in the set.
    measured : float
        Fraction of images with an answer; or mean number of labels in a set.
    images, groups : int
        Held-out training images, and their groups.
    """

    kind: str
    target: float
    threshold: float
    measured: float
    images: int
    groups: int


def in_set(
    probabilities: npt.NDArray[np.float64], predicted: npt.NDArray[np.intp], threshold: float
) -> npt.NDArray[np.bool_]:
    """Return which classes are in the set of every image: those from the threshold on, and the predicted one."""
    inside: npt.NDArray[np.bool_] = probabilities >= threshold
    inside[np.arange(len(inside)), predicted] = True
    return inside


def decisions_of(metadata: dict[str, Any], name: str) -> list[Decision]:
    """Return the decisions in a model file's metadata, or raise a ModelFileError if they are damaged."""
    stored = metadata.get("decisions") or []
    try:
        decisions = [Decision(**entry) for entry in stored]
        if not all(
            one.kind in KINDS and 0 < one.target < 1 and 0 <= one.threshold <= 1 + 1e-6 and one.images >= 0
            for one in decisions
        ) or len({one.kind for one in decisions}) < len(decisions):
            raise ValueError("no such decision")
    except (TypeError, ValueError) as error:
        raise ModelFileError(f"{name} describes its decisions in a damaged way. Train it again") from error
    return decisions
