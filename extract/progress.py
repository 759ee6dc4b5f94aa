"""Progress of long work: a bar on a terminal, plain lines elsewhere, and records of the logger ``embedonce``."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import sys
import time
from collections.abc import Iterator
from typing import Any, TextIO

from ..cache import printable
from ..errors import ParameterError, describe

PLAIN_INTERVAL = 10.0  # seconds between two lines where no bar can be drawn
SHORT = 1.0  # seconds from which on work is worth a line when it is done
_LOGGER = logging.getLogger("embedonce")
_LOGGER.addHandler(logging.NullHandler())


class Progress:
    """Progress display of long work. This base class shows nothing, but writes records to the logger ``embedonce``."""

    def say(self, text: str) -> None:
        """Show a line, which stays."""
        _LOGGER.info("%s", printable(text))

    def now(self, text: str) -> None:
        """Show what is being done, until the next call or `close`."""
        _LOGGER.info("%s", printable(text))

    @contextlib.contextmanager
    def working(self, text: str, done: str) -> Iterator[None]:
        """Show ``text``, such as "preparing the model …", and at the end ``done``, such as "prepared", with seconds."""
        begin = time.monotonic()
        self.now(text)
        try:
            yield
        finally:
            self.close()
        seconds = time.monotonic() - begin
        if seconds >= SHORT:
            self.say(f"{text} {done} in {seconds:.1f} s")
        else:
            _LOGGER.debug("%s in %.3f s", done, seconds)

    def start(self, total: int, what: str = "embedding") -> None:
        """Start to count images; ``what`` names the work."""
        _LOGGER.info("%s: %s images", printable(what), f"{total:,}")

    def advance(self, count: int) -> None:
        """Count further images."""

    def phase(self, text: str) -> None:
        """Begin a phase that is too short to be shown."""

    def close(self) -> None:
        """Stop showing."""


class Timed(Progress):
    """A display that keeps the seconds of each phase in ``seconds``; those between phases are in none."""

    def __init__(self, display: Progress, first: str = "", begin: float | None = None) -> None:
        self.display, self._phase = display, first
        self.begin = self._begin = time.perf_counter() if begin is None else begin
        self.seconds: dict[str, float] = {}

    def phase(self, text: str) -> None:
        begin, self._begin = self._begin, time.perf_counter()
        if self._phase:
            self.seconds[self._phase] = self.seconds.get(self._phase, 0.0) + self._begin - begin
        # all folds of a head, and all parts of counted work, are one phase
        text = re.sub(r" \([^()]*\)$", "", text.removesuffix(" …"))
        self._phase = re.sub(r",? \d+ of \d+.*", "", text)

    def say(self, text: str) -> None:
        self.display.say(text)

    def now(self, text: str) -> None:
        self.phase(text)
        self.display.now(text)

    def start(self, total: int, what: str = "embedding") -> None:
        self.phase(what)
        self.display.start(total, what)

    def advance(self, count: int) -> None:
        self.display.advance(count)

    def close(self) -> None:
        self.phase("")
        self.display.close()


def timed(display: Progress) -> Timed:
    """Return a display that keeps the seconds of each phase."""
    return display if isinstance(display, Timed) else Timed(display)


class Bar(Progress):
    """A bar with images/s and time left, on a terminal (rich)."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._stream = stream
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]} images/s"),
            TimeRemainingColumn(),
            console=Console(file=stream),
            transient=True,
        )
        self._task: Any = None
        self._begin = 0.0
        self._spinner: Any = None
        self._open = contextlib.ExitStack()

    def say(self, text: str) -> None:
        super().say(text)
        shown = self._bar if self._spinner is None else self._spinner
        shown.console.print(printable(text), style="dim", highlight=False, markup=False)

    def now(self, text: str) -> None:
        from rich.console import Console
        from rich.markup import escape
        from rich.progress import Progress as RichProgress
        from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

        super().now(text)
        description = f"[dim]{escape(printable(text))}"
        if self._spinner is not None:
            self._spinner.reset(self._spinner.task_ids[0], description=description)
            return
        self.close()
        stream = self._open.enter_context(_duplicate_descriptor(self._stream))
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        # Python's output must go where it goes without a spinner, which can be the null device
        settings: dict[str, Any] = {"transient": True, "redirect_stdout": False, "redirect_stderr": False}
        self._spinner = RichProgress(*columns, console=Console(file=stream), **settings)
        self._spinner.add_task(description, total=None)
        self._open.enter_context(self._spinner)

    def start(self, total: int, what: str = "embedding") -> None:
        super().start(total, what)
        self.close()
        for earlier in self._bar.task_ids:
            self._bar.remove_task(earlier)
        from rich.markup import escape

        self._task = self._bar.add_task(escape(printable(what)), total=total, rate="…")
        self._begin = time.monotonic()
        self._bar.start()

    def advance(self, count: int) -> None:
        done = self._bar.tasks[0].completed + count
        rate = done / max(time.monotonic() - self._begin, 1e-9)
        self._bar.update(self._task, advance=count, rate=f"{rate:.0f}")

    def close(self) -> None:
        self._bar.stop()
        self._spinner = None
        self._open.close()


class Lines(Progress):
    """A line every ten seconds, for logs and pipes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._total = self._done = 0
        self._begin = self._last = 0.0
        self._shown = -PLAIN_INTERVAL

    def say(self, text: str) -> None:
        super().say(text)
        print(printable(text), file=self._stream, flush=True)

    def now(self, text: str) -> None:
        if time.monotonic() - self._shown >= PLAIN_INTERVAL:
            self._shown = time.monotonic()
            self.say(text)
        else:
            super().now(text)

    def start(self, total: int, what: str = "embedding") -> None:
        super().start(total, what)
        self._total, self._done = total, 0
        self._begin = self._last = time.monotonic()

    def advance(self, count: int) -> None:
        self._done += count
        now = time.monotonic()
        if now - self._last >= PLAIN_INTERVAL:
            self._last = now
            rate = self._done / (now - self._begin)
            left = (self._total - self._done) / rate
            self.say(f"{self._done:,} of {self._total:,} images, {rate:.0f} images/s, {left:.0f} s left")


@contextlib.contextmanager
def _duplicate_descriptor(stream: TextIO) -> Iterator[TextIO]:
    """Give a stream to the same terminal that works while `embedonce._keras.quiet_native_output` redirects stderr."""
    try:
        descriptor = os.dup(stream.fileno())
    except (OSError, io.UnsupportedOperation):
        yield stream
        return
    with open(descriptor, "w", encoding=stream.encoding, errors=stream.errors) as duplicate:
        yield duplicate


def as_progress(progress: Any, owner: str) -> Progress:
    """Return a display that is given as `Progress`, True, False or None, which shows nothing."""
    if progress is None or isinstance(progress, bool):
        return make_progress(bool(progress))
    if not callable(getattr(progress, "advance", None)) or isinstance(progress, type):
        raise ParameterError(
            f"parameter progress of {owner} must be True, False, None or a Progress, got {describe(progress)}"
        )
    shown: Progress = progress
    return shown


def make_progress(show: bool | Progress | None = None) -> Progress:
    """Return a bar on a terminal, else lines for True and nothing for None; nothing for False; a display as it is."""
    if show is not None and not isinstance(show, bool):
        return as_progress(show, "extract_features")
    stream: TextIO | None = sys.stderr
    if stream is None:  # it was closed before Python started
        return Progress()
    terminal = stream.isatty()
    if show is False or (show is None and not terminal):
        return Progress()
    return Bar(stream) if terminal else Lines(stream)
