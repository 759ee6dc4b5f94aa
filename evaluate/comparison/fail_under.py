"""Scores that must be reached, for scripts and continuous integration."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

from ...cache import display
from ...errors import HeadError, ParameterError
from ..metrics import METRICS
from .result import Comparison


def read_gates(texts: Iterable[str], heads: Collection[str]) -> list[tuple[str | None, str, float]]:
    """Return head (None for the best), metric and value of each ``METRIC=VALUE`` or ``HEAD.METRIC=VALUE``."""
    gates = []
    for text in texts:
        name, _, value = text.partition("=")
        head, _, metric = name.rpartition(".")
        try:
            bound = float(value)
        except ValueError:
            bound = math.nan
        if metric not in METRICS or not math.isfinite(bound):
            raise ParameterError(
                "option --fail-under must be METRIC=VALUE or HEAD.METRIC=VALUE with a metric of "
                f"{', '.join(METRICS)} and a number, got {text!r}"
            )
        if head and head not in heads:
            names = ", ".join(map(display, heads))
            raise HeadError(f"option --fail-under must name one of the compared heads ({names}), got {text!r}")
        low, high = METRICS[metric].bounds
        if not low <= bound <= high:
            advice = f". Scores are fractions: {metric}={bound / 100:g}" if 2 <= bound <= 100 else ""
            raise ParameterError(
                f"option --fail-under must give {metric} from {low:g} to {high:g}, got {text!r}{advice}"
            )
        gates.append((head or None, metric, bound))
    return gates


def failed_gates(comparison: Comparison, gates: Iterable[tuple[str | None, str, float]]) -> list[str]:
    """Return a text for every score that was not reached; a log loss must be at most the value."""
    failed = []
    for head, metric, bound in gates:
        results = [result for result in comparison.results if head in (None, result.name)]  # none of a head that failed
        scores = [result.scores[metric] for result in results if result.scores[metric] is not None]
        sign = METRICS[metric].sign
        reached = max((sign * score for score in scores), default=-math.inf)
        if reached < sign * bound:
            name = "the best head" if head is None else display(head)
            got = "has none" if not scores else f"reaches {sign * reached:.4f}"
            failed.append(f"{metric} must be at {'least' if sign > 0 else 'most'} {bound:g}, {name} {got}")
    return failed
