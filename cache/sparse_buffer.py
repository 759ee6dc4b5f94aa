"""A file in memory that has room for the features without holding them."""

from __future__ import annotations

from bisect import bisect


class SparseBuffer:
    """A growing file in memory that the HDF5 library writes into, with holes into which matrices are streamed later."""

    def __init__(self) -> None:
        self._data = bytearray()  # the holes are left out
        self._place = 0
        self._holes: list[tuple[int, int]] = []  # start and length, in order

    def reserve(self, start: int, length: int) -> None:
        """Leave out ``length`` bytes from ``start`` on; nothing was written there yet."""
        inside = self._inside(start, length)
        if any(self._data[inside : inside + length]):
            raise ValueError("a hole must be where nothing was written")
        self._holes.insert(bisect(self._holes, (start, length)), (start, length))
        del self._data[inside : inside + length]

    @property
    def size(self) -> int:
        """Size of the whole file in bytes."""
        whole = len(self._data) + sum(length for _, length in self._holes)
        return max(whole, sum(self._holes[-1]) if self._holes else 0)

    def pieces(self) -> list[memoryview]:
        """Return the parts before the first hole, between the holes, and after the last."""
        cuts = [0]
        for start, _ in self._holes:
            cuts.append(self._inside(start, 0))
        self._data.extend(bytes(max(0, cuts[-1] - len(self._data))))
        view = memoryview(self._data)
        return [view[start:end] for start, end in zip(cuts, [*cuts[1:], len(view)], strict=True)]

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to an offset, as files do."""
        self._place = offset if whence == 0 else offset + (self._place if whence == 1 else self.size)
        return self._place

    def tell(self) -> int:
        """Return the offset."""
        return self._place

    def write(self, data: memoryview) -> int:
        """Write at the offset."""
        place = self._inside(self._place, len(data))
        self._data.extend(bytes(max(0, place - len(self._data))))
        self._data[place : place + len(data)] = data
        self._place += len(data)
        return len(data)

    def readinto(self, buffer: memoryview) -> int:
        """Read from the offset."""
        part = self.read(len(buffer))
        buffer[: len(part)] = part
        return len(part)

    def read(self, count: int) -> bytes:
        """Read from the offset."""
        place = self._inside(self._place, count)
        part = bytes(self._data[place : place + count])
        self._place += len(part)
        return part

    def truncate(self, size: int) -> None:
        """Do nothing: the file ends after the last byte."""

    def flush(self) -> None:
        """Do nothing."""

    def _inside(self, place: int, count: int) -> int:
        """Return the position in the data of the bytes at a place of the file."""
        skipped = 0
        for start, length in self._holes:
            if place + count <= start:
                break
            if place < start + length:
                raise ValueError("only streamed bytes go into a hole")
            skipped += length
        return place - skipped
