"""The group of all commands. Each command imports what it needs when it runs, so that ``--help`` is fast."""

from __future__ import annotations

import codecs
import os
import sys

import click

from . import (
    comparison_commands,
    extraction_commands,
    group_commands,
    model_commands,
    result_commands,
    training_commands,
)
from .command import Group


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="embedonce", prog_name="embedonce")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Embed images once with a frozen MobileNetV2, then train and compare classifier heads in seconds.

    For education and research. Not for medical diagnosis.

    Exit status: 0 success, 1 a run failed, 2 an incorrect command, 130 interrupted. Set the environment variable
    NO_COLOR to any value to switch colours off.
    """
    if os.environ.get("NO_COLOR"):  # https://no-color.org; rich reads it too
        ctx.color = False
    for stream in (sys.stdout, sys.stderr):  # None where a program closed it
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="embedonce")


def _in_known_characters(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that the terminal's encoding does not have: lines by dashes, others by escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate({0x2500: "-", 0x2026: "..."})
    return text.encode("ascii", "backslashreplace").decode("ascii"), error.end


codecs.register_error("embedonce", _in_known_characters)


_FAMILIES = (
    extraction_commands,
    group_commands,
    training_commands,
    comparison_commands,
    result_commands,
    model_commands,
)
for module in _FAMILIES:
    for command in module.COMMANDS:
        main.add_command(command)
