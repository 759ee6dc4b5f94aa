from __future__ import annotations

import pytest
from embedonce.cache.hollow import HollowFile


def test_what_is_written_around_the_hole_is_found_again():
    file = HollowFile()
    file.write(b"front")
    file.dig(8, 1 << 40)
    file.seek(8 + (1 << 40))
    file.write(b"rear")
    assert file.size == 8 + (1 << 40) + 4
    assert [bytes(half) for half in file.halves()] == [b"front\0\0\0", b"rear"]
    file.seek(-4, 2)
    assert file.read(10) == b"rear"
    assert file.tell() == file.size
    file.seek(1)
    file.seek(1, 1)
    buffer = bytearray(3)
    assert file.readinto(memoryview(buffer)) == 3
    assert buffer == b"ont"


def test_nothing_goes_into_the_hole():
    file = HollowFile()
    file.dig(4, 100)
    for place in (0, 50, 100):
        file.seek(place)
        with pytest.raises(ValueError, match="nothing but the features"):
            file.write(b"12345")


def test_the_hole_is_behind_what_was_written():
    file = HollowFile()
    file.write(b"12345")
    with pytest.raises(ValueError, match="behind"):
        file.dig(4, 100)


def test_a_file_without_a_hole_is_a_file():
    file = HollowFile()
    file.seek(3)
    file.write(b"x")
    assert [bytes(half) for half in file.halves()] == [b"\0\0\0x", b""]
    assert file.size == 4
