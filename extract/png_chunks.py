"""A PNG file reduced to the chunks that decide its pixels, with the checks of libpng."""

from __future__ import annotations

import struct
import zlib

from ..errors import ImageError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_NEEDED = (b"IHDR", b"PLTE", b"IDAT", b"IEND")


def critical_chunks(data: bytes) -> bytes:
    """Return a PNG file of its critical chunks alone. Raises ImageError for a wrong checksum and a missing end."""
    # ancillary chunks hold text, colour profiles and animations, which decide no pixel of the first frame
    parts: list[bytes | memoryview] = [_SIGNATURE]
    place, view = len(_SIGNATURE), memoryview(data)
    while place + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, place)
        end = place + 12 + length
        if end > len(data):
            break
        if not name[0] & 32:  # a critical chunk
            if name not in _NEEDED:
                raise ImageError(f"damaged PNG: unknown critical chunk {name.decode('ascii', 'backslashreplace')}")
            if zlib.crc32(view[place + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
                raise ImageError(f"damaged PNG: wrong checksum of the chunk {name.decode()}")
            parts.append(view[place:end])
            if name == b"IEND":
                return b"".join(parts)
        place = end
    raise ImageError("truncated PNG: its end is missing")
