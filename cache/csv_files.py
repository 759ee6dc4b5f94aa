"""CSV files, written in UTF-8, in which names that are not UTF-8 keep their bytes, and read as programs write them."""

from __future__ import annotations

import codecs
import csv
import io
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Sequence, Set
from pathlib import Path
from typing import Any

from ..errors import EmbedonceError, SplitError, first_line
from .files import read_regular
from .names import display
from .path_kinds import TABLE, WORKBOOK, kind_of_path

_SURROGATE = re.compile("[\udc80-\udcff]")
# a letter first, so that the last number of an identifier like 1.2.840.10008 is not a suffix
_SUFFIX = re.compile(r"(?<=.)\.[A-Za-z][A-Za-z0-9]{0,4}$")
_NEEDS_QUOTES = frozenset(',"\r\n')


_FORMULA = re.compile("'*[=+@\t\r-]")  # how texts begin that spreadsheets calculate, and those of `_as_text`
_ESCAPED = re.compile("''*[=+@\t\r-]")


def as_csv(header: list[str], rows: Iterable[Sequence[object]]) -> bytes:
    """Return a table as CSV; values that are not text are written as ``str`` shows them.

    A text that spreadsheets would take for a formula gets an apostrophe in front, which `read_table` removes.
    """
    lines = (",".join(_quoted(_as_text(value)) for value in row) + "\n" for row in (header, *rows))
    return "".join(lines).encode("utf-8", "surrogateescape")


def _as_text(value: object) -> str:
    text = str(value)
    if not isinstance(value, str) or not _FORMULA.match(text):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def _from_text(text: str) -> str:
    return text[1:] if _ESCAPED.match(text) else text


def _quoted(text: str) -> str:
    # the writer of Python's csv leaves a carriage return bare until 3.12, and its reader ends the row there
    return '"' + text.replace('"', '""') + '"' if _NEEDS_QUOTES.intersection(text) else text


def read_table(path: Path, what: str, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Return the line number and the fields of each row of a CSV file that has at least some columns."""
    name = display(str(path))
    header, rows = read_rows(path, what, columns)
    if any(column not in header for column in columns):
        raise SplitError(
            f"the {what} {name} must be CSV with the columns {display(','.join(columns))}, "
            f"got {display(','.join(header)) or 'an empty file'}"
        )
    return rows


def read_header(path: Path, what: str) -> list[str]:
    """Return the columns of a CSV file with a header line and a column ``path``."""
    return read_rows(path, what, ["path"])[0]


def is_missing(value: str) -> bool:
    """Return whether a field is empty, or what pandas and R write for a missing value."""
    return value.strip().lower() in ("", "nan", "<na>", "none", "null", "nat", "#n/a")


def find_path(name: str, known: Container[str]) -> str:
    """Return the known path that a path in a table means, or the path itself if there is none."""
    # written on Windows, with spaces around it, in another form of Unicode, or in the encoding of Excel
    if name in known:
        return name
    for text in dict.fromkeys((name, _as_cp1252(name))):
        path = text.strip().replace("\\", "/").removeprefix("./")
        for variant in (path, *(unicodedata.normalize(form, path) for form in ("NFC", "NFD"))):
            if variant in known:
                return variant
    return name


def match_names(rows: list[tuple[int, dict[str, str]]], known: Set[str], column: str) -> dict[str, list[str]]:
    """Complete paths in a column that give only the end of a known path, with or without its suffix.

    A known path is taken that no other row names. Return the images of each ambiguous name.
    """
    # a row with a folder of the images means the image of this name in this folder, not one elsewhere
    folders = {_end(name, 0) for name in known} - {""}
    ambiguous: dict[str, list[str]] = {}
    for key in _KEYS:
        open_rows = [row for _, row in rows if row[column] not in known and _end(row[column], 0) not in folders]
        if not open_rows:
            break
        named: dict[str, list[str]] = defaultdict(list)
        for name in sorted(known - {row[column] for _, row in rows}):
            named[key(name)].append(name)
        by_name: dict[str, list[dict[str, str]]] = defaultdict(list)
        for row in open_rows:
            by_name[find_path(key(row[column]), named)].append(row)
        for name, of_name in by_name.items():
            candidates = named.get(name, [])
            alike = len({tuple(cell for title, cell in row.items() if title != column) for row in of_name}) == 1
            if len(candidates) == 1 or (alike and len(candidates) == len(of_name)):
                for number, row in enumerate(of_name):
                    row[column] = candidates[number % len(candidates)]
            elif candidates and key in _KEYS[2::3]:  # the shortest ends
                ambiguous.setdefault(of_name[0][column], candidates)
        if ambiguous:
            break
    return ambiguous


def stem_of(name: str) -> str:
    """Return a file name without folder and suffix."""
    return _SUFFIX.sub("", _end(name, 1))


def _end(path: str, parts: int) -> str:
    """Return the last parts of a path; 0 for its folder."""
    names = re.split(r"[/\\]", path.strip().removeprefix("./"))
    return "/".join(names[-parts:] if parts else names[:-1])


_KEYS: tuple[Callable[[str], str], ...] = (
    *(lambda name, parts=parts: _end(name, parts) for parts in (3, 2, 1)),
    *(lambda name, parts=parts: _SUFFIX.sub("", _end(name, parts)) for parts in (3, 2, 1)),
)
"""Ends of paths by which `match_names` compares, from the most to the least certain."""


def _as_cp1252(text: str) -> str:
    """Decode bytes that are not UTF-8 as Excel's encoding, which has all of Latin-1's letters."""
    return text.encode("utf-8", "surrogateescape").decode("cp1252", "replace") if _SURROGATE.search(text) else text


def read_rows(
    path: Path, what: str, wanted: Sequence[str] = (), error_type: type[EmbedonceError] = SplitError
) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Return the header, and the line number and fields of each row, of a CSV file with some wanted columns."""
    name = display(str(path))
    kind = kind_of_path(path)
    if kind not in ("", TABLE, WORKBOOK):
        raise error_type(f"cannot read the {what} {name}: it is {kind}. Give a table, such as a CSV file")
    try:
        text = _decode(read_regular(path))
        separator = re.match(r"sep=(.)\r?\n", text)  # a first line for Excel
        start = separator.end() if separator else 0
        first = text[start:].splitlines()[:1]
        # without a wanted column, the delimiter that gives the most columns
        fields = {one: max(map(len, csv.reader(first, delimiter=one)), default=0) for one in ",;\t|"}
        delimiters = "".join(fields) if wanted else max(fields, key=fields.__getitem__)
        for delimiter in separator[1] if separator else delimiters:
            reader = csv.DictReader(io.StringIO(text[start:], newline=""), restval="", delimiter=delimiter)
            header = _rename(list(reader.fieldnames or []), wanted)
            if set(wanted) <= set(header):
                break
        else:
            reader = csv.DictReader(io.StringIO(text[start:], newline=""), restval="")
            header = list(reader.fieldnames or [])
        reader.fieldnames = header = list(map(_from_text, header))
        rows = [(reader.line_num + (start > 0), row) for row in reader]
    except (OSError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise error_type(f"cannot read the {what} {name}: {reason}") from error
    for column in wanted:
        if header.count(column) > 1:
            raise error_type(f"the {what} {name} must have one column {display(column)}, got {header.count(column)}")
    for line, row in rows:
        more: Any = row.pop(None, None)
        if more and any(value.strip() for value in more):
            raise error_type(
                f"the {what} {name}, line {line}: a row must have at most the {len(header)} fields of the header, got "
                f"{len(header) + len(more)}. Put quotes around values with {reader.reader.dialect.delimiter!r}"
            )
    return header, [
        (line, {column: _from_text(value) for column, value in row.items()})
        for line, row in rows
        if any(value.strip() for value in row.values())
    ]


def _rename(header: list[str], wanted: Sequence[str]) -> list[str]:
    """Return the header with wanted names for columns that differ from them in case and spaces only."""
    names = {name.strip().casefold(): name for name in wanted if name not in header}
    return [names.get(column.strip().casefold(), column) for column in header]


def _decode(data: bytes) -> str:
    """Decode a table by its first bytes: UTF-8, in which other bytes are kept, or UTF-16, as spreadsheets write it."""
    if data.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise ValueError("it is a workbook of a spreadsheet. Save it as CSV (UTF-8)")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    if b"\0" in data[:2]:
        return data.decode("utf-16-be" if data[:1] == b"\0" else "utf-16-le")
    if b"\0" in data:
        raise ValueError("it is not a text file. Save it as CSV (UTF-8)")
    return data.decode("utf-8-sig", "surrogateescape")


def format_examples(names: Sequence[str], maximum: int = 3) -> str:
    """Return the first few names for an error message."""
    return ", ".join(display(name) for name in names[:maximum]) + (", …" if len(names) > maximum else "")
