"""Tables and messages that fit the width of the terminal, elsewhere as they are; progress, and what comes next."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import textwrap
import time
from typing import TYPE_CHECKING, Any

import click

from ..cache import printable

if TYPE_CHECKING:
    from pathlib import Path

    from ..evaluate.shared import TextTable
    from ..extract import Progress, Timed


def columns() -> int | None:
    """Return the width of the terminal that standard output goes to; None for a file or pipe."""
    terminal = sys.stdout is not None and sys.stdout.isatty()
    return shutil.get_terminal_size().columns if terminal else None


def say(text: str, indent: str = "  ", **style: Any) -> None:
    """Print a message, wrapped, with options of `click.secho`."""
    click.secho(wrapped(text, indent), **style)


def wrapped(text: str, indent: str = "  ") -> str:
    """Return a message in lines that end between words, with a hanging indent."""
    width = columns()
    return text if width is None else "\n".join(_fill(line, width, indent) for line in text.split("\n"))


def _fill(line: str, width: int, indent: str) -> str:
    if len(line) <= width:
        return line
    together = re.sub(r"(?<=\d) %|\bp [=<] ", lambda found: found[0].replace(" ", "\0"), line)  # a number and its unit
    filled = textwrap.fill(together, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return filled.replace("\0", " ")


def wrapped_lines(text: str) -> str:
    """Return tables as they are, and every longer line of text between them in lines that fit."""
    return "\n".join(line if "  " in line.strip() else wrapped(line) for line in text.splitlines())


def progress(shown: bool = True) -> Progress:
    """Return the display of long work: a bar or lines, records for --verbose, nothing for --quiet."""
    from ..extract import Progress, make_progress

    meta = click.get_current_context().meta
    return Progress() if meta["quiet"] or meta["verbose"] else make_progress(shown)


def timed_progress(shown: bool = True) -> Timed:
    """Return the display of long work, which keeps the seconds of each phase; the first began with the process."""
    from ..extract import Timed

    return Timed(progress(shown), "start", time.perf_counter() - time.process_time())


def if_interrupted(text: str, file: Path | None = None) -> None:
    """Say after Ctrl-C what is kept, if it is: if the file exists."""
    click.get_current_context().meta["kept"] = (text, file)


def say_next(*words: object) -> None:
    """Print the command that usually follows."""
    if click.get_current_context().meta["quiet"]:
        return
    command = shlex.join(["embedonce", *map(str, words)])
    click.secho(f"Next: {printable(command)}", dim=True)


def fitting(table: TextTable, kept: int, first: tuple[str, ...] = ()) -> tuple[TextTable, list[str]]:
    """Return a table that fits, and the titles that were left out: those named ``first``, then from the right.

    The ``kept`` columns on the left stay.
    """
    width, left_out = columns(), list[str]()
    while width is not None and len(table.titles) > kept and table.width > width:
        place = next((table.titles.index(title) for title in first if title in table.titles), len(table.titles) - 1)
        left_out.append(table.titles[place])
        table = table.without(place)
    return table, left_out


def say_left_out(titles: list[str], end: str = "") -> None:
    """Name the columns that `fitting` left out, if there are some."""
    if titles:
        say(f"(Not shown on this narrow terminal: {', '.join(titles)}.){end}")
