"""Damaged and forged variants of model files: flipped bytes, and values and arrays of other types."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

Mutations = Iterator[tuple[str, bytes]]
"""Descriptions, each with the bytes of a whole file."""

HUGE = 10**400
OTHER_VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1.5,
    float("inf"),
    float("nan"),
    HUGE,
    "",
    "x",
    "a\0\x1b[31m" + "x" * 5000,
    [],
    {},
    [[1, 2], [3]],
    [None],
)
_FOOTER = b"embedonce-json-1"


def flips(data: bytes, count: int, generator: random.Random | None = None) -> Mutations:
    """Yield `count` files with one changed byte: of the file, and by turns of an entry whose checksum is kept right."""
    generator = generator or random.Random(0)
    entries = _entries(data)
    for number in range(count):
        mask = generator.randrange(1, 256)
        if number % 2 and entries:
            name = generator.choice(sorted(entries))
            content = entries[name]
            if content:
                place = generator.randrange(len(content))
                yield f"{name}, byte {place} ^ {mask}", _replaced(data, {name: _flipped(content, place, mask)})
                continue
        place = generator.randrange(len(data))
        yield f"file, byte {place} ^ {mask}", _flipped(data, place, mask)


def type_changes(
    data: bytes, count: int | None = None, generator: random.Random | None = None, entry: str = ""
) -> Mutations:
    """Yield files with one value of a JSON document, or one array, replaced by another; all of them, or a sample.

    With `entry`, only values of this entry of the archive.
    """
    changes: list[tuple[str, Any, Any]] = []
    entries = _entries(data)
    for name, content in entries.items():
        if name != (entry or name):
            continue
        if name.endswith(".json"):
            document = json.loads(content)
            changes += [(name, place, value) for place in _places(document) for value in OTHER_VALUES]
        elif name.endswith(".npy"):
            changes += [(name, None, number) for number in range(len(list(_other_arrays(content))))]
    if count is not None and count < len(changes):
        changes = (generator or random.Random(0)).sample(changes, count)
    for name, place, value in changes:
        if place is None:
            what, content = list(_other_arrays(entries[name]))[value]
            yield f"{name} {what}", _replaced(data, {name: content})
        else:
            text = json.dumps(_with(json.loads(entries[name]), place, value)).replace("Infinity", "1e400")
            got = "a huge integer" if value == HUGE and isinstance(value, int) else repr(value)[:20]
            yield f"{name} {'.'.join(map(str, place))} = {got}", _replaced(data, {name: text.encode()})


def _entries(data: bytes) -> dict[str, bytes]:
    """Return the entries of a zip archive, which may follow a model, or the document at the end of a pickle."""
    if data.endswith(_FOOTER):
        start, end = _footer(data)
        return {"embedonce.json": data[start:end]}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    except zipfile.BadZipFile:
        return {}


def _footer(data: bytes) -> tuple[int, int]:
    end = len(data) - len(_FOOTER) - 8
    (size,) = struct.unpack_from("<Q", data, end)
    return end - size, end


def _replaced(data: bytes, contents: dict[str, bytes]) -> bytes:
    """Return a file with other contents of some entries, and right checksums."""
    if data.endswith(_FOOTER):
        (document,) = contents.values()
        return data[: _footer(data)[0]] + document + struct.pack("<Q", len(document)) + _FOOTER
    with zipfile.ZipFile(io.BytesIO(data)) as old:
        target = io.BytesIO()
        target.write(data[: min(info.header_offset for info in old.infolist())])
        with zipfile.ZipFile(target, "a") as new:
            for info in old.infolist():
                content = contents.get(info.filename, old.read(info))
                new.writestr(info.filename, content, compress_type=info.compress_type)
    return target.getvalue()


def _flipped(data: bytes, place: int, mask: int) -> bytes:
    return data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :]


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if place:
        yield place
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for number, (key, item) in enumerate(items):
        if number < 40:  # of a long list the first items
            yield from _places(item, (*place, key))


def _with(document: Any, place: tuple[Any, ...], value: Any) -> Any:
    inside = document
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = value
    return document


def _other_arrays(content: bytes) -> Iterator[tuple[str, bytes]]:
    array = np.atleast_1d(np.load(io.BytesIO(content), allow_pickle=False))
    others = {
        "without rows": array[:0],
        "with a row more": np.concatenate([array, array[:1]]),
        "as one number": np.array(array.flat[0] if array.size else 0),
        "with a dimension more": array[None],
        "transposed": array.T,
        "as text": np.full(array.shape, "x"),
        "as bytes": np.full(array.shape, b"x"),
        "as complex numbers": np.zeros(array.shape, complex),
        "as structures": np.zeros(array.shape, "i4,f8"),
        "as dates": np.zeros(array.shape, "M8[s]"),
        "of flags": np.zeros(array.shape, bool),
        "of zeros": np.zeros_like(array),
    }
    if array.dtype.kind in "iuf":
        for dtype in ("int8", "uint64", "float16", "float64", ">f4", "longdouble"):
            others[f"as {dtype}"] = array.astype(dtype)
        for number in (float("nan"), float("inf"), -float("inf"), -1.0, 1e300):
            others[f"with {number}"] = np.where(np.arange(array.size).reshape(array.shape) == 0, number, array)
            others[f"full of {number}"] = np.full(array.shape, number)
    for what, other in others.items():
        buffer = io.BytesIO()
        np.save(buffer, other, allow_pickle=False)
        yield what, buffer.getvalue()
