"""Learning curve: accuracy of heads against the number of training images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...cache import FeatureCache, display
from ...errors import EmbedonceError, first_line
from ..scoring import HeadResult, LearningPoint, fit_and_score, run_as_finished
from ..shared import Records
from ..splits import Groups, Split, shrink

STEPS = 7
REPEATS = 3
PER_CLASS = 10
"""Approximate number of images of each class in the smallest part."""


def score_learning_curve(
    cache: FeatureCache,
    heads: Mapping[str, Any],
    split: Split,
    groups: Groups | None = None,
    *,
    seed: int = 0,
    repeats: int = REPEATS,
    steps: int = STEPS,
    jobs: int = 1,
    dask: Any = None,
) -> tuple[Records[LearningPoint], list[str]]:
    """Score unfitted heads that are trained on parts of the training images, in equal ratios of size.

    The notes name heads that fail on a part, whose points at that size are left out.
    """
    from sklearn.base import clone

    classes = len(np.unique(cache.labels[split.train]))
    smallest = min(1.0, PER_CLASS * classes / len(split.train))
    fractions = np.unique(np.geomspace(smallest, 1, steps).round(6)).tolist()
    parts = {
        fraction: [
            shrink(split, cache, groups, fraction, (seed + repeat) % 2**32)
            for repeat in range(1 if fraction == 1 else repeats)
        ]
        for fraction in fractions
    }
    work, tasks = {}, []
    for fraction, larger in zip(fractions, [*fractions[1:], None], strict=True):
        if larger is not None and _sizes(parts[fraction]) == _sizes(parts[larger]):
            continue  # with whole groups, both are the same part
        for repeat, part in enumerate(parts[fraction], start=1):
            for name, head in heads.items():
                label = f"head {name!r} on {fraction:.6g} of the training images (repeat {repeat})"
                work[label] = (name, clone(head), cache, part, groups)
                tasks.append((name, fraction, len(part.train)))
    scored: dict[tuple[str, float], list[tuple[int, HeadResult]]] = {}
    failed: dict[str, EmbedonceError] = {}
    outcomes = dict(run_as_finished(fit_and_score, work, jobs, dask))
    for number, (name, fraction, images) in enumerate(tasks):
        outcome = outcomes[number]
        if isinstance(outcome, EmbedonceError):
            failed.setdefault(name, outcome)
        else:
            scored.setdefault((name, fraction), []).append((images, outcome))
    curve = []
    for (name, _), results in scored.items():
        accuracies = [result.scores["accuracy"] for _, result in results]
        curve.append(
            LearningPoint(
                name,
                images=float(np.mean([images for images, _ in results])),
                accuracy=float(np.mean(accuracies)),
                low=min(accuracies),
                high=max(accuracies),
                macro_f1=float(np.mean([result.scores["macro_f1"] for _, result in results])),
                repeats=len(results),
            )
        )
    notes = [
        f"the learning curve of {display(name)} lacks points, because {first_line(error)}"
        for name, error in failed.items()
    ]
    return Records(curve), notes


def _sizes(parts: list[Split]) -> set[int]:
    return {len(part.train) for part in parts}
