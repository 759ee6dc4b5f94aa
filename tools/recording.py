"""Draw what ``embedonce demo`` prints on a terminal as docs/images/demo.svg. Needs a POSIX system."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.ansi import AnsiDecoder
from rich.console import Console
from rich.terminal_theme import MONOKAI

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "demo.svg"
COLUMNS = 118


def record(command: list[str]) -> str:
    """Run a command on a pseudo-terminal and return its output with colours."""
    terminal, other_end = pty.openpty()
    environment = os.environ | {"COLUMNS": str(COLUMNS), "TERM": "xterm-256color"}
    streams = {"stdin": subprocess.DEVNULL, "stdout": other_end, "stderr": other_end}
    with tempfile.TemporaryDirectory() as folder, subprocess.Popen(command, cwd=folder, env=environment, **streams):
        os.close(other_end)
        chunks = []
        with contextlib.suppress(OSError):  # raised when the other end is closed
            while chunk := os.read(terminal, 65536):
                chunks.append(chunk)
    os.close(terminal)
    return b"".join(chunks).decode().replace(str(Path.home()), "~")


def final_lines(output: str) -> list[str]:
    """Return the lines that remain after carriage returns and cursor movements."""
    lines: list[str] = []
    for line in output.strip().replace("\r\n", "\n").split("\n"):
        ups = len(re.findall(r"\x1b\[1?A", line))
        del lines[len(lines) - ups :]
        line = re.sub(r"\x1b\[(?![\d;]*m)[\d;?]*[A-Za-z]", "", line)
        lines.append(line.rpartition("\r")[2])
    return lines


def main() -> None:
    """Record and draw."""
    lines = final_lines(record([sys.executable, "-m", "embedonce", "demo"]))
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115
    decoder = AnsiDecoder()
    for line in ("\x1b[1;32m$ \x1b[0membedonce demo", *lines):
        console.print(decoder.decode_line(line))  # which keeps a colour that goes on in the next line
    picture = console.export_svg(title="embedonce", theme=MONOKAI, unique_id="embedonce-demo")
    # rich's template fetches a font from a server
    PICTURE.write_text(re.sub(r"\s*@font-face \{.*?\}", "", picture, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main()
