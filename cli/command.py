"""Behaviour of all commands: --quiet, --verbose and --debug, failures in one line, and interrupts."""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import inspect
import re
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from ..cache import printable
from ..errors import EmbedonceError
from ..extract import AUTO, ENGINES
from .screen import wrapped

PATH = click.Path(path_type=Path)
POSITIVE = click.IntRange(min=1)
SEED = click.IntRange(min=0, max=2**32 - 1)
SECONDS = click.FloatRange(min=0, min_open=True)
VIEWS = click.Choice(["none", "flips", "dihedral"])
option = functools.partial(click.option, show_default=True)
ENGINE = option(
    "--engine", type=click.Choice([AUTO, *ENGINES]), default=AUTO, help="Inference engine; auto takes the fastest."
)
TEST_FRACTION = option(
    "--test-fraction",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="FRACTION",
    help="Fraction of the images for testing. [default: 0.2]",
)
GROUPS = option("--groups", type=PATH, metavar="FILE|@COLUMN", help="Groups: CSV with path,group; or metadata.")
WEIGHTS = option("--weights", type=PATH, metavar="FILE", help="Backbone weights, if the file has moved.")
TIMINGS = option("--timings", is_flag=True, help="Print the wall time of each phase.")
AS_JSON = option("--json", "as_json", is_flag=True, help="Print JSON.")


# which scikit-learn imports and comparisons do not use: a third of the time of its import
_DEFERRED = ("scipy.stats", "scipy.interpolate", "scipy.integrate", "scipy.spatial", "scipy.fft", "asyncio")


class _DeferredModule(ModuleType):
    """A module whose names are `_DeferredName`."""

    def __getattr__(self, name: str) -> _DeferredName:
        if name.startswith("__"):
            raise AttributeError(name)
        return _DeferredName(self.__name__, name)


class _DeferredName:
    """A function or class of a module that is imported when the name is used."""

    def __init__(self, module: str, name: str) -> None:
        self._of = module, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        module, name = self._of
        return getattr(importlib.import_module(module), name)(*args, **kwargs)

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        module, name = self._of
        return getattr(getattr(importlib.import_module(module), name), attribute)


def import_scikit_learn() -> None:
    """Import scikit-learn in half the time: without pandas, and without parts of SciPy until they are used."""
    if "sklearn" in sys.modules:
        return
    stand_ins: dict[str, ModuleType | None] = {name: _DeferredModule(name) for name in _DEFERRED} | {"pandas": None}
    stand_ins = {name: module for name, module in stand_ins.items() if name not in sys.modules}
    collecting = gc.isenabled()
    gc.disable()  # there is no garbage yet, and looking for it among these modules takes a tenth of the time
    sys.modules.update(stand_ins)  # type: ignore[arg-type]
    try:
        import sklearn.linear_model
        import sklearn.metrics
        import sklearn.svm
        import sklearn.tree  # noqa: F401
    finally:
        for name in stand_ins:
            del sys.modules[name]
        if collecting:
            gc.enable()
    gc.freeze()
    atexit.register(gc.freeze)  # else the interpreter searches all modules for garbage at its end, for 0.2 s


class Command(click.Command):
    """A command with --quiet, --verbose and --debug, whose failures are one line and whose docstring is its help."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["help"] = re.sub(r"\n\n(?=    )", "\n\n\b\n", inspect.cleandoc(kwargs["help"]))
        super().__init__(*args, **kwargs)
        flags = {
            "-q/--quiet": "Print results only, no progress.",
            "-v/--verbose": "Print what is done, with times.",
            "--debug": "Show a traceback after an error.",
        }
        for names, text in flags.items():
            self.params.append(
                click.Option(names.split("/"), is_flag=True, expose_value=False, callback=_keep_flag, help=text)
            )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Store whether tracebacks are wanted, before anything can fail."""
        ctx.meta["debug"] = "--debug" in args
        with _one_line_errors(ctx):  # the callback of --config reads a file
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a failure becomes one line and an exit status."""
        if ctx.meta["quiet"] and ctx.meta["verbose"]:
            raise click.UsageError("--quiet and --verbose exclude each other.", ctx)
        with _one_line_errors(ctx), _records(ctx.meta["verbose"]):
            return super().invoke(ctx)


def _keep_flag(ctx: click.Context, option: click.Parameter, value: bool) -> None:
    assert option.name is not None
    ctx.meta[option.name] = value


@contextlib.contextmanager
def _records(shown: bool) -> Iterator[None]:
    """Print the records of the logger ``embedonce`` on standard error, with their time."""
    if not shown:
        yield
        return
    import logging

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s.%(msecs)03d %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("embedonce")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


@contextlib.contextmanager
def _one_line_errors(ctx: click.Context) -> Iterator[None]:
    """Print an error of embedonce in one line and exit with its status, unless --debug is given."""
    try:
        yield
    except EmbedonceError as error:
        if ctx.meta["debug"]:
            raise
        print_error(ctx, error)
        ctx.exit(error.exit_status)
    except MemoryError:
        if ctx.meta["debug"]:
            raise
        click.echo("Error: there is not enough memory for this command. Close other programs", err=True)
        ctx.exit(1)
    except KeyboardInterrupt:
        if ctx.meta["debug"]:
            raise
        text, file = ctx.meta.get("kept", ("", None))
        click.echo(f"Interrupted. {text}" if text and (file is None or file.exists()) else "Interrupted.", err=True)
        ctx.exit(130)


def print_error(ctx: click.Context, error: EmbedonceError) -> None:
    """Print an error in one line, or with --debug its traceback."""
    lines = traceback.format_exception(error) if ctx.meta["debug"] else [wrapped(f"Error: {_one_line(error)}") + "\n"]
    click.echo("".join(lines), err=True, nl=False)


class Group(click.Group):
    """A group of such commands, in the order in which they are used."""

    command_class = Command

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of their definition."""
        return list(self.commands)


@contextlib.contextmanager
def sigterm_as_exit() -> Iterator[None]:
    """Let SIGTERM, which batch systems and containers send, end a run as Ctrl-C does, with its work committed."""

    def end(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    earlier = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


def _one_line(error: Exception) -> str:
    # str() of an OSError begins with a number that does not help users
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return printable(" ".join(text.split()))
