"""One result per head from its results on the splits of a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache
from ..metrics import METRICS, score, score_intervals
from ..shared import Records
from ..splits import Split
from .heads import HeadsOnPlan
from .results import FoldScores, HeadResult


def pool_results(
    cache: FeatureCache, heads: HeadsOnPlan, groups: npt.NDArray[np.intp] | None, seed: int
) -> list[HeadResult]:
    """Return the result of every head on all splits of a plan, with its intervals by groups of the rows."""
    test = heads.plan.merged.test
    true = cache.labels[test].astype(np.intp)
    ids = None if groups is None else groups[test]
    pooled = []
    for name, first in heads.splits[0].results.items():
        results = [on_split.results[name] for on_split in heads.splits]
        searches = [on_split.searches[name] for on_split in heads.splits if name in on_split.searches]
        repeats = [first]
        if heads.plan.has_folds:
            repeats = pool(cache, heads.plan.splits, results)
            scores, folds = mean_over_repeats(repeats), fold_scores(heads.plan.splits, results)
            first = replace(repeats[0], scores=scores, folds=folds)
        ends = [
            score_intervals(true, one.predicted, one.probabilities, cache.class_names, ids, seed=seed)
            for one in repeats
        ]
        # every repeat tests the same images, so repeating does not make the interval narrower
        intervals = {}
        for metric in ends[0]:
            if all(metric in each for each in ends):
                low, high = np.mean([each[metric] for each in ends], axis=0).tolist()
                intervals[metric] = (low, high)
        pooled.append(replace(first, intervals=intervals, tuning=Records(searches)))
    return pooled


def pool(cache: FeatureCache, splits: Sequence[Split], results: Sequence[HeadResult]) -> list[HeadResult]:
    """Return one result per repeat, over all rows that one head predicted in its folds, sorted."""
    pooled = []
    for repeat in sorted({split.repeat or 0 for split in splits}):
        mask = [(split.repeat or 0) == repeat for split in splits]
        folds = [result for result, chosen in zip(results, mask, strict=True) if chosen]
        rows = np.concatenate([split.test for split, chosen in zip(splits, mask, strict=True) if chosen])
        order = np.argsort(rows, kind="stable")
        predicted = np.concatenate([result.predicted for result in folds])[order]
        parts = [result.probabilities for result in folds if result.probabilities is not None]
        probabilities = np.concatenate(parts)[order] if len(parts) == len(folds) else None
        scores = score(cache.labels[rows[order]].astype(np.intp), predicted, probabilities, cache.class_names)
        fit = float(np.mean([result.fit_seconds for result in folds]))
        predict = float(np.mean([result.predict_seconds for result in folds]))
        pooled.append(HeadResult(folds[0].name, folds[0].head, predicted, probabilities, scores, fit, predict))
    return pooled


def mean_over_repeats(repeats: Sequence[HeadResult]) -> dict[str, Any]:
    """Return the mean of the scores over repeats; those per class and the confusion matrix are of the first."""
    scores = dict(repeats[0].scores)
    for name in METRICS:
        values = [repeat.scores[name] for repeat in repeats]
        scores[name] = None if any(value is None for value in values) else float(np.mean(values))
    return scores


def fold_scores(splits: Sequence[Split], results: Sequence[HeadResult]) -> Records[FoldScores]:
    """Return the scores of one head on every fold of every repeat."""
    return Records(
        FoldScores(
            split.repeat or 0,
            split.fold,
            len(split.train),
            len(split.test),
            {name: result.scores[name] for name in METRICS},
            result.fit_seconds,
            result.predict_seconds,
        )
        for split, result in zip(splits, results, strict=True)
    )
