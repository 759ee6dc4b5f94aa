from __future__ import annotations

from random import Random

import pytest
from embedonce.cache.sparse_buffer import SparseBuffer
from hypothesis import given
from hypothesis import strategies as st


def test_what_is_written_around_the_hole_is_found_again():
    file = SparseBuffer()
    file.write(b"front")
    file.reserve(8, 1 << 40)
    file.seek(8 + (1 << 40))
    file.write(b"rear")
    assert file.size == 8 + (1 << 40) + 4
    assert [bytes(piece) for piece in file.pieces()] == [b"front\0\0\0", b"rear"]
    file.seek(-4, 2)
    assert file.read(10) == b"rear"
    assert file.tell() == file.size
    file.seek(1)
    file.seek(1, 1)
    buffer = bytearray(3)
    assert file.readinto(memoryview(buffer)) == 3
    assert buffer == b"ont"


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_holes_in_any_order_leave_the_bytes_of_a_plain_file(lengths, seed):
    """Runs of a file are written, dug out or left untouched, in any order, as HDF5 lays them out."""
    file, plain, holes, kinds = SparseBuffer(), bytearray(sum(lengths)), {}, Random(seed)
    ends = [sum(lengths[: number + 1]) for number in range(len(lengths))]
    order = list(range(len(lengths)))
    kinds.shuffle(order)
    for number in order:
        start, length = ends[number] - lengths[number], lengths[number]
        content = bytes(kinds.randrange(1, 256) for _ in range(length))
        kind = kinds.choice(["write", "dig", "leave"])
        if kind == "dig":
            file.reserve(start, length)
            holes[start] = content
        elif kind == "write":
            file.seek(start)
            file.write(memoryview(content))
        if kind != "leave":
            plain[start : ends[number]] = content
            file.seek(start)
            assert kind == "dig" or file.read(length) == content
    first, *others = file.pieces()
    parts = [holes[start] + bytes(piece) for start, piece in zip(sorted(holes), others, strict=True)]
    whole = bytes(first) + b"".join(parts)
    assert len(whole) == file.size
    assert whole == bytes(plain[: file.size])
    assert not any(plain[file.size :])


def test_nothing_goes_into_a_hole():
    file = SparseBuffer()
    file.reserve(4, 100)
    file.reserve(200, 10)
    for place in (0, 50, 100, 196, 205):
        file.seek(place)
        with pytest.raises(ValueError, match="go into a hole"):
            file.write(b"12345")
    with pytest.raises(ValueError, match="go into a hole"):
        file.reserve(90, 50)


def test_a_hole_is_where_nothing_was_written():
    file = SparseBuffer()
    file.write(b"12345")
    with pytest.raises(ValueError, match="nothing was written"):
        file.reserve(4, 100)


def test_a_file_without_a_hole_is_a_file():
    file = SparseBuffer()
    file.seek(3)
    file.write(b"x")
    assert [bytes(piece) for piece in file.pieces()] == [b"\0\0\0x"]
    assert file.size == 4
