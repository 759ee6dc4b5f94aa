"""Results as pandas data frames, and as HTML tables for notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from ...errors import import_optional


def data_frame(rows: Iterable[Mapping[str, Any]]) -> Any:
    """Return a ``pandas.DataFrame`` with one row per mapping, or raise MissingPackageError."""
    return import_optional("pandas", "a data frame").DataFrame(list(rows))


def html_table(header: Sequence[str], rows: Iterable[Sequence[Any]], notes: Iterable[str] = ()) -> str:
    """Return a table, and notes below it, as HTML for a notebook. Numbers have four decimals, None is a dash."""
    lines = ["<table>", _html_row("th", header), *(_html_row("td", row) for row in rows), "</table>"]
    return "\n".join(lines + [f"<p>Note: {escape(note)}.</p>" for note in notes])


def _html_row(tag: str, cells: Iterable[Any]) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(_text(cell))}</{tag}>' for cell in cells)}</tr>"


def _text(cell: Any) -> str:
    if cell is None:
        return "-"
    return f"{cell:.4f}" if isinstance(cell, float) else str(cell)
