"""Verdicts on every pair of many heads: a matrix instead of a sentence each."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ...cache import display
from ..scoring import ComparisonData, OwnMetric
from ..shared import has_many_heads

_SIGNS = {"better": "+", "worse": "-", "practically tied": "=", "undecided": "?"}
_WORDS = {
    "better": "better than",
    "worse": "worse than",
    "practically tied": "practically tied with",
    "undecided": "not significantly different from",
}


def has_many_verdicts(comparison: ComparisonData) -> bool:
    """Return whether verdicts are too many for a sentence each: of many heads, or of several on several caches."""
    return has_many_heads(comparison.results) or any(len(one.heads) > 1 for one in comparison.caches)


def verdict_matrix(comparison: ComparisonData) -> list[dict[str, Any]]:
    """Return a row per head, the best first, with its verdict against each head; nothing if there are few heads."""
    if not has_many_verdicts(comparison):
        return []
    verdicts = {}
    for row in comparison.differences:
        verdicts[row.a, row.b] = row.verdict, row.text
        verdicts[row.b, row.a] = "worse" if row.verdict == "better" else row.verdict, row.text
    names = [result.name for result in comparison.table]
    return [
        {"head": display(name), "cells": [_cell(*verdicts.get((name, other), ("", ""))) for other in names]}
        for name in names
    ]


def _cell(verdict: str, text: str) -> dict[str, str]:
    return {"sign": _SIGNS.get(verdict, ""), "verdict": verdict, "text": text}


def best_head_verdicts(comparison: ComparisonData) -> list[str]:
    """Return the verdicts on the best head and each other head as sentences; on many heads, one sentence."""
    best = comparison.table[0].name
    rows = [row for row in comparison.differences if best in (row.a, row.b)]
    if not has_many_verdicts(comparison):
        return [row.text for row in rows]
    verdicts = Counter("worse" if row.verdict == "better" and row.b == best else row.verdict for row in rows)
    parts = [f"{words} {verdicts[verdict]}" for verdict, words in _WORDS.items() if verdicts[verdict]]
    if len(parts) == 1:
        verdict = next(iter(verdicts))
        others = "any of the" if verdict == "undecided" else "all"
        return [f"{display(best)} is {_WORDS[verdict]} {others} {len(rows)} other heads"]
    return [f"{display(best)} is {', '.join(parts[:-1])} and {parts[-1]} of the other {len(rows)} heads"]


def differences_by(comparison: ComparisonData, own: OwnMetric) -> list[str]:
    """Return the differences between heads by a metric of the user as sentences; of many heads those of the best."""
    rows = list(own.differences)
    if has_many_heads(comparison.results):
        best = comparison.best(own.metric.name)
        rows = [row for row in rows if best is not None and best.head in (row.a, row.b) and row.verdict == "better"]
    return [row.text if row.verdict == "better" else row.text[0].upper() + row.text[1:] for row in rows]


def subgroups_of_best(comparison: ComparisonData) -> list[list[Any]]:
    """Return the scores of subgroups of the best head, one list for each column."""
    best = comparison.table[0].name
    columns = dict.fromkeys(row.column for row in comparison.subgroups)
    return [[row for row in comparison.subgroups if (row.column, row.head) == (column, best)] for column in columns]
