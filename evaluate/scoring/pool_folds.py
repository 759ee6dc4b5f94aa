"""One result per head from the results of all folds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...cache import FeatureCache
from ..metrics import METRICS, score
from ..splits import Split
from .results import HeadResult


def pool(cache: FeatureCache, splits: Sequence[Split], results: Sequence[HeadResult]) -> list[HeadResult]:
    """Put the predictions of one head's folds together, repeat by repeat.

    Parameters
    ----------
    cache : FeatureCache
    splits : sequence of Split
        Every fold of every repeat.
    results : sequence of HeadResult
        Of the same head on each.

    Returns
    -------
    list of HeadResult
        One per repeat, over all rows that were tested in it, sorted. Its scores are those of all these predictions
        together.
    """
    pooled = []
    for repeat in sorted({split.repeat or 0 for split in splits}):
        mine = [(split, result) for split, result in zip(splits, results, strict=True) if (split.repeat or 0) == repeat]
        rows = np.concatenate([split.test for split, _ in mine])
        order = np.argsort(rows, kind="stable")
        predicted = np.concatenate([result.predicted for _, result in mine])[order]
        parts = [result.probabilities for _, result in mine]
        probabilities = None
        if all(part is not None for part in parts):
            probabilities = np.concatenate([part for part in parts if part is not None])[order]
        scores = score(cache.labels[rows[order]].astype(np.intp), predicted, probabilities, cache.class_names)
        fit = float(np.mean([result.fit_seconds for _, result in mine]))
        predict = float(np.mean([result.predict_seconds for _, result in mine]))
        first = mine[0][1]
        pooled.append(HeadResult(first.name, first.head, predicted, probabilities, scores, fit, predict))
    return pooled


def mean_over_repeats(repeats: Sequence[HeadResult]) -> dict[str, Any]:
    """Return the mean of the scores over repeats; those per class and the confusion matrix are of the first."""
    scores = dict(repeats[0].scores)
    for name in METRICS:
        values = [repeat.scores[name] for repeat in repeats]
        scores[name] = None if any(value is None for value in values) else float(np.mean(values))
    return scores


def rounds(splits: Sequence[Split], results: Sequence[HeadResult]) -> list[dict[str, Any]]:
    """Return the scores of every fold of every repeat, a dict each."""
    return [
        {"repeat": split.repeat or 0, "fold": split.fold, "train": len(split.train), "test": len(split.test)}
        | {name: result.scores[name] for name in METRICS}
        | {"fit_seconds": result.fit_seconds, "predict_seconds": result.predict_seconds}
        for split, result in zip(splits, results, strict=True)
    ]
