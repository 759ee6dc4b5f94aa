"""Values of a parameter that a search may try: ranges of numbers, and choices."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ..errors import is_number

_EDGE = 0.05  # share of a range that is its end


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``; with ``log``, both above 0, equal ratios are equally far apart."""

    low: float
    high: float
    log: bool = True
    integer: bool = False

    def at(self, share: float) -> float | int:
        """Return the number at a fraction of the range, with two significant digits, so that it can be typed."""
        span = self.high - self.low
        exact = self.low * (self.high / self.low) ** share if self.log else self.low + span * share
        value = min(max(float(f"{exact:.2g}"), self.low), self.high)
        return round(value) if self.integer else value

    def at_its_end(self, value: Any) -> bool:
        """Return whether a number is in the first or the last twentieth of the range."""
        if not is_number(value):
            return False
        ends = [self.low, self.high]
        value, low, high = map(math.log, (value, *ends)) if self.log and value > 0 else (value, *ends)
        return not _EDGE < (value - low) / (high - low) < 1 - _EDGE


@dataclass(frozen=True)
class Choice:
    """Some values, in the order of figures."""

    values: tuple[Any, ...]

    def at(self, share: float) -> Any:
        """Return the value at a fraction of the list, from 0 to below 1."""
        return self.values[int(share * len(self.values))]

    def at_its_end(self, value: Any) -> bool:
        """Return whether a number is the smallest or largest of three or more; words have no order."""
        if len(self.values) < 3 or not all(map(is_number, self.values)):
            return False
        return value in (min(self.values), max(self.values))


Space: TypeAlias = Mapping[str, Range | Choice]
"""The values of each parameter that is searched."""
