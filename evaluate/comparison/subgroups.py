"""Scores of each value of a column of metadata, and tests of their differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache, display
from ...errors import ParameterError, SplitError, describe
from ..metrics import Sample, holm, unpaired_p
from ..scoring import HeadResult, SubgroupScore, part_of, with_intervals, with_own_metrics
from ..shared import Records
from ..splits import column_of
from .result import Comparison

_MOST_VALUES = 200


def check_columns(by: Any, cache: FeatureCache) -> list[str]:
    """Return columns of metadata without ``@``, or raise an error if one of them does not fit."""
    given = [by] if isinstance(by, str) else by
    if isinstance(given, bytes) or not isinstance(given, Sequence) or not all(isinstance(one, str) for one in given):
        raise ParameterError(f"parameter by of compare must be columns such as '@site', got {describe(by)}")
    for column in given:
        values = len(set(column_of(cache, column)))
        if not 2 <= values <= _MOST_VALUES:
            raise SplitError(
                f"parameter by of compare must be a column of 2 to {_MOST_VALUES} values, got {display(column)} with "
                f"{values:,}"
            )
    return [column.removeprefix("@") for column in given]


def score_subgroups(comparison: Comparison, columns: Sequence[str]) -> Records[SubgroupScore]:
    """Score every head on the test images of each value, the lowest score first, by column and head."""
    rows: list[SubgroupScore] = []
    for column in columns:
        values = np.array(column_of(comparison.cache, column))[comparison.split.test]
        for result in comparison.table:
            of_values = np.unique(values).tolist()
            scored = [_score(comparison, column, value, values == value, result) for value in of_values]
            tested = [row for row in scored if row.p is not None]
            corrected = holm([row.p for row in tested if row.p is not None]).tolist()
            scored = [row for row in scored if row.p is None]
            scored += [replace(row, p_holm=p) for row, p in zip(tested, corrected, strict=True)]
            rows += sorted(scored, key=lambda row: row.score)
    return Records(rows)


def _score(
    comparison: Comparison, column: str, value: str, mask: npt.NDArray[np.bool_], result: HeadResult
) -> SubgroupScore:
    cache, test, metric = comparison.cache, comparison.split.test, comparison.ranked_by
    own = with_intervals(part_of(result, cache, test, mask), cache, test[mask], comparison.groups)
    own = with_own_metrics(own, comparison.own_metrics, cache, test[mask], comparison.groups)
    true, ids = cache.labels[test].astype(np.intp), comparison.test_groups

    def sample(chosen: npt.NDArray[np.bool_]) -> Sample:
        return Sample((result.predicted == true)[chosen], true[chosen], None if ids is None else ids[chosen])

    groups = None if ids is None else len(np.unique(ids[mask]))
    score, difference, p = float(own.scores[metric]), None, None
    if not mask.all():
        difference = score - float(part_of(result, cache, test, ~mask).scores[metric])
        p = unpaired_p(sample(mask), sample(~mask), metric)
    low, high = own.intervals[metric]
    images = int(mask.sum())
    return SubgroupScore(
        column, value, result.name, images, groups, metric, score, low, high, own.scores, difference, p, None
    )
