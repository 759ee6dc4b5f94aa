"""A strict reader for the small part of HDF5 that cache files use: what FORMAT.md allows.

The HDF5 library trusts its input: some 8 % of files with a changed structure and correct checksums end the process
(SIGABRT, SIGSEGV), and a cache may come from an unknown person. Structure and message numbers are those of the HDF5
File Format Specification, version 3.0. HDF5's own checksums are not checked: a cache has stronger ones.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from ..errors import CacheError
from .names import display

_UNDEFINED = (1 << 64) - 1
_MOST_BYTES = 1 << 22  # of all headers and lists of links together; a cache has some ten kilobytes
_MOST_CHUNKS = 64
_MOST_PLACES = 1 << 31  # of an array without values: NumPy makes none whose other sides are too long
_DATASPACE, _LINK_INFO, _DATATYPE, _LINK, _EXTERNAL_FILES, _LAYOUT = 0x01, 0x02, 0x03, 0x06, 0x07, 0x08
_FILTERS, _ATTRIBUTE, _CONTINUATION, _ATTRIBUTE_INFO = 0x0B, 0x0C, 0x10, 0x15
_MESSAGE = struct.Struct("<BHB")  # type, size and flags, before its content
_FLOAT_LAYOUTS = {  # size: bit offset, precision, then location and size of exponent and mantissa, bias (IEEE 754)
    4: (0, 32, 23, 8, 0, 23, 127),
    8: (0, 64, 52, 11, 0, 52, 1023),
}


class Readable(Protocol):
    """A file to read the structure from."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to an offset."""

    def read(self, count: int, /) -> bytes | None:
        """Read at most ``count`` bytes."""


@dataclass(frozen=True)
class StoredArray:
    """Type (such as ``<f4``), shape and offset in the file of an array."""

    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        """Size in bytes."""
        return math.prod(self.shape) * int(self.dtype[2:])


class _Bytes:
    """Bytes of the file, taken from the front."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    def take(self, count: int) -> bytes:
        start, end = self._place, self._place + count
        if end > len(self._data):
            raise CacheError("its structure ends too early")
        self._place = end
        return self._data[start:end]

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "little")

    def numbers(self, layout: struct.Struct) -> tuple[int, ...]:
        """Take several at once, which is faster."""
        return layout.unpack(self.take(layout.size))

    def expect(self, value: bytes, what: str) -> None:
        if self.take(len(value)) != value:
            raise CacheError(f"there is no {what} where one should be")

    @property
    def left(self) -> int:
        return len(self._data) - self._place


class Hdf5File:
    """The structure of an HDF5 file: the attributes of the root group and the arrays in it."""

    def __init__(self, source: Readable, size: int) -> None:
        self._source = source
        self._size = size
        self._budget = _MOST_BYTES
        superblock = self._at(0, 48)
        superblock.expect(b"\x89HDF\r\n\x1a\n", "HDF5 signature")
        if superblock.number(1) not in (2, 3) or superblock.take(2) != b"\x08\x08":
            raise CacheError("its superblock is of a version that no feature cache has")
        superblock.take(1)
        if superblock.number(8) or superblock.number(8) != _UNDEFINED:
            raise CacheError("its superblock has an offset or an extension; a feature cache has none")
        if superblock.number(8) > size:
            raise CacheError("it is truncated")
        self._root = list(self._messages(superblock.number(8)))

    def attributes(self) -> dict[str, bytes | int]:
        """Return the attributes of the root group: fixed-length strings and int64 only."""
        attributes: dict[str, bytes | int] = {}
        for kind, flags, body in self._root:
            if kind == _ATTRIBUTE_INFO:
                info = _Bytes(body)
                info.expect(b"\0", "attribute information")
                info.take(2 if info.number(1) & 1 else 0)
                if info.number(8) != _UNDEFINED:
                    raise CacheError("it has more attributes than any feature cache")
            elif kind == _ATTRIBUTE:
                name, value = _attribute(body, flags)
                attributes[name] = value
        return attributes

    def arrays(self) -> dict[str, StoredArray]:
        """Return the arrays of the root group by name."""
        arrays = {name: self._array(name, address) for name, address in dict(self._links()).items()}
        if sum(array.size for array in arrays.values()) > self._size:  # many names of one array could fill the memory
            raise CacheError(f"its datasets claim more than the {self._size} bytes of the file; it is a forgery")
        return arrays

    def _at(self, offset: int, count: int) -> _Bytes:
        self._budget -= count
        if offset + count > self._size:
            raise CacheError("its structure points beyond the end of the file")
        if self._budget < 0:
            raise CacheError("its structure is larger than that of any feature cache")
        self._source.seek(offset)
        data = self._source.read(count)
        if data is None or len(data) < count:
            raise CacheError("its structure ends too early")
        return _Bytes(data)

    def _messages(self, address: int) -> Iterator[tuple[int, int, bytes]]:
        """Yield type, flags and content of every message of an object header, version 2."""
        prefix = self._at(address, min(34, max(0, self._size - address)))
        prefix.expect(b"OHDR\x02", "object header")
        flags = prefix.number(1)
        prefix.take(16 if flags & 0x20 else 0)  # times
        prefix.take(4 if flags & 0x10 else 0)
        width = 1 << (flags & 3)
        size = prefix.number(width)
        start = address + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0) + width
        chunks = [(start, size)]
        for number, (offset, length) in enumerate(chunks):  # the list grows while it is read
            if number == _MOST_CHUNKS:
                raise CacheError("an object header of it has no end")
            chunk = self._at(offset, length)
            while chunk.left >= 4 + (2 if flags & 4 else 0):
                kind, count, message_flags = chunk.numbers(_MESSAGE)
                chunk.take(2 if flags & 4 else 0)
                body = chunk.take(count)
                if kind == _CONTINUATION:
                    place = _Bytes(body)
                    offset, length = place.number(8), place.number(8)
                    self._at(offset, 4).expect(b"OCHK", "continuation of an object header")
                    chunks.append((offset + 4, max(0, length - 8)))
                else:
                    yield kind, message_flags, body

    def _links(self) -> Iterator[tuple[str, int]]:
        for kind, _, body in self._root:
            if kind == _LINK:
                yield _link(_Bytes(body))
            elif kind == _LINK_INFO:
                info = _Bytes(body)
                info.expect(b"\0", "link information")
                info.take(8 if info.number(1) & 1 else 0)
                heap, index = info.number(8), info.number(8)
                if heap != _UNDEFINED:
                    yield from self._many_links(heap, index)

    def _many_links(self, heap_address: int, index_address: int) -> Iterator[tuple[str, int]]:
        """Yield the links of a group that has more than eight: in a fractal heap, indexed by a B-tree of one node."""
        heap = _Heap(self._at(heap_address, 142))
        tree = self._at(index_address, 34)
        tree.expect(b"BTHD\0\x05", "index of links")
        tree.take(4)
        record_size, depth = tree.number(2), tree.number(2)
        tree.take(2)
        root, records = tree.number(8), tree.number(2)
        if depth or record_size != 4 + heap.id_length:
            raise CacheError("it has more datasets than any feature cache")
        leaf = self._at(root, 6 + records * record_size)
        leaf.expect(b"BTLF\0\x05", "list of links")
        for _ in range(records):
            leaf.take(4)  # a hash of the name
            place = _Bytes(leaf.take(heap.id_length))
            if place.number(1) != 0:
                raise CacheError("a link of it is not where links are")
            offset = place.number(heap.offset_width)
            length = place.number(heap.id_length - 1 - heap.offset_width)
            yield _link(self._at(self._in_heap(heap, offset), length))

    def _in_heap(self, heap: _Heap, offset: int) -> int:
        """Return the offset in the file of a byte of a heap."""
        if not heap.rows:
            return heap.root + offset
        start, row = 0, 0
        while row < heap.rows:
            block = heap.block_size << max(0, row - 1)
            if block > heap.largest_block:
                break
            if offset < start + block * heap.width:
                column = (offset - start) // block
                entry = 5 + 8 + heap.offset_width + 8 * (row * heap.width + column)
                self._at(heap.root, 5).expect(b"FHIB\0", "heap of links")
                return self._at(heap.root + entry, 8).number(8) + (offset - start) % block
            start += block * heap.width
            row += 1
        raise CacheError("a link of it is not where links are")

    def _array(self, name: str, address: int) -> StoredArray:
        label = display(name)
        messages: dict[int, tuple[int, bytes]] = {}
        for kind, flags, body in self._messages(address):
            if kind in (_EXTERNAL_FILES, _FILTERS):
                raise CacheError(_NOT_PLAIN.format(label))
            messages.setdefault(kind, (flags, body))
        if not {_DATASPACE, _DATATYPE, _LAYOUT} <= set(messages):
            raise CacheError(f"{label} is not a dataset")
        if (messages[_DATASPACE][0] | messages[_DATATYPE][0] | messages[_LAYOUT][0]) & 2:
            raise CacheError(f"{label} shares its type with another dataset; those of a feature cache do not")
        shape, dtype = _dataspace(_Bytes(messages[_DATASPACE][1])), _datatype(_Bytes(messages[_DATATYPE][1]))
        if shape is None or dtype is None or dtype[1] not in "iuf":
            raise CacheError(f"{label} must be an array of integers or floating-point numbers")
        layout = _Bytes(messages[_LAYOUT][1])
        if layout.number(1) not in (3, 4) or layout.number(1) != 1:
            raise CacheError(_NOT_PLAIN.format(label))
        array = StoredArray(dtype, shape, layout.number(8))
        if not array.size and math.prod(max(1, side) for side in shape) > _MOST_PLACES:
            raise CacheError(f"{label} claims sides of {shape} and has no values; it is a forgery")
        if array.size and (array.offset + array.size > self._size or layout.number(8) != array.size):
            raise CacheError(f"{label} claims {array.size} bytes, more than the file has; it is truncated or a forgery")
        return array


_NOT_PLAIN = "{} is stored outside the file, in pieces or compressed; a feature cache is contiguous"


class _Heap:
    """The header of a fractal heap."""

    def __init__(self, header: _Bytes) -> None:
        header.expect(b"FRHP\0", "heap of links")
        self.id_length = header.number(2)
        if header.number(2):
            raise CacheError("its links are compressed; those of a feature cache are not")
        header.take(1 + 4 + 12 * 8)
        self.width = header.number(2)
        self.block_size, self.largest_block = header.number(8), header.number(8)
        self.offset_width = -(-header.number(2) // 8)
        header.take(2)
        self.root, self.rows = header.number(8), header.number(2)
        if not self.width or not self.block_size or not self.offset_width < self.id_length <= 16:
            raise CacheError("there is no heap of links where one should be")


def _link(link: _Bytes) -> tuple[str, int]:
    link.expect(b"\x01", "link")
    flags = link.number(1)
    kind = link.number(1) if flags & 8 else 0
    link.take(8 if flags & 4 else 0)
    link.take(1 if flags & 16 else 0)
    name = _name(link.take(link.number(1 << (flags & 3))))
    if kind:
        raise CacheError(f"{display(name)} is a link to somewhere else; a feature cache has none")
    return name, link.number(8)


def _attribute(body: bytes, flags: int) -> tuple[str, bytes | int]:
    attribute = _Bytes(body)
    version, shared = attribute.number(1), attribute.number(1)
    lengths = [attribute.number(2) for _ in range(3)]
    attribute.take(1 if version == 3 else 0)
    if version not in (1, 2, 3):
        raise CacheError("an attribute of it is of a version that no feature cache has")
    step = 8 if version == 1 else 1  # the oldest version pads its parts
    parts = [attribute.take(-(-length // step) * step) for length in lengths]
    name = _name(parts[0].rstrip(b"\0"))
    dtype, shape = _datatype(_Bytes(parts[1])), _dataspace(_Bytes(parts[2]))
    if shared & 3 or flags & 2 or shape != () or dtype is None or dtype[:2] not in ("|S", "<i"):
        raise CacheError(f"its attribute {display(name)} is of a type that no feature cache has")
    value = attribute.take(int(dtype[2:]))
    if dtype.startswith("|S"):
        return name, value.rstrip(b"\0")
    if dtype != "<i8":
        raise CacheError(f"its attribute {display(name)} is of a type that no feature cache has")
    return name, int.from_bytes(value, "little", signed=True)


def _name(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise CacheError(f"the name {display(data)} is not text") from error


def _dataspace(space: _Bytes) -> tuple[int, ...] | None:
    """Return the shape; None for an empty dataspace."""
    version, rank, flags = space.number(1), space.number(1), space.number(1)
    if version not in (1, 2) or rank > 32:
        raise CacheError("a dataspace of it is of a version that no feature cache has")
    kind = space.number(1)
    space.take(4 if version == 1 else 0)
    shape = tuple(space.number(8) for _ in range(rank))
    if flags & 1 and tuple(space.number(8) for _ in range(rank)) != shape:
        raise CacheError("a dataspace of it can grow; those of a feature cache do not")
    return None if version == 2 and kind == 2 else shape


def _datatype(datatype: _Bytes) -> str | None:
    """Return the type as NumPy writes it: an integer, an IEEE number, or a fixed-length string; None for others."""
    head = datatype.number(1)
    bits, size = datatype.number(3), datatype.number(4)
    kind = head & 15
    if kind == 3:
        return f"|S{size}"
    if kind == 0:
        whole = datatype.number(2) == 0 and datatype.number(2) == 8 * size
        if not whole or size not in (1, 2, 4, 8) or bits & ~8:  # bit 3: signed; bit 0: big-endian; padding
            return None
        return f"{'<' if size > 1 else '|'}{'i' if bits & 8 else 'u'}{size}"
    if kind == 1 and size in _FLOAT_LAYOUTS:
        widths = (2, 2, 1, 1, 1, 1, 4)
        if tuple(datatype.number(width) for width in widths) == _FLOAT_LAYOUTS[size] and not bits & 0x41:
            return f"<f{size}"
    return None
