"""How all commands behave: one line for a failure, --debug for more, Ctrl-C and SIGTERM in order, NAME=VALUE."""

from __future__ import annotations

import contextlib
import json
import signal
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from ..errors import EmbedonceError, HeadParameterError
from .examples import EXAMPLES

PATH = click.Path(path_type=Path)
SEED = click.IntRange(min=0, max=2**32 - 1)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class Command(click.Command):
    """A command with --debug and examples, whose failures are one line."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(
            click.Option(["--debug"], is_flag=True, expose_value=False, help="Show a traceback when something fails.")
        )

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples as lines that can be copied, however narrow the terminal is."""
        with formatter.section("Examples"):
            formatter.write(textwrap.indent(EXAMPLES[ctx.command.name or ""].lstrip(), " " * formatter.current_indent))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Note whether tracebacks are wanted, before anything can fail."""
        ctx.meta["debug"] = "--debug" in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a failure becomes one line and an exit status."""
        try:
            return super().invoke(ctx)
        except EmbedonceError as error:
            if ctx.meta["debug"]:
                raise
            click.echo(f"Error: {_one_line(error)}", err=True)
            ctx.exit(error.exit_status)
        except KeyboardInterrupt:
            if ctx.meta["debug"]:
                raise
            hint = (
                "; what was embedded is kept, the same command goes on from there"
                if ctx.command.name == "extract"
                else ""
            )
            click.echo(f"Interrupted{hint}.", err=True)
            ctx.exit(130)


class Group(click.Group):
    """A group of such commands, in the order in which they are used."""

    command_class = Command

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of their definition, not of the alphabet."""
        return list(self.commands)


@contextlib.contextmanager
def sigterm_as_exit() -> Iterator[None]:
    """Let SIGTERM end a run as Ctrl-C does, its work committed: batch systems and containers stop jobs this way."""

    def end(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    earlier = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


def parameter(text: str) -> tuple[str, Any]:
    """Read NAME=VALUE; the value is JSON where it can be (numbers, true, null), text otherwise."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise HeadParameterError(f"option --param must be NAME=VALUE, got {text!r}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def head_parameters(heads: str, params: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Read --heads NAME,NAME and --param HEAD.NAME=VALUE into the parameters of every head."""
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
    """Read --space NAME=VALUE,VALUE or HEAD.NAME=…; values are JSON where they can be, text otherwise."""
    found = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or not name or not values:
            raise HeadParameterError(f"option --space must be NAME=VALUE,VALUE, got {text!r}")
        found[name.removeprefix(f"{head}.")] = [parameter(f"{name}={value}")[1] for value in values.split(",")]
    return found


def _one_line(error: Exception) -> str:
    # str() of an OSError has its number in front, which says nothing to people
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())
