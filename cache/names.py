"""File names: raw bytes on disk, ``str`` with surrogate escapes in Python (PEP 383), and escaped on display."""

from __future__ import annotations

import os
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # it takes some milliseconds of every start
    import numpy.typing as npt


def display(name: str | bytes | os.PathLike[str]) -> str:
    """Return a name in one printable line: control characters and undecodable bytes are escaped."""
    text = os.fsdecode(name)
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(_escape(character) for character in text)


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if character == "\\" or not character.isprintable():
        return character.encode("unicode_escape").decode("ascii")
    return character


def pack(names: list[bytes]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Join byte strings: name i is ``blob[offsets[i]:offsets[i + 1]]`` of the returned uint8 blob and int64 offsets."""
    offsets = np.zeros(len(names) + 1, dtype=np.int64)
    np.cumsum([len(name) for name in names], out=offsets[1:])
    return np.frombuffer(b"".join(names), dtype=np.uint8), offsets


def unpack(blob: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> list[bytes]:
    """Undo `pack`; ValueError if the offsets do not rise from 0 to the length of the blob."""
    if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != len(blob) or (offsets[1:] < offsets[:-1]).any():
        raise ValueError("string offsets do not rise from 0 to the length of their blob")
    data = blob.tobytes()
    ends = offsets.tolist()
    return [data[start:end] for start, end in pairwise(ends)]
