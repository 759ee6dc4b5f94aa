"""Scores of subgroups of the test images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...cache import display
from ..metrics import METRICS
from ..shared import Record, TextTable, format_interval, format_number, format_p, format_points, percent


@dataclass(frozen=True)
class SubgroupScore(Record):
    """Score of one head on the test images of one value of a column of metadata.

    ``low`` and ``high`` are ends of the 95 % confidence interval of ``score``, that of ``metric``; ``difference`` is
    ``score`` less that of all other test images, ``p`` its p value, and ``p_holm`` the p value corrected for the number
    of values. These are None if there are no others.
    """

    column: str
    value: str
    head: str
    images: int
    groups: int | None
    metric: str
    score: float
    low: float
    high: float
    scores: dict[str, Any]
    difference: float | None
    p: float | None
    p_holm: float | None


def subgroup_table(rows: Sequence[SubgroupScore], *, page: bool = False) -> TextTable:
    """Return rows of one column and head as text."""
    number = percent if page else format_number
    metric = METRICS[rows[0].metric]
    titles = [display(rows[0].column), "images", metric.title if page else metric.column, "95 % interval"]
    lines = []
    for row in rows:
        interval = format_interval(row.low, row.high, as_percent=page)
        p = "-" if row.p_holm is None else format_p(row.p_holm)
        cells = [display(row.value) or "(none)", f"{row.images:,}", number(row.score), interval]
        lines.append([*cells, format_points(row.difference), p])
    return TextTable([*titles, "to the others, points", "p (Holm)"], lines)


def subgroup_sentence(rows: Sequence[SubgroupScore]) -> str:
    """Return which values of one column score lower or higher than the others, in a sentence."""
    column, head = display(rows[0].column), display(rows[0].head)
    found = [row for row in rows if row.p_holm is not None and row.p_holm < 0.05]
    if not found:
        return f"No value of {column} has a score of {head} that differs significantly from that of the others."
    parts = [
        f"{display(row.value) or '(none)'} {100 * abs(row.difference or 0):.1f} points "
        f"{'lower' if (row.difference or 0) < 0 else 'higher'}"
        for row in found[:5]
    ]
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return f"Scores of {head} differ significantly from those of the others by {column}: {', '.join(parts)}{more}."
