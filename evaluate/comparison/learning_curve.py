"""How much accuracy more labels bring: heads trained on growing parts of the training images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ...cache import FeatureCache
from ...errors import check_int
from ..scoring import fit_and_score, run_jobs
from ..splits import Groups, Split, shrink

if TYPE_CHECKING:
    pass

STEPS = 7
REPEATS = 3
PER_CLASS = 10  # images of each class that the smallest part has, about


def budget_curve(
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
) -> list[dict[str, Any]]:
    """Score heads that were trained on parts of the training images.

    Parameters
    ----------
    cache : FeatureCache
    heads : mapping of str to classifier
        Unfitted.
    split : Split
        Its test part scores them all.
    groups : Groups, optional
        A part has whole groups when the split is grouped.
    seed : int
    repeats : int
        How many times, each with parts of its own. The whole is trained on once.
    steps : int
        Sizes, in equal ratios, from some ten images a class to all. Each part is within the larger ones of its repeat
        and has the classes in the shares of the whole.
    jobs, dask
        See :func:`embedonce.compare`.

    Returns
    -------
    list of dict
        For every head and size: ``head``, ``images`` (the mean over repeats), ``accuracy`` (their mean), ``low`` and
        ``high`` (their lowest and highest), ``macro_f1`` and ``repeats``.

    Raises
    ------
    ParameterError
        If ``steps`` or ``repeats`` is too small.
    HeadError
        If a head fails.
    """
    from sklearn.base import clone

    check_int("steps", "the learning curve", steps, 2)
    check_int("repeats", "the learning curve", repeats, 1)
    classes = len(np.unique(cache.labels[split.train]))
    smallest = min(1.0, PER_CLASS * classes / len(split.train))
    shares = np.unique(np.geomspace(smallest, 1, steps).round(6)).tolist()
    parts = {
        share: [
            shrink(split, cache, groups, share, (seed + repeat) % 2**32)
            for repeat in range(1 if share == 1 else repeats)
        ]
        for share in shares
    }
    work, places = {}, []
    for share, larger in zip(shares, [*shares[1:], None], strict=True):
        if larger is not None and _sizes(parts[share]) == _sizes(parts[larger]):
            continue  # of whole groups, it is the same part
        for repeat, part in enumerate(parts[share]):
            for name, head in heads.items():
                label = f"head {name!r} on {share:.6g} of the training images (repeat {repeat + 1})"
                work[label] = (name, clone(head), cache, part, groups)
                places.append((name, share, len(part.train)))
    found: dict[tuple[str, float], list[tuple[int, float, float]]] = {}
    for (name, share, images), result in zip(places, run_jobs(fit_and_score, work, jobs, dask), strict=True):
        scores = (images, result.scores["accuracy"], result.scores["macro_f1"])
        found.setdefault((name, share), []).append(scores)
    curve = []
    for (name, _), scored in found.items():
        accuracies = [accuracy for _, accuracy, _ in scored]
        curve.append(
            {
                "head": name,
                "images": float(np.mean([images for images, _, _ in scored])),
                "accuracy": float(np.mean(accuracies)),
                "low": min(accuracies),
                "high": max(accuracies),
                "macro_f1": float(np.mean([f1 for _, _, f1 in scored])),
                "repeats": len(scored),
            }
        )
    return curve


def _sizes(parts: list[Split]) -> set[int]:
    return {len(part.train) for part in parts}
