"""A file in memory that has room for the features without holding them."""

from __future__ import annotations


class HollowFile:
    """What the HDF5 library writes into: a growing file with one hole, whose bytes come from elsewhere.

    The features are nearly all of a cache. With a hole in their place, the rest of the file is some megabytes,
    and they can be streamed into it, however many they are.
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self._place = 0
        self._start = self._length = 0

    def dig(self, start: int, length: int) -> None:
        """Leave out ``length`` bytes from ``start`` on; nothing was written there yet."""
        if len(self._data) > start:
            raise ValueError("the hole must be behind what was written")
        self._start, self._length = start, length

    @property
    def size(self) -> int:
        """Of the whole file, in bytes."""
        return max(len(self._data) + self._length, self._start + self._length)

    def halves(self) -> tuple[memoryview, memoryview]:
        """Return what stands in front of the hole and behind it."""
        self._data.extend(bytes(max(0, self._start - len(self._data))))
        view = memoryview(self._data)
        return (view[: self._start], view[self._start :]) if self._length else (view, view[:0])

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place, as files do."""
        self._place = offset + (0, self._place, self.size)[whence]
        return self._place

    def tell(self) -> int:
        """Return the place at hand."""
        return self._place

    def write(self, data: memoryview) -> int:
        """Write at the place at hand."""
        place = self._inside(self._place, len(data))
        self._data.extend(bytes(max(0, place - len(self._data))))
        self._data[place : place + len(data)] = data
        self._place += len(data)
        return len(data)

    def readinto(self, buffer: memoryview) -> int:
        """Read from the place at hand."""
        part = self.read(len(buffer))
        buffer[: len(part)] = part
        return len(part)

    def read(self, count: int) -> bytes:
        """Read from the place at hand."""
        place = self._inside(self._place, count)
        part = bytes(self._data[place : place + count])
        self._place += len(part)
        return part

    def truncate(self, size: int) -> None:
        """Do nothing: the file ends where the last byte was written."""

    def flush(self) -> None:
        """Do nothing: there is nothing between this file and its bytes."""

    def _inside(self, place: int, count: int) -> int:
        if not self._length or place + count <= self._start:
            return place
        if place < self._start + self._length:
            raise ValueError("nothing but the features goes into the hole")
        return place - self._length
