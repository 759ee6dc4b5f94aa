"""Scores that must be reached, for scripts and continuous integration."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from ...cache import display
from ...errors import HeadError, ParameterError
from ..metrics import METRICS, Metric
from .result import Comparison

_GATE = re.compile(r"(?:(?P<head>.+)\.)?(?P<metric>\w+)(?P<sign>[<>]?=)(?P<value>[^@]*)(?:@(?P<end>\w+))?", re.DOTALL)


class Gate(NamedTuple):
    """A score that ``head``, None for the best one, must reach: the score itself, or the worse end of its interval."""

    head: str | None
    metric: str
    bound: float
    of_interval: bool = False


def read_gates(texts: Iterable[str], heads: Collection[str], own: Mapping[str, Metric] | None = None) -> list[Gate]:
    """Return the gate of each ``[HEAD.]METRIC=VALUE[@lower]``; ``own`` are the metrics of the user."""
    gates, metrics = [], METRICS | dict(own or {})
    for text in texts:
        found = _GATE.fullmatch(text)
        head, metric, sign, value, end = found.groups() if found is not None else ("", "", "", "", None)
        try:
            bound = float(value)
        except ValueError:
            bound = math.nan
        if metric not in metrics or not math.isfinite(bound):
            raise ParameterError(
                "option --fail-under must be METRIC>=VALUE or HEAD.METRIC>=VALUE, with @lower for the lower end of the "
                f"interval, with a metric of {', '.join(metrics)} and a number, got {text!r}"
            )
        if head and head not in heads:
            names = ", ".join(map(display, heads))
            raise HeadError(f"option --fail-under must name one of the compared heads ({names}), got {text!r}")
        more = metrics[metric].higher_is_better
        signs, ends = ("=", ">=" if more else "<="), (None, "lower" if more else "upper")
        if sign not in signs or end not in ends:
            raise ParameterError(
                f"option --fail-under must be {metric}{signs[1]}VALUE or {metric}{signs[1]}VALUE@{ends[1]}, because "
                f"{'more' if more else 'less'} is better, got {text!r}"
            )
        low, high = metrics[metric].bounds
        if not low <= bound <= high:
            advice = f". Scores are fractions: {metric}={bound / 100:g}" if 2 <= bound <= 100 else ""
            raise ParameterError(
                f"option --fail-under must give {metric} from {low:g} to {high:g}, got {text!r}{advice}"
            )
        gates.append(Gate(head or None, metric, bound, end is not None))
    return gates


def failed_gates(comparison: Comparison, gates: Iterable[Gate]) -> list[str]:
    """Return a text for every score that was not reached; the best head's is corrected for the choice."""
    failed = []
    for gate in gates:
        metric = comparison.metric(gate.metric)
        name, value, text = _reached(comparison, gate)
        if value is None or metric.sign * value < metric.sign * gate.bound:
            end = f"the {'lower' if metric.sign > 0 else 'upper'} end of "
            what = end * gate.of_interval + gate.metric
            got = "has none" if value is None else f"reaches {value:.4f}{text}"
            failed.append(f"{what} must be at {'least' if metric.sign > 0 else 'most'} {gate.bound:g}, {name} {got}")
    return failed


def _reached(comparison: Comparison, gate: Gate) -> tuple[str, float | None, str]:
    """Return the head in words, the value that counts, if it has one, and a remark on it."""
    worse = 0 if comparison.metric(gate.metric).higher_is_better else 1
    if gate.head is None:
        best = comparison.best(gate.metric)
        if best is None:
            return "the best head", None, ""
        value = (best.low, best.high)[worse] if gate.of_interval else best.expected
        text = f", corrected for the choice among {best.heads} heads" if best.heads > 1 else ""
        return f"the best head, {display(best.head)},", value, text
    results = [result for result in comparison.results if result.name == gate.head]  # none if the head failed
    if not results:
        return display(gate.head), None, ""
    interval = results[0].intervals.get(gate.metric)
    if gate.of_interval:
        return display(gate.head), None if interval is None else interval[worse], ""
    return display(gate.head), results[0].scores[gate.metric], ""
