"""The pixels of a usual JPEG file in some rows and columns, without decoding the others: compiled, in ``_jpeg.c``."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Places = npt.NDArray[np.intp]

_HUFFMAN, _QUANTIZERS, _RESTART, _SCAN, _COMMENT = 0xC4, 0xDB, 0xDD, 0xDA, 0xFE
_SEQUENTIAL = (0xC0, 0xC1)


class _Header(ctypes.Structure):
    """As in ``_jpeg.c``."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("width", "height", "components", "across", "down", "restart")),
        *((name, ctypes.c_int32 * 3) for name in ("dc", "ac")),
        ("steps", ctypes.c_uint16 * 64 * 3),
        *((name, ctypes.c_uint8 * size * 8) for name, size in (("counts", 16), ("symbols", 256))),
    )


def jpeg_pixels(data: bytes, rows: Places, columns: Places) -> Pixels | None:
    """Return the pixels of rows and columns as uint8 (rows, columns, 3).

    None of a file that is not as usual, or damaged, and without the compiled function: libjpeg decodes it.
    """
    library = _library()
    if library is None or (parsed := _parsed(data)) is None:
        return None
    header, start = parsed
    pixels = np.empty((len(rows), len(columns), 3), np.uint8)
    order = np.argsort(rows, kind="stable")
    lines = [np.ascontiguousarray(places, np.int32) for places in (rows[order], order, columns)]
    first, targets, across = (line.ctypes.data for line in lines)
    arrays = first, targets, len(rows), across, len(columns), pixels.ctypes.data
    return pixels if library(data, start, len(data), ctypes.byref(header), *arrays) else None


def _parsed(data: bytes) -> tuple[_Header, int] | None:
    """Return the header of a usual file and the start of its scan."""
    header = _Header()
    quantizers: dict[int, bytes] = {}
    tables: set[int] = set()
    frame = b""
    jfif, adobe, place = False, -1, 2
    while data.startswith(b"\xff\xd8") and data[place : place + 1] == b"\xff" and place + 4 <= len(data):
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        part = data[place + 4 : place + 2 + length]
        place += 2 + length
        if length < 2 or place > len(data):
            return None
        if marker == _QUANTIZERS:
            if len(part) % 65 or any(number > 3 for number in part[::65]):  # those of 16 bits have higher numbers
                return None
            quantizers |= {part[at]: part[at + 1 : at + 65] for at in range(0, len(part), 65)}
        elif marker == _HUFFMAN:
            while part:
                kind, number = divmod(part[0], 16)
                counts, symbols = part[1:17], part[17 : 17 + sum(part[1:17])]
                if kind > 1 or number > 3 or len(counts) < 16 or len(symbols) < sum(counts) or len(symbols) > 256:
                    return None
                ctypes.memmove(header.counts[4 * kind + number], counts, 16)
                ctypes.memmove(header.symbols[4 * kind + number], symbols, len(symbols))
                tables.add(4 * kind + number)
                part = part[17 + len(symbols) :]
        elif marker in _SEQUENTIAL:
            if frame or len(part) < 9 or len(part) != 6 + 3 * part[5] or part[0] != 8 or part[5] not in (1, 3):
                return None
            frame = part
        elif marker == _RESTART:
            if len(part) != 2:
                return None
            header.restart = int.from_bytes(part, "big")
        elif marker == 0xE0 and part[:5] == b"JFIF\0" and len(part) >= 14:
            if part[5] != 1:
                return None
            jfif = True
        elif marker == 0xEE and part[:5] == b"Adobe" and len(part) >= 12:
            adobe = part[11]
        elif marker == _SCAN:
            return (header, place) if frame and _fits(header, frame, part, quantizers, tables, jfif, adobe) else None
        elif marker != _COMMENT and not 0xE0 <= marker <= 0xEF:
            return None
    return None


def _fits(
    header: _Header, frame: bytes, scan: bytes, quantizers: dict[int, bytes], tables: set[int], jfif: bool, adobe: int
) -> bool:
    """Complete the header by its only scan; return whether the file is as usual."""
    count = header.components = frame[5]
    header.height, header.width = (int.from_bytes(frame[at : at + 2], "big") for at in (1, 3))
    names, sampling, steps = frame[6::3], frame[7::3], frame[8::3]
    if not header.height or not header.width or len(set(names)) < count or not set(steps) <= set(quantizers):
        return False
    if len(scan) != 4 + 2 * count or scan[0] != count or scan[1:-3:2] != names or scan[-3:] != b"\0\x3f\0":
        return False
    header.across, header.down = divmod(sampling[0], 16) if count == 3 else (1, 1)
    if count == 3:
        colours = jfif or adobe == 1 or (adobe < 0 and names == b"\1\2\3")
        if not colours or adobe not in (-1, 1) or sampling[1:] != b"\x11\x11" or {header.across, header.down} - {1, 2}:
            return False
    elif not all(1 <= factor <= 4 for factor in divmod(sampling[0], 16)):
        return False
    for number, selected in enumerate(scan[2:-3:2]):
        header.dc[number], header.ac[number] = selected >> 4, 4 + (selected & 15)
        if not {header.dc[number], header.ac[number]} <= tables or selected >> 4 > 3:
            return False
        header.steps[number][:] = tuple(quantizers[steps[number]])
    return True


@lru_cache(maxsize=1)
def _library() -> Any | None:
    spec = find_spec(f"{__package__}._jpeg")
    if spec is None or spec.origin is None:
        return None
    pointer, number = ctypes.c_void_p, ctypes.c_int32
    try:
        function = ctypes.CDLL(spec.origin).embedonce_jpeg_pixels
    except (OSError, AttributeError):
        return None
    place = ctypes.c_int64
    function.argtypes = [ctypes.c_char_p, place, place, *[pointer] * 3, number, pointer, number, pointer]
    function.restype = number
    return function
