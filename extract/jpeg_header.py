"""The header of a JPEG file: its size, and the header without what decides no pixel."""

from __future__ import annotations

from collections.abc import Iterator

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_SCAN = 0xDA
_COMMENT = 0xFE
_JFIF = b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"


def frame_size(data: bytes) -> tuple[int, int, int]:
    """Return height, width and number of components; zeros if the header ends before them."""
    for marker, start, _ in _segments(data):
        if marker in _FRAMES and start + 10 <= len(data):
            height, width = (int.from_bytes(data[start + at : start + at + 2], "big") for at in (5, 7))
            return height, width, data[start + 9]
    return 0, 0, 0


def bytes_of_scans(data: bytes) -> int:
    """Return the bytes that libjpeg holds of a file until its last scan; 0 for a usual file, of one scan."""
    size = components = 0
    progressive = False
    for marker, start, end in _segments(data):
        if marker in _FRAMES:
            height, width, components = frame_size(data)
            factors = [divmod(factor, 16) for factor in data[start + 11 : min(end, start + 10 + 3 * components) : 3]]
            largest = max((across for across, _ in factors), default=1) * max((down for _, down in factors), default=1)
            blocks = sum(across * down for across, down in factors) / max(1, largest)
            size, progressive = round(2 * height * width * blocks), marker in _PROGRESSIVE
        elif marker == _SCAN:
            return size if progressive or data[start + 4] < components else 0
    return 0


def quantization_tables(data: bytes) -> str:
    """Return the tables of the header, in the order of their numbers, as hexadecimal digits with commas."""
    tables: dict[int, bytes] = {}
    for marker, start, end in _segments(data):
        place = start + 4
        while marker == 0xDB and place < min(end, len(data)):
            precision, number = divmod(data[place], 16)
            length = 128 if precision else 64
            tables[number] = data[place + 1 : place + 1 + length]
            place += 1 + length
    return ",".join(tables[number].hex() for number in sorted(tables))


def jpeg_encoding(data: bytes) -> str:
    """Return the kind of the frame and the sampling factors of its components; empty if the header is not whole."""
    kind = ""
    for marker, start, end in _segments(data):
        if marker in _FRAMES and end <= len(data):
            name = "progressive" if marker in _PROGRESSIVE else "sequential"
            factors = [f"{one >> 4}x{one & 15}" for one in data[start + 11 : end : 3]]
            kind = " ".join([name, *factors])
        elif marker == _SCAN:
            return kind
    return ""


def has_adobe_marker(data: bytes) -> bool:
    """Return whether the header has the segment of Adobe, which libjpeg calls ``saw_Adobe_marker``."""
    return any(marker == 0xEE and data[start + 4 : start + 9] == b"Adobe" for marker, start, _ in _segments(data))


def exif_of_jpeg(data: bytes) -> bytes:
    """Return the EXIF data of the header; empty if there are none."""
    for marker, start, end in _segments(data):
        if marker == 0xE1 and data[start + 4 : start + 10] == b"Exif\0\0":
            return data[start + 4 : end]
    return b""


def clean_header(data: bytes) -> bytes:
    """Return a JPEG file without comments, application data and stray bytes before its first scan."""
    # libjpeg warns of some of them, and its warnings stop the decoder. JFIF and Adobe decide the colour space.
    components = frame_size(data)[2]
    parts = [b"\xff\xd8"]
    for marker, start, end in _segments(data):
        segment = data[start:end]
        if marker == _SCAN:
            return b"".join((*parts, data[start:]))
        if marker == 0xE0 and segment[4:9] == b"JFIF\0":
            segment = _JFIF
        elif marker == 0xEE and segment[4:9] == b"Adobe":
            if len(segment) > 15 and segment[15]:  # other codes of the transform mean the usual one
                segment = segment[:15] + (b"\2" if components == 4 else b"\1") + segment[16:]
        elif 0xE0 <= marker <= 0xEF or marker == _COMMENT:
            continue
        parts.append(segment)
    return data


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of every segment up to the first scan, as libjpeg finds them."""
    place = 2
    while (start := data.find(b"\xff", place)) >= 0:
        place = start + 1
        while data[place : place + 1] == b"\xff":
            place += 1
        if place >= len(data):
            return
        marker, start, place = data[place], place - 1, place + 1
        if marker in (0, 1) or 0xD0 <= marker <= 0xD7:  # stray bytes, and markers without a length
            continue
        end = place + max(2, int.from_bytes(data[place : place + 2], "big"))
        yield marker, start, end
        if marker == _SCAN or end > len(data):
            return
        place = end
