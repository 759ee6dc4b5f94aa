"""From the bytes of an image file to the pixels of ``keras.utils.image_dataset_from_directory``, without TensorFlow.

The reference is ``tf.io.decode_image(channels=3, expand_animations=False)`` and ``tf.image.resize`` with
``bilinear``. libjpeg-turbo with the fast integer DCT gives the bytes of TensorFlow's JPEG decoder, Pillow those of its
PNG, BMP and GIF decoders, and the resize below does the same float32 operations in the same order: all bits are equal.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import simplejpeg

from ..errors import ImageError, first_line
from .gif_frame import first_frame
from .jpeg_header import bytes_of_scans, clean_header, frame_size, has_adobe_marker
from .other_formats import SMALLER_LIMITS, open_other, other_format
from .png_chunks import critical_chunks
from .value_range import has_16_bits, reader_of, stretched

if TYPE_CHECKING:
    from PIL import Image

Pixels = npt.NDArray[np.uint8]

MAX_PIXELS = 50_000_000
MAX_SIDE = 1_000_000
"""Images that claim more in their header are rejected before they are decoded, or reduced if they are JPEG."""
MAX_COEFFICIENT_BYTES = 500_000_000
"""Memory of libjpeg for a JPEG file of several scans, which it holds as a whole."""
MAX_SCANNED_PIXELS = 50 * MAX_PIXELS
"""Pixels times scans of a JPEG file: usual progressive files have 10 scans, and each takes as long as an image."""
STRIP_PIXELS = 4_000_000
"""Number of pixels that are converted or gathered at once, so that one image never takes 600 MB."""

_NO_MEMORY = re.compile("insufficient memory|out of memory", re.IGNORECASE)
"""Messages of libjpeg and of Pillow."""


def decode(data: bytes, minimum: int | None = None, stretch: bool = False) -> Pixels:
    """Decode an image file to RGB: uint8, shape (height, width, 3). Raises ImageError with the reason."""
    # The first frame of an animation is taken, alpha is dropped, and 16-bit samples keep their high byte. minimum is
    # the number of pixels that a JPEG file keeps on both sides at 1/2, 1/4 or 1/8, the ratio of tf.io.decode_jpeg.
    # With stretch, the values of 16-bit samples are stretched to 0 to 255.
    try:
        return _decode(data, minimum, data if stretch and has_16_bits(data) else b"")
    except MemoryError:
        raise
    except Exception as error:  # an error of any decoder must not stop the run
        reason = first_line(error)
        if _NO_MEMORY.search(reason):  # which says nothing about the image
            raise MemoryError(reason) from error
        if isinstance(error, ImageError):
            raise
        kind = "truncated" if "truncated" in reason or "unrecognized data stream" in reason else "damaged"
        raise ImageError(f"{kind} {image_format(data)}: {reason}") from error


def _decode(data: bytes, minimum: int | None, deep: bytes) -> Pixels:
    if data.startswith(b"\xff\xd8\xff"):
        return _decode_jpeg(data, minimum)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        _check_size(*header_size(data))
        chunks = critical_chunks(data)
        return _decode_with_pillow(lambda: _open(chunks), deep=deep)
    if data.startswith((b"GIF87a", b"GIF89a")):
        return _decode_gif(data)
    if data.startswith(b"BM"):
        return _decode_bmp(data)
    if not data:
        raise ImageError("the file is empty")
    if other := other_format(data):
        most = SMALLER_LIMITS.get(other, MAX_PIXELS)
        return _decode_with_pillow(lambda: open_other(data, other, _check_size), most, deep)
    raise ImageError("not an image of a known format")


def _check_size(height: int, width: int, most: int | None = None) -> None:
    most = MAX_PIXELS if most is None else min(most, MAX_PIXELS)
    if height * width > most:
        raise ImageError(
            f"too large: {width} x {height} pixels, the limit is {most // 1_000_000} megapixels. Reduce it, or save it "
            "as JPEG, which is reduced while it is decoded"
        )
    if max(height, width) > MAX_SIDE:
        raise ImageError(f"too large: {width} x {height} pixels, the limit is {MAX_SIDE:,} on a side")


def _decode_jpeg(data: bytes, minimum: int | None) -> Pixels:
    height, width, components = frame_size(data)
    divisor = _divisor(height, width, minimum)
    if not divisor:
        raise ImageError(f"too large: {width} x {height} pixels, even at an eighth of its size. Reduce it")
    if height * width > MAX_PIXELS and bytes_of_scans(data) > MAX_COEFFICIENT_BYTES:
        raise ImageError(f"too large: {width} x {height} pixels of progressive JPEG. Save it as baseline JPEG")
    most = len(data) // _SCAN_BYTES  # counting takes a hundredth of the time of decoding
    if most * height * width > MAX_SCANNED_PIXELS < (scans := data.count(_START_OF_SCAN)) * height * width:
        raise ImageError(
            f"too many scans: {scans:,} of {width} x {height} pixels, the limit is "
            f"{MAX_SCANNED_PIXELS // (height * width):,} scans at this size. Save it again as JPEG or PNG"
        )
    options: dict[str, Any] = {"colorspace": "CMYK" if components == 4 else "RGB", "fastdct": True}
    if divisor > 1:
        options |= {"min_height": -(-height // divisor), "min_width": -(-width // divisor)}
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(data, **options)
    except ValueError as error:
        pixels = _decode_despite_warnings(data, options, first_line(error))
    return _from_cmyk(pixels, has_adobe_marker(data)) if components == 4 else pixels


_SCAN_BYTES = 10
"""Length of the header of the shortest scan."""
_START_OF_SCAN = b"\xff\xda"
"""Compressed data never hold these bytes; a thumbnail in the header does."""

_FORBIDDEN = b"\xff\xd8" * 40_000
"""Bytes after the end of a file, longer than a segment, that the decoder refuses as soon as it reads them."""


_WARNINGS = ("Corrupt JPEG data", "Inconsistent progression", "Invalid SOS parameters", "Warning", "Unknown Adobe")
"""Starts of libjpeg's warnings, which TensorFlow ignores."""


def _decode_despite_warnings(data: bytes, options: dict[str, Any], reason: str) -> Pixels:
    """Decode a JPEG file of which libjpeg warns, as TensorFlow: damage is accepted, a missing end is not."""
    data = clean_header(data) + _FORBIDDEN
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(data, **options)
    except ValueError as error:
        last = first_line(error)  # an error, if there was one after the warnings
        if last.startswith(_WARNINGS):
            return np.asarray(simplejpeg.decode_jpeg(data, strict=False, **options))
        whole = frame_size(data)[0] > 0
        if whole and "subsampling" in last:
            raise ImageError("unsupported JPEG: unusual sampling factors. Save it again as JPEG or PNG") from error
        cut = not whole or "remature end" in reason or "two SOI" in last
        raise ImageError(f"{'truncated' if cut else 'damaged'} JPEG: {reason}") from error
    return pixels


def _strips(height: int, width: int) -> Iterator[slice]:
    """Yield parts of the rows of an image, of at most `STRIP_PIXELS` where a row has fewer."""
    rows = max(1, STRIP_PIXELS // max(1, width))
    return (slice(start, min(start + rows, height)) for start in range(0, height, rows))


def _from_cmyk(pixels: Pixels, inverted: bool) -> Pixels:
    """Convert CMYK as tensorflow/core/lib/jpeg/jpeg_mem.cc: Adobe's files store the samples inverted."""
    rgb = np.empty((*pixels.shape[:2], 3), np.uint8)
    for strip in _strips(*pixels.shape[:2]):
        wide = pixels[strip].astype(np.uint16)
        if not inverted:
            wide = 255 - wide
        rgb[strip] = wide[..., :3] * wide[..., 3:] // 255
    return rgb


_DIVISORS = (1, 2, 4, 8)
"""libjpeg-turbo allows any eighth, but those between the powers of two have no vector code and save no time."""


_SMALLEST_LARGE = 100_000
"""Bytes that a JPEG file above `MAX_PIXELS` has at least: two bits for each block of 64 pixels."""


def _divisor(height: int, width: int, minimum: int | None) -> int:
    """Return the divisor of a JPEG file's size: the smallest possible one, or the largest that keeps ``minimum``.

    0 if no divisor gives an image of `MAX_PIXELS`.
    """
    needed = next((divisor for divisor in _DIVISORS if -(-height // divisor) * -(-width // divisor) <= MAX_PIXELS), 0)
    if minimum is None or not needed:
        return needed
    kept = [divisor for divisor in _DIVISORS if min(height, width) // divisor >= minimum]
    return max(needed, max(kept, default=1))


def was_reduced(data: bytes) -> bool:
    """Return whether this is a JPEG file that is reduced while it is decoded, since it is above `MAX_PIXELS`."""
    if len(data) < _SMALLEST_LARGE or not data.startswith(b"\xff\xd8\xff"):
        return False
    height, width, _ = frame_size(data)
    return height * width > MAX_PIXELS


def _open(data: bytes) -> Image.Image:
    from PIL import Image

    return Image.open(io.BytesIO(data), formats=("PNG", "BMP", "DIB"))


def _decode_with_pillow(opened: Callable[[], Image.Image], most: int | None = None, deep: bytes = b"") -> Pixels:
    # deep is the file if the values of its 16-bit samples are to be stretched
    from PIL import Image, UnidentifiedImageError

    try:
        with opened() as image:
            _check_size(image.height, image.width, most)
            image.load()
            if deep:
                rows = max(1, STRIP_PIXELS // (4 * image.width))  # values are wider than pixels
                return stretched(reader_of(deep, image, opened), image.height, image.width, rows)
            if image.height * image.width <= STRIP_PIXELS:
                return _as_reference(image)
            pixels = np.empty((image.height, image.width, 3), np.uint8)
            for strip in _strips(image.height, image.width):
                pixels[strip] = _as_reference(image.crop((0, strip.start, image.width, strip.stop)))
            return pixels
    except UnidentifiedImageError as error:
        raise ImageError("damaged image: its header cannot be read") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"too large: {error}") from error


def _decode_gif(data: bytes) -> Pixels:
    try:
        return first_frame(data, _check_size)
    except ImageError:
        raise
    except (IndexError, ValueError) as error:
        raise ImageError(f"truncated GIF: {first_line(error)}") from error


def _decode_bmp(data: bytes) -> Pixels:
    """Decode a BMP file: with TensorFlow's bits where it reads the file, otherwise with the right colours."""
    _check_size(*header_size(data))
    layout = _plain_bmp(data)
    if layout is None:
        return _decode_with_pillow(lambda: _open(data))
    offset, width, height, channels = layout
    stride = (channels * width + 3) // 4 * 4
    rows = np.frombuffer(data, np.uint8, stride * abs(height), offset).reshape(abs(height), stride)
    pixels = rows[:: 1 if height < 0 else -1, : channels * width].reshape(abs(height), width, channels)
    # an 8-bit file is read as gray: TensorFlow ignores its palette
    return np.repeat(pixels, 3, axis=2) if channels == 1 else np.ascontiguousarray(pixels[..., 2::-1])


def _plain_bmp(data: bytes) -> tuple[int, int, int, int] | None:
    """Return offset, width, height and bytes per pixel of a BMP file that TensorFlow reads; otherwise None."""
    if len(data) < 34 or data[14:18] == b"\x0c\0\0\0" or data[30] in (1, 2):  # OS/2; RLE
        return None
    offset, width, height, channels = *struct.unpack_from("<i4xii", data, 10), data[28] // 8
    size = (channels * width + 3) // 4 * 4 * abs(height)
    if channels not in (1, 3, 4) or offset < 0 or width <= 0 or not height or offset + size != len(data):
        return None
    return offset, width, height, channels


def ignores_palette(data: bytes) -> bool:
    """Return whether this is a BMP file whose palette is ignored, as by TensorFlow, although it has colours."""
    layout = _plain_bmp(data) if data.startswith(b"BM") else None
    if layout is None or layout[3] != 1:
        return False
    start = 14 + int.from_bytes(data[14:18], "little")
    palette = np.frombuffer(data[start : layout[0]][:1024], np.uint8)
    palette = palette[: len(palette) // 4 * 4].reshape(-1, 4)[:, :3]
    return bool(len(palette)) and not (palette == np.arange(len(palette), dtype=np.uint8)[:, None]).all()


def is_dark_of_16_bits(data: bytes, pixels: Pixels) -> bool:
    """Return whether a file of 16 bits uses less than a quarter of their range: all pixels are nearly black then."""
    return has_16_bits(data) and bool(pixels.max(initial=0) < 64)


def header_size(data: bytes) -> tuple[int, int]:
    """Return height and width from the header of a PNG, BMP or GIF file; (0, 0) when it is truncated."""
    if data.startswith(b"\x89PNG"):
        layout, offset = ">II", 16
    elif data.startswith(b"GIF8"):  # of the screen; a frame can be larger
        layout, offset = "<HH", 6
    else:  # a BMP; the header of OS/2, 12 bytes long, has shorter numbers
        layout, offset = ("<HH", 18) if data[14:18] == b"\x0c\0\0\0" else ("<ii", 18)
    if len(data) < offset + struct.calcsize(layout):
        return 0, 0
    width, height = struct.unpack_from(layout, data, offset)
    return abs(height), abs(width)  # a BMP that is stored from the top has a negative height


def image_format(data: bytes) -> str:
    """Return the format by an image file's first bytes."""
    for magic, name in ((b"\xff\xd8\xff", "JPEG"), (b"\x89PNG", "PNG"), (b"BM", "BMP"), (b"GIF8", "GIF")):
        if data.startswith(magic):
            return name
    return other_format(data) or "image"


def _as_reference(image: Image.Image) -> Pixels:
    mode = image.mode
    if mode.startswith("I"):  # 16-bit gray
        gray = (np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=2)
    if mode in ("P", "PA"):
        return np.ascontiguousarray(np.asarray(image.convert("RGBA"))[..., :3])
    if mode == "LA":
        return np.repeat(np.asarray(image)[..., :1], 3, axis=2)
    if mode == "RGBA":
        return np.ascontiguousarray(np.asarray(image)[..., :3])
    return np.asarray(image if mode == "RGB" else image.convert("RGB"))
