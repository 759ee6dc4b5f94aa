"""The header of an image file: how the file was made, without what it shows."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import Any, NamedTuple

from ..cache import open_regular
from ..errors import ImageError, ImageFolderError, first_line
from .archives import find_archive
from .decoding import header_size, image_format
from .jpeg_header import exif_of_jpeg, frame_size, jpeg_encoding, quantization_tables
from .orientation import exif_of_png
from .other_formats import open_lazily
from .scan import ImageFile

_FIRST_BYTES = 4096
_MOST_BYTES = 1 << 20  # of the headers of a JPEG file, with thumbnails and colour profiles
_TEXT = 60  # characters of a name
_EXIF_NAMES = {"make": 0x010F, "model": 0x0110, "software": 0x0131}


class FileHeader(NamedTuple):
    """How an image file was made; texts are empty, and sizes 0, where its header does not say it."""

    format: str
    width: int
    height: int
    quantization: str  # the tables of a JPEG file, 64 or 128 hexadecimal digits each, with commas
    encoding: str  # sampling factors of JPEG, bits and colour type of PNG
    camera: str
    software: str


def read_header(root: Path, image: ImageFile) -> FileHeader:
    """Return the header of an image file; raise ImageError if it is missing, has another size or cannot be read."""
    path = os.path.join(os.fsencode(root), image.path)
    try:
        with open_regular(os.fsdecode(path)) as file:
            if os.fstat(file.fileno()).st_size != image.size:
                raise ImageError("has changed since it was embedded")
            return header_of(file)
    except OSError as error:
        try:
            archive, inside = find_archive(path) or (None, b"")
        except ImageFolderError as problem:
            raise ImageError(f"cannot be read: {first_line(problem)}") from problem
        if archive is None:
            raise ImageError(f"cannot be read: {error.strerror}") from error
        member = archive.images.get(inside)
        if member is not None and member.size != image.size:
            raise ImageError("has changed since it was embedded") from error
        return header_of(io.BytesIO(archive.read(inside)))


def header_of(file: Any) -> FileHeader:
    """Return the header of an image file that is open for reading bytes."""
    data: bytes = file.read(_FIRST_BYTES)
    kind = image_format(data)
    if kind == "JPEG":
        size = _FIRST_BYTES
        while not (encoding := jpeg_encoding(data)) and len(data) == size < _MOST_BYTES:
            size *= 16
            data += file.read(size - len(data))
        height, width, _ = frame_size(data)
        return FileHeader(kind, width, height, quantization_tables(data), encoding, *_names(exif_of_jpeg(data)))
    if kind in ("PNG", "BMP", "GIF"):
        height, width = header_size(data)
        if kind != "PNG":
            return FileHeader(kind, width, height, "", "", "", "")
        camera, software = _names(exif_of_png(data))
        encoding = f"{data[24]} bits of type {data[25]}" if len(data) > 25 else ""
        return FileHeader(kind, width, height, "", encoding, camera, software or _png_software(data))
    file.seek(0)
    return _header_of_other(file, kind)


def _header_of_other(file: Any, kind: str) -> FileHeader:
    """Return the header of a file that Pillow opens without its pixels."""
    unknown = FileHeader(kind, 0, 0, "", "", "", "")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd headers
        try:
            image = open_lazily(file, kind)
            return unknown if image is None else FileHeader(kind, *image.size, "", image.mode, *_texts(image.getexif()))
        except Exception:  # Pillow raises many types; an image that was embedded has a size that is not known here
            return unknown


def _names(exif: bytes) -> tuple[str, str]:
    """Return camera and software of EXIF data."""
    if not exif:
        return "", ""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tags = Image.Exif()
        try:
            tags.load(exif)
            return _texts(tags)
        except Exception:  # damaged EXIF data name no camera
            return "", ""


def _texts(tags: Any) -> tuple[str, str]:
    make, model, software = (_clean(tags.get(tag)) for tag in _EXIF_NAMES.values())
    return f"{make} {model}".strip(), software


def _clean(value: Any) -> str:
    return str(value or "").replace("\0", "").strip()[:_TEXT] if isinstance(value, str) else ""


def _png_software(data: bytes) -> str:
    place = data.find(b"tEXtSoftware\0")
    if place < 4:
        return ""
    length = int.from_bytes(data[place - 4 : place], "big")
    return data[place + 13 : place + 4 + length].decode("latin-1").strip()[:_TEXT]
