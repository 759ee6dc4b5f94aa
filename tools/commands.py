"""Write docs/COMMANDS.md, the reference of the command line, from the commands themselves.

python tools/commands.py
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
from embedonce.cli.app import main
from embedonce.cli.examples import EXAMPLES

PAGE = Path(__file__).parents[1] / "docs" / "COMMANDS.md"
HEAD = """# Commands

`tools/commands.py` makes this page from the commands; a test compares them. `embedonce COMMAND --help` says the same.
"""


def page() -> str:
    """Return the whole page."""
    return "\n".join([HEAD, *_paragraphs(main.help), *_commands()]).rstrip() + "\n"


def _commands() -> Iterator[str]:
    context = click.Context(main, info_name="embedonce")
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context)
        arguments = [_name(part, inner) for part in command.params if isinstance(part, click.Argument)]
        yield f"## {name}\n\n```text\n{' '.join(['embedonce', name, '[OPTIONS]', *arguments])}\n```\n"
        yield from _paragraphs(command.help)
        yield f"```bash{EXAMPLES[name]}```\n"
        yield "| option | |\n|---|---|"
        for part in command.params:
            if isinstance(part, click.Option) and part.name != "debug":
                yield f"| {_option(part, inner)} | {_meaning(part, inner)} |"
        yield ""


def _paragraphs(text: str | None) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", (text or "").strip()):
        yield " ".join(paragraph.split()) + "\n"


def _name(argument: click.Argument, context: click.Context) -> str:
    return argument.make_metavar(context)


def _option(option: click.Option, context: click.Context) -> str:
    names = ", ".join(f"`{name}`" for name in option.opts)
    if option.secondary_opts:
        names += f" / `{option.secondary_opts[0]}`"
    value = "" if option.is_flag else f" {_code(option.make_metavar(context))}"
    return names + value


def _code(text: str) -> str:
    """Return code for a cell of a table, where no way to write a bar is read alike by everybody but this."""
    return f"<code>{text.replace('|', '&#124;')}</code>" if "|" in text else f"`{text}`"


def _meaning(option: click.Option, context: click.Context) -> str:
    text = " ".join((option.help or "").split()).replace("|", "\\|")
    extra = []
    if option.required:
        extra.append("required")
    if option.show_default and option.default is not None and not option.is_flag:
        extra.append(f"default `{option.default}`")
    if option.multiple:
        extra.append("more than once")
    return f"{text} ({', '.join(extra)})" if extra else text


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
