"""Options about heads: their names, NAME=VALUE parameters, and views."""

from __future__ import annotations

import json
from typing import Any

import click

from ..errors import HeadParameterError
from ..heads import HEADS
from .command import option

HEADS_HELP = f"{', '.join(HEADS)}, or package.module:Class"


def complete_heads(ctx: click.Context, option: click.Parameter, incomplete: str) -> list[str]:
    """Return completions of the last name of a list of heads with commas."""
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in HEADS if name.startswith(last)]


HEAD = option("--head", required=True, metavar="NAME", shell_complete=complete_heads, help=HEADS_HELP)
METRICS = option(
    "--metric", "metrics", multiple=True, metavar="MODULE:FUNCTION", help="Also score by this function; repeatable."
)
VIEWS = option(
    "--views",
    type=click.Choice(["train", "average", "both"]),
    help="Train on augmented views, average over them, or both.",
)


def parameter(text: str) -> tuple[str, Any]:
    """Parse NAME=VALUE; the value is JSON (numbers, true, null) or else text."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise HeadParameterError(f"option --param must be NAME=VALUE, got {text!r}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def head_parameters(heads: str, params: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Parse --heads NAME,NAME and --param HEAD.NAME=VALUE into the parameters of every head."""
    names = [name.strip() for name in heads.split(",") if name.strip()]
    chosen: dict[str, dict[str, Any]] = {name: {} for name in names}
    if len(chosen) < len(names) or not names:
        raise HeadParameterError(f"option --heads must name every head once, got {heads!r}")
    return set_parameters(chosen, params)


def set_parameters(heads: dict[str, dict[str, Any]], params: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Set --param HEAD.NAME=VALUE among the parameters of every head."""
    for text in params:
        name, value = parameter(text)
        head, _, own_name = name.rpartition(".")
        if head not in heads:
            raise HeadParameterError(
                f"option --param must be HEAD.NAME=VALUE with one of the heads ({', '.join(heads)}), got {text!r}"
            )
        heads[head][own_name] = value
    return heads


def search_values(texts: tuple[str, ...], head: str) -> dict[str, list[Any]]:
    """Parse --space NAME=VALUE,VALUE or HEAD.NAME=…; values are JSON or else text."""
    space = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or not name or not values:
            raise HeadParameterError(f"option --space must be NAME=VALUE,VALUE, got {text!r}")
        space[name.removeprefix(f"{head}.")] = [parameter(f"{name}={value}")[1] for value in values.split(",")]
    return space
