"""What a cache keeps of each image file besides its size: how it was made, in numbers, and the mean colour."""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..cache import FACT_BYTES
from .file_header import FileHeader, header_of

FACTS = np.dtype(
    [
        ("format", "<u4"),
        ("width", "<u4"),
        ("height", "<u4"),
        ("tables", "<u4"),
        ("quantization", "<u2", (2,)),
        ("encoding", "<u4"),
        ("camera", "<u4"),
        ("software", "<u4"),
        ("color", "u1", (3,)),
    ]
)
"""The fields of the facts: texts as their CRC-32, 0 for none; the sums of the first two quantisation tables."""

assert FACTS.itemsize == FACT_BYTES


def file_facts(data: bytes, color: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the facts of an image file, with the mean colour of its image: uint8, shape (35,)."""
    facts = facts_of_headers([header_of(io.BytesIO(data))])
    facts["color"] = color
    return facts.view(np.uint8)


def facts_of_headers(headers: Sequence[FileHeader]) -> npt.NDArray[np.void]:
    """Return the facts of files of which the headers are known, without the colour: `FACTS`, shape (n,)."""
    facts = np.zeros(len(headers), FACTS)
    for name in ("format", "encoding", "camera", "software"):
        facts[name] = [_number(getattr(header, name)) for header in headers]
    facts["width"] = [header.width for header in headers]
    facts["height"] = [header.height for header in headers]
    facts["tables"] = [_number(header.quantization) for header in headers]
    facts["quantization"] = [_sums(header.quantization) for header in headers]
    return facts


def _number(text: str) -> int:
    return zlib.crc32(text.encode("utf-8", "surrogatepass")) if text else 0


def _sums(tables: str) -> list[int]:
    """Return the sums of the first two quantisation tables, 0 for a missing one."""
    return [min(sum(bytes.fromhex(one)), 65_535) for one in [*tables.split(","), "", ""][:2]]
