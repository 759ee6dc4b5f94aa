"""Tables of results: records, sequences of records, and tables of text; numbers as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Protocol, TypeVar

from ...cache import display
from .frames import data_frame, html_table
from .plots import percent


class HasDict(Protocol):
    """An object that can be a row of a table."""

    def to_dict(self) -> dict[str, Any]:
        """Return the values by name."""


Row = TypeVar("Row", bound=HasDict, covariant=True)


@dataclass(frozen=True)
class Record:
    """Base of results that are rows of a table."""

    def to_dict(self) -> dict[str, Any]:
        """Return the values by name."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}


class Records(tuple[Row, ...]):
    """Rows of a table: a tuple that is shown as a table, with notes if there are any."""

    notes: Sequence[str] = ()

    def to_dict(self) -> list[dict[str, Any]]:
        """Return a dict per row."""
        return [row.to_dict() for row in self]

    def to_frame(self) -> Any:
        """Return a pandas DataFrame with a line per row."""
        return data_frame(self.to_dict())

    def __repr__(self) -> str:
        titles = self._titles()
        rows = [[_as_text(row.get(title)) for title in titles] for row in self.to_dict()]
        return str(TextTable(titles, rows)) if rows else "(no rows)"

    def _repr_html_(self) -> str:
        titles = self._titles()
        return html_table(titles, ([row.get(title) for title in titles] for row in self.to_dict()))

    def _titles(self) -> list[str]:
        return list(dict.fromkeys(name for row in self.to_dict() for name in row))


class TextTable(NamedTuple):
    """A table of text: titles, and rows of as many cells."""

    titles: list[str]
    rows: list[list[str]]

    @property
    def widths(self) -> list[int]:
        """Width of every column in cells of a terminal."""
        from rich.cells import cell_len

        return [max(map(cell_len, column)) for column in zip(self.titles, *self.rows, strict=True)]

    @property
    def width(self) -> int:
        """Width of the table, with two spaces between columns."""
        return sum(self.widths) + 2 * len(self.titles) - 2

    def without(self, place: int) -> TextTable:
        """Return the table without a column."""
        rows = [row[:place] + row[place + 1 :] for row in (self.titles, *self.rows)]
        return TextTable(rows[0], rows[1:])

    def __str__(self) -> str:
        """Return aligned lines: titles, a rule, and the rows; the first column is on the left."""
        from rich.cells import cell_len

        widths = self.widths

        def line(cells: Sequence[str]) -> str:
            gaps = [" " * (width - cell_len(cell)) for cell, width in zip(cells, widths, strict=True)]
            aligned = [gap + cell for gap, cell in zip(gaps, cells, strict=True)]
            return "  ".join([cells[0] + gaps[0], *aligned[1:]]).rstrip()

        rule = "─" * self.width
        return "\n".join([line(self.titles), rule, *map(line, self.rows)])


def _as_text(value: Any) -> str:
    return format_number(value) if value is None or isinstance(value, float) else display(str(value))


def format_number(value: float | None, digits: int = 4) -> str:
    """Return a number with a fixed count of decimals; None is a dash."""
    return "-" if value is None else f"{value:.{digits}f}"


def format_interval(low: float | None, high: float | None, *, as_percent: bool = False) -> str:
    """Return the ends of an interval; None is a dash."""
    if low is None or high is None:
        return "-"
    return " to ".join(percent(end) if as_percent else f"{end:.4f}" for end in (low, high))


def format_points(*values: float | None) -> str:
    """Return a difference of two fractions, or the ends of its interval, in percentage points; None is a dash."""
    return "-" if None in values else " to ".join(f"{100 * value:+.1f}" for value in values if value is not None)


def format_p(value: float, *, named: bool = False) -> str:
    """Return a p value, for a sentence with its name."""
    if value < 0.001:
        return "p < 0.001" if named else "< 0.001"
    return f"p = {value:.2g}" if named else f"{value:.2g}"


def format_seconds(value: float) -> str:
    """Return a time; a short one is never rounded to 0, and 0 is a dash."""
    if value == 0:
        return "-"
    return f"{value:.2f} s" if value >= 0.005 else "< 0.01 s"
