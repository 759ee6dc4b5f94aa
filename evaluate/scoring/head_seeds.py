"""How much the score of a head changes with its random_state alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...cache import display
from ..metrics import METRICS
from ..shared import Record, TextTable, format_interval, format_number, percent


@dataclass(frozen=True)
class SeedScores(Record):
    """Scores of one head that was trained with several values of ``random_state`` on the same split.

    ``low`` and ``high`` are ends of the 95 % confidence interval of the head in the comparison.
    """

    head: str
    metric: str
    low: float
    high: float
    scores: tuple[float, ...]

    @property
    def standard_deviation(self) -> float:
        """Sample standard deviation of the scores."""
        return float(np.std(self.scores, ddof=1))

    def to_dict(self) -> dict[str, object]:
        """Return the values by name, with minimum, maximum and standard deviation of the scores."""
        about = {"minimum": min(self.scores), "maximum": max(self.scores)}
        return super().to_dict() | about | {"standard_deviation": self.standard_deviation}

    @property
    def text(self) -> str:
        """The result as a sentence."""
        head, title = display(self.head), METRICS[self.metric].title
        lowest, highest = min(self.scores), max(self.scores)
        wide = f"its 95 % interval is {100 * (self.high - self.low):.1f} points wide"
        if lowest == highest:
            return f"The {title} of {head} is the same with {len(self.scores)} seeds; {wide}."
        return (
            f"{head} moves by {100 * (highest - lowest):.2f} points with its seed alone ({percent(lowest)} to "
            f"{percent(highest)} {title} with {len(self.scores)} seeds); {wide}."
        )


def seed_table(rows: Sequence[SeedScores], *, page: bool = False) -> TextTable:
    """Return the scores of several seeds as text, a line per head."""
    number = percent if page else format_number
    lines = [
        [
            display(row.head),
            number(min(row.scores)),
            number(max(row.scores)),
            f"{100 * (max(row.scores) - min(row.scores)):.2f}",
            f"{100 * row.standard_deviation:.2f}",
            format_interval(row.low, row.high, as_percent=page),
        ]
        for row in rows
    ]
    metric = METRICS[rows[0].metric]
    first = f"{metric.title if page else metric.column} by seed"
    return TextTable([first, "minimum", "maximum", "points", "SD in points", "95 % interval"], lines)
