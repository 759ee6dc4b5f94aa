"""The reader of HDF5 against the library, and against forged files."""

from __future__ import annotations

import io

import h5py
import numpy as np
import pytest
from cache_tables import make_table
from embedonce.cache.hdf5 import Hdf5File
from embedonce.cache.shard import Shard
from embedonce.cache.writer import encode
from embedonce.errors import CacheError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

TYPES = ("<f4", "<f8", "<i8", "<i4", "<u8", "|u1", "|i1", "<u2")


@pytest.fixture
def opened(tmp_path):
    """Return a function that writes bytes to a file and opens it."""
    sources = []

    def open_bytes(data: bytes) -> tuple[Hdf5File, io.FileIO]:
        (tmp_path / "x.h5").write_bytes(data)
        source = io.FileIO(tmp_path / "x.h5", "r")
        sources.append(source)
        return Hdf5File(source, len(data)), source

    yield open_bytes
    for source in sources:
        source.close()


def written(fill, libver="v108") -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver=libver) as file:
        fill(file)
    return buffer.getvalue()


def values(source, array):
    source.seek(array.offset if array.size else 0)
    return np.frombuffer(source.read(array.size), array.dtype).reshape(array.shape)


@pytest.mark.parametrize("libver", ["v108", "v110", "latest"])
@pytest.mark.parametrize("count", [1, 8, 9, 18, 45])
def test_arrays_and_attributes_are_those_that_the_library_sees(opened, count, libver):
    generator = np.random.default_rng(count)
    arrays = {
        f"name {number} é": generator.integers(0, 100, generator.integers(0, 5, number % 4)).astype(TYPES[number % 8])
        for number in range(count)
    }

    def fill(file):
        file.attrs["text"] = np.bytes_(b"a text" * 100)
        file.attrs["number"] = np.int64(-7)
        for name, array in arrays.items():
            file[name] = array

    file, source = opened(written(fill, libver))
    assert file.attributes() == {"text": b"a text" * 100, "number": -7}
    found = file.arrays()
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype.str
        np.testing.assert_array_equal(values(source, found[name]), array)


def test_a_cache_is_read_as_the_library_reads_it(opened):
    data = bytes(encode(make_table()))
    file, source = opened(data)
    with h5py.File(io.BytesIO(data)) as expected:
        assert set(file.arrays()) == set(expected)
        for name, array in file.arrays().items():
            np.testing.assert_array_equal(values(source, array), expected[name][()])
        assert file.attributes() == {
            name: bytes(value) if isinstance(value, bytes) else int(value) for name, value in expected.attrs.items()
        }


def test_names_beyond_one_block_of_the_heap_are_found(opened):
    names = [f"{number:02d}" + "x" * 90 for number in range(45)]  # 4.5 kB: several blocks below an indirect one
    file, source = opened(written(lambda file: [file.__setitem__(name, np.arange(3)) for name in names]))
    found = file.arrays()
    assert sorted(found) == names
    assert all(values(source, array).tolist() == [0, 1, 2] for array in found.values())


def virtual(file):
    layout = h5py.VirtualLayout(shape=(4,), dtype="<i8")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", shape=(4,), dtype="<i8")
    file.create_virtual_dataset("x", layout)


REFUSED = {
    "more datasets": (lambda file: [file.__setitem__(str(number), 1.0) for number in range(60)], "more datasets"),
    "soft link": (lambda file: file.__setitem__("x", h5py.SoftLink("/y")), "x is a link"),
    "external link": (lambda file: file.__setitem__("x", h5py.ExternalLink("/etc/passwd", "/y")), "x is a link"),
    "external storage": (
        lambda file: file.create_dataset("x", (4,), "<i8", external=[("/etc/passwd", 0, 32)]),
        "x is stored outside",
    ),
    "virtual": (virtual, "x is stored outside"),
    "chunked": (lambda file: file.create_dataset("x", data=np.zeros(4), chunks=(2,)), "x is stored"),
    "compressed": (lambda file: file.create_dataset("x", data=np.zeros(4), compression="gzip"), "x is stored"),
    "resizable": (lambda file: file.create_dataset("x", data=np.zeros(4), maxshape=(None,)), "can grow"),
    "group": (lambda file: file.create_group("x"), "x is not a dataset"),
    "empty": (lambda file: file.__setitem__("x", h5py.Empty("f4")), "x must be an array"),
    "string": (lambda file: file.__setitem__("x", "text"), "x must be an array"),
    "compound": (lambda file: file.__setitem__("x", np.zeros(2, [("a", "i4")])), "x must be an array"),
    "boolean": (lambda file: file.__setitem__("x", np.zeros(2, bool)), "x must be an array"),
    "big-endian": (lambda file: file.__setitem__("x", np.zeros(2, ">f4")), "x must be an array"),
    "half": (lambda file: file.__setitem__("x", np.zeros(2, "<f2")), "x must be an array"),
    "named type": (
        lambda file: (file.__setitem__("t", np.dtype("<i4")), file.create_dataset("x", (2,), dtype=file["t"])),
        "shares its type|is not a dataset",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_cache_has_is_refused(opened, name):
    fill, message = REFUSED[name]
    with pytest.raises(CacheError, match=message):
        opened(written(fill))[0].arrays()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89HDF\r\n\x1a\n",
        b"\x89HDF\r\n\x1a\n" + bytes(100),
        b"\x89HDF\r\n\x1a\n\x02\x08\x08\0" + bytes(8) + b"\xff" * 8 + bytes(100),
        written(lambda file: file.__setitem__("x", 1), "earliest"),
        b"text" * 100,
    ],
    ids=["empty", "signature", "zeros", "no root", "old superblock", "text"],
)
def test_what_is_no_such_file_is_refused(opened, data):
    with pytest.raises(CacheError):
        opened(data)[0].arrays()


def test_what_follows_the_end_of_a_file_is_not_looked_at(opened):
    file, source = opened(written(lambda file: file.__setitem__("x", [1, 2])) * 2)
    assert values(source, file.arrays()["x"]).tolist() == [1, 2]


@pytest.mark.parametrize("side", [2**32, 2**63 - 1, 2**63, 2**64 - 1])
def test_an_array_without_values_has_no_long_sides(opened, side):
    data = written(lambda file: file.create_dataset("x", (0, 1280), "<f4"))
    shape = (0).to_bytes(8, "little") + (1280).to_bytes(8, "little")
    assert opened(data)[0].arrays()["x"].shape == (0, 1280)
    with pytest.raises(CacheError, match="x claims sides of"):
        opened(data.replace(shape, shape[:8] + side.to_bytes(8, "little")))[0].arrays()


def test_more_attributes_than_a_cache_has_are_refused(opened):
    data = written(lambda file: [file.attrs.__setitem__(f"a{number}", np.int64(1)) for number in range(20)])
    with pytest.raises(CacheError, match="more attributes"):
        opened(data)[0].attributes()


CACHE = bytes(encode(make_table(n=4, d=3, m=1)))
_INTERESTING = [0, 1, 2, 3, 7, 8, 127, 128, 255, 2**16 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1, len(CACHE)]


@given(
    changes=st.lists(
        st.tuples(
            st.integers(0, len(CACHE) - 8),
            st.one_of(st.sampled_from(_INTERESTING), st.integers(0, len(CACHE)), st.integers(0, 2**64 - 1)),
            st.sampled_from([1, 2, 4, 8]),
        ),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_changed_file_gives_no_other_values_or_errors(tmp_path, changes):
    data = bytearray(CACHE)
    for place, value, width in changes:
        data[place : place + width] = (value % (1 << 8 * width)).to_bytes(width, "little")
    path = tmp_path / "a.h5"
    path.write_bytes(data)
    try:
        shard = Shard.open(path)
        features = np.empty(shard.shape, np.float32)
        shard.read_into(features)
    except CacheError:
        return
    shard.close()
    expected = make_table(n=4, d=3, m=1)
    np.testing.assert_array_equal(features, expected.features)
    assert shard.table.files.paths == expected.files.paths
    assert shard.table.fingerprint == expected.fingerprint
    np.testing.assert_array_equal(shard.table.labels, expected.labels)


def test_a_header_that_continues_into_itself_ends(opened):
    data = bytearray(written(lambda file: file.attrs.__setitem__("text", np.bytes_(b"x" * 200))))
    place = data.index(b"x" * 200)
    root = data.index(b"OHDR")
    message = data.rindex(b"\x0c", root, place)  # the attribute's type becomes "continuation"
    data[message] = 0x10
    data[message + 4 : message + 20] = (message - 4).to_bytes(8, "little") + (300).to_bytes(8, "little")
    data[message - 4 : message] = b"OCHK"
    with pytest.raises(CacheError):
        opened(bytes(data))
