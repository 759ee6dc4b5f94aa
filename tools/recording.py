"""Draw what a command prints on a terminal, in its colours, as docs/images/demo.svg. Needs a POSIX system.

python tools/recording.py [COMMAND ...]

By default the command is the README's demo, in a new folder and so as on a fresh machine. Progress lines that the
terminal overwrote are not drawn; everything else is as it was printed.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "demo.svg"
COLUMNS = 118
THEME = TerminalTheme(
    (24, 28, 33),
    (222, 226, 230),
    [
        (24, 28, 33),
        (240, 113, 120),
        (126, 211, 139),
        (240, 198, 116),
        (120, 170, 240),
        (200, 150, 230),
        (110, 205, 205),
        (222, 226, 230),
    ],
)
# rich's own template, without the font that it fetches from a server
_FONT_FACE = re.compile(r"\s*@font-face \{.*?\}", flags=re.DOTALL)


def record(command: list[str]) -> str:
    """Run a command on a terminal of its own and return what stands there in the end, with its colours."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"COLUMNS": str(COLUMNS), "TERM": "xterm-256color"}
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        chunks = []
        with contextlib.suppress(OSError):  # how a terminal says that nobody holds its other end
            while chunk := os.read(ours, 65536):
                chunks.append(chunk)
    os.close(ours)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with status {process.returncode}")
    return b"".join(chunks).decode().replace(str(Path.home()), "~")  # whoever records it


def as_lines(printed: str) -> list[str]:
    """Return the lines that stay: what a carriage return or a cursor movement overwrites is left out."""
    lines: list[str] = []
    for line in printed.replace("\r\n", "\n").split("\n"):
        ups = len(re.findall(r"\x1b\[1?A", line))
        del lines[len(lines) - ups :]
        line = re.sub(r"\x1b\[(?![\d;]*m)[\d;?]*[A-Za-z]", "", line)
        lines.append(line.rpartition("\r")[2])
    return lines


def draw(command: str, lines: list[str], title: str) -> str:
    """Return the picture as SVG."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True, color_system="truecolor")
        console.print(Text.assemble(("$ ", "bold green"), command))
        for line in lines:
            console.print(Text.from_ansi(line))
        return _FONT_FACE.sub("", console.export_svg(title=title, theme=THEME, unique_id="embedonce-demo"))


def main() -> None:
    """Record and draw."""
    PICTURE.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        command = sys.argv[1:] or [str(Path(sys.executable).with_name("embedonce")), "demo"]
        shown = " ".join([Path(command[0]).name, *command[1:]])
        lines = as_lines(record(command))
        os.chdir("/")
    while lines and not lines[-1].strip():
        lines.pop()
    PICTURE.write_text(draw(shown, lines, "embedonce"), encoding="utf-8")


if __name__ == "__main__":
    main()
