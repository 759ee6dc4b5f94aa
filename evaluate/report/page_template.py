"""The templates of the page."""

from __future__ import annotations

import functools
import re
from html import escape
from pathlib import Path
from typing import Any

from ..shared import format_interval, format_number, format_p, format_points, percent

_BRIEF = 32  # characters


def page_template(name: str = "report.html.j2") -> Any:
    """Return a template, by default that of the report."""
    return _environment().get_template(name)


@functools.cache  # which keeps the compiled templates for the next page
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    environment.filters["number"] = format_number
    environment.filters["interval"] = lambda ends: format_interval(*ends, as_percent=True)
    environment.filters["points"] = format_points
    environment.filters["brief"] = brief
    environment.filters["unbroken"] = _unbroken
    environment.filters["p"] = format_p
    return environment


def brief(name: str) -> str:
    """Return a name for the first screen, where a long one is cut; sentences and tables have the whole name."""
    return name if len(name) <= _BRIEF else f"{name[: _BRIEF - 1]}…"


def _unbroken(text: str) -> str:
    """Return a text as HTML in which no line ends inside a percentage, a p value or an option."""
    from markupsafe import Markup

    return Markup(
        re.sub(r"[\d.,]+ %|--[\w-]+(?: \d+)?|p [=<] [\d.]+", r'<span class="unbroken">\g<0></span>', str(escape(text)))
    )
