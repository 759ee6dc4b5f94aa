"""CSV files in UTF-8, in which names that are not UTF-8 keep their bytes."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from ...cache import display
from ...errors import SplitError

_NEEDS_QUOTES = frozenset(',"\r\n')


def as_csv(header: list[str], rows: Iterable[Sequence[object]]) -> bytes:
    """Return a table as CSV; values that are not text are written as ``str`` shows them."""
    lines = (",".join(_quoted(str(value)) for value in row) + "\n" for row in (header, *rows))
    return "".join(lines).encode("utf-8", "surrogateescape")


def _quoted(text: str) -> str:
    # the writer of Python's csv leaves a carriage return bare until 3.12, and its reader ends the row there
    return '"' + text.replace('"', '""') + '"' if _NEEDS_QUOTES.intersection(text) else text


def read_table(path: Path, what: str, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Return the line number and the fields of each row of a CSV file that has at least some columns."""
    name = display(str(path))
    header, rows = _read(path, what)
    if any(column not in header for column in columns):
        raise SplitError(
            f"the {what} {name} must be CSV with the columns {display(','.join(columns))}, "
            f"got {display(','.join(header)) or 'an empty file'}"
        )
    return rows


def read_header(path: Path, what: str) -> list[str]:
    """Return the columns of a CSV file with a header line."""
    return _read(path, what)[0]


def _read(path: Path, what: str) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    try:
        # spreadsheets put a byte order mark first
        text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
        reader = csv.DictReader(io.StringIO(text, newline=""), restval="")
        rows = [(reader.line_num, row) for row in reader]
        return list(reader.fieldnames or []), rows
    except (OSError, csv.Error) as error:
        raise SplitError(f"cannot read the {what} {display(str(path))}: {error}") from error


def format_examples(names: Sequence[str], maximum: int = 3) -> str:
    """Return the first few names for an error message."""
    return ", ".join(display(name) for name in names[:maximum]) + (", …" if len(names) > maximum else "")
