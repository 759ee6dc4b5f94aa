"""File names: raw bytes on disk, ``str`` with surrogate escapes in Python (PEP 383), and escaped on display."""

from __future__ import annotations

import os
import re


def display(name: str | bytes | os.PathLike[str]) -> str:
    """Return a name in one printable line: control characters and undecodable bytes are escaped."""
    text = os.fsdecode(name)
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(_escape(character) for character in text)


def printable(text: str) -> str:
    """Return one line of a text that others wrote, such as an error or a version: control characters are escaped."""
    return text if text.isprintable() else "".join(c if c == "\\" else _escape(c) for c in text)


def counted(count: int, text: str) -> str:
    """Return a number and what it counts: of ``image(s) (is|are) left out`` for 1, "1 image is left out"."""
    text = text.replace("(s)", "" if count == 1 else "s")
    return f"{count:,} " + re.sub(r"\(([^()|]*)\|([^()|]*)\)", r"\1" if count == 1 else r"\2", text)


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if character == "\\" or not character.isprintable():
        return character.encode("unicode_escape").decode("ascii")
    return character
