from __future__ import annotations

import hashlib
import io
import json
import os
import weakref
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from cache_tables import make_table, take
from embedonce.cache import FACT_BYTES, FeatureCache, writer
from embedonce.cache import format as fmt
from embedonce.cache.writer import encode, write_cache
from embedonce.errors import CacheError, DamagedCacheError, OutputError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ARCHIVED = Path(__file__).parents[1] / "data"


@given(n=st.integers(0, 200), d=st.integers(1, 9), m=st.integers(0, 3), seed=st.integers(0, 9))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read_back(tmp_path, n, d, m, seed):
    table = make_table(n, d, m, seed, signatures=seed % 2 == 0)
    write_cache(table, tmp_path / "a.h5")
    with FeatureCache.open(tmp_path / "a.h5") as cache:
        assert cache.shape == (n, d) == (len(cache), d)
        np.testing.assert_array_equal(cache.features, table.features)
        assert cache.features.dtype == np.float32
        np.testing.assert_array_equal(cache.signatures, table.signatures)
        np.testing.assert_array_equal(cache.labels, table.labels)
        assert [path.encode() for path in cache.paths] == table.files.paths
        assert [reason for _, reason in cache.rejects] == table.reasons
        np.testing.assert_array_equal(cache.files.hashes, table.files.hashes)
        np.testing.assert_array_equal(cache.files.mtimes, table.files.mtimes)
        assert cache.fingerprint == table.fingerprint
        assert cache.provenance == table.provenance


def test_a_cache_without_rows_and_classes_has_label_names(tmp_path):
    write_cache(replace(make_table(0), class_names=[]), tmp_path / "a.h5")
    names = FeatureCache.open(tmp_path / "a.h5").label_names
    assert (names.shape, names.dtype.kind) == ((0,), "U")


def test_images_without_a_feature_are_neither_written_nor_read(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"Table\.features must have at least one column for 70 files"):
        write_cache(make_table(70, d=0), tmp_path / "a.h5")
    monkeypatch.setattr(writer, "_check", lambda table: None)
    write_cache(make_table(70, d=0), tmp_path / "a.h5")
    with pytest.raises(CacheError, match="a writer made a mistake, or it is a forgery"):
        FeatureCache.open(tmp_path / "a.h5")


def test_equal_tables_give_equal_bytes():
    assert bytes(encode(make_table())) == bytes(encode(make_table()))


class Elsewhere:
    """Rows that are not in memory, and how many were asked for at a time."""

    def __init__(self, rows):
        self.shape = rows.shape
        self._rows = rows
        self.most = 0

    def read_rows(self, start, end):
        self.most = max(self.most, end - start)
        return self._rows[start:end]


@pytest.mark.parametrize("n", [0, 1, 2, 64, 128, 130])
def test_streamed_matrices_give_equal_bytes_in_blocks(monkeypatch, n):
    table = make_table(n=n)
    whole = bytes(encode(table))
    monkeypatch.setattr(writer, "STREAM_ROWS", 64)
    assert bytes(encode(table)) == whole
    streamed = replace(table, features=Elsewhere(table.features), signatures=Elsewhere(table.signatures))
    assert bytes(encode(streamed)) == whole
    assert max(streamed.features.most, streamed.signatures.most) <= 64


def test_when_rows_cannot_be_read_the_old_file_stays(tmp_path, monkeypatch):
    write_cache(make_table(seed=1), tmp_path / "a.h5")
    before = (tmp_path / "a.h5").read_bytes()
    table = make_table()

    class Failing(Elsewhere):
        calls = 0

        def read_rows(self, start, end):
            self.calls += 1
            if self.calls == 5:  # the first pass is done, the file is half written
                raise DamagedCacheError("the disk has gone bad")
            return super().read_rows(start, end)

    monkeypatch.setattr(writer, "STREAM_ROWS", 64)
    for name in ("features", "signatures"):
        with pytest.raises(DamagedCacheError, match="gone bad"):
            write_cache(replace(table, **{name: Failing(getattr(table, name))}), tmp_path / "a.h5")
    assert (tmp_path / "a.h5").read_bytes() == before
    assert os.listdir(tmp_path) == ["a.h5"]


def test_a_name_that_is_not_utf8_survives(tmp_path):
    table = make_table(2)
    table.files.paths = [b"caf\xe9/\xff\n.png", "café/x.png".encode()]
    table.class_names = [b"caf\xe9", "café".encode()]
    write_cache(table, tmp_path / "a.h5")
    cache = FeatureCache.open(tmp_path / "a.h5")
    assert [path.encode("utf-8", "surrogateescape") for path in cache.paths] == table.files.paths
    assert [name.encode("utf-8", "surrogateescape") for name in cache.class_names] == table.class_names


@pytest.mark.parametrize("signatures", [False, True])
def test_flipped_bytes_are_noticed_or_harmless(tmp_path, signatures):
    """No byte of the file can change what is read without an error; the tests of durability flip every one."""
    table = make_table(n=70, d=3, m=1, signatures=signatures)
    if signatures:
        table = take(table, range(3), [0])
    intact = bytearray(bytes(encode(table)))
    path = tmp_path / "a.h5"
    silent = []
    for position in range(0, len(intact), 17):
        damaged = intact.copy()
        damaged[position] ^= 1 << (position % 8)
        path.write_bytes(damaged)
        try:
            cache = FeatureCache.open(path)
            same = (
                np.array_equal(cache.features, table.features)
                and np.array_equal(cache.signatures, table.signatures)
                and np.array_equal(cache.labels, table.labels)
                and [name.encode() for name in cache.paths] == table.files.paths
                and cache.fingerprint == table.fingerprint
                and np.array_equal(cache.files.hashes, table.files.hashes)
                and np.array_equal(cache.files.sizes, table.files.sizes)
            )
        except CacheError:
            continue
        if not same:
            silent.append(position)
    assert not silent


@pytest.mark.parametrize("length", [0, 1, 100, 2000, -1])
def test_a_truncated_file_is_refused(tmp_path, length):
    data = bytes(encode(make_table()))
    (tmp_path / "a.h5").write_bytes(data[:length])
    with pytest.raises(CacheError, match=r"a\.h5"):
        _ = FeatureCache.open(tmp_path / "a.h5").features


@pytest.mark.parametrize("name", ["features", "signatures"])
def test_damaged_rows_are_named_by_image(tmp_path, name):
    table = make_table(n=200, d=5)
    data = bytearray(bytes(encode(table)))
    data[bytes(data).index(getattr(table, name)[150].tobytes())] ^= 1
    (tmp_path / "a.h5").write_bytes(data)
    cache = FeatureCache.open(tmp_path / "a.h5")
    with pytest.raises(DamagedCacheError, match=rf"stored {name} of 1 image are damaged \(class0/0150\.jpg\)"):
        getattr(cache, name)
    other = "features" if name == "signatures" else "signatures"
    np.testing.assert_array_equal(getattr(cache, other), getattr(table, other))


def test_a_file_without_signatures_is_of_version_1(tmp_path):
    write_cache(make_table(signatures=False), tmp_path / "a.h5")
    write_cache(make_table(), tmp_path / "b.h5")
    with h5py.File(tmp_path / "a.h5") as one, h5py.File(tmp_path / "b.h5") as two:
        assert (one.attrs["format_version"], two.attrs["format_version"]) == (1, 2)
        assert {*two} - {*one} == {"signatures", "signature_row_checksums", "signature_block_checksums"}
    assert FeatureCache.open(tmp_path / "a.h5").signatures is None
    assert FeatureCache.open(tmp_path / "b.h5").signatures.shape == (130, 784)


def test_matrices_are_read_in_any_order_from_one_generation(tmp_path):
    for names in (("features", "signatures"), ("signatures", "features")):
        table = make_table()
        write_cache(table, tmp_path / "a.h5")
        cache = FeatureCache.open(tmp_path / "a.h5")
        (shard,) = map(weakref.ref, cache.shards)
        first = getattr(cache, names[0])
        write_cache(make_table(seed=1), tmp_path / "a.h5")
        np.testing.assert_array_equal(first, getattr(table, names[0]))
        np.testing.assert_array_equal(getattr(cache, names[1]), getattr(table, names[1]))
        assert shard() is None  # and the file is closed


def test_an_open_cache_keeps_its_generation(tmp_path):
    path = tmp_path / "a.h5"
    write_cache(make_table(seed=1), path)
    old = FeatureCache.open(path)
    write_cache(make_table(n=5, seed=2), path)
    np.testing.assert_array_equal(old.features, make_table(seed=1).features)
    assert len(FeatureCache.open(path)) == 5


def test_features_of_a_closed_cache_are_refused(tmp_path):
    write_cache(make_table(), tmp_path / "a.h5")
    with FeatureCache.open(tmp_path / "a.h5") as cache:
        pass
    with pytest.raises(CacheError, match="closed before"):
        _ = cache.features


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(CacheError, match=r"No such file.*embedonce extract IMAGES CACHE"):
        FeatureCache.open(tmp_path / "none.h5")


def test_a_foreign_file_is_refused(tmp_path):
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(CacheError, match="not a readable feature cache"):
        FeatureCache.open(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = [1, 2]
    with pytest.raises(CacheError, match="other.h5 is not a readable feature cache"):
        FeatureCache.open(tmp_path / "other.h5")


def test_a_later_format_version_is_refused_with_advice(tmp_path):
    path = tmp_path / "a.h5"
    write_cache(make_table(), path)
    with h5py.File(path, "a") as file:
        file.attrs["format_version"] = np.int64(99)
    with pytest.raises(CacheError, match="version is 99.*Upgrade embedonce"):
        FeatureCache.open(path)


def test_additional_datasets_are_ignored_but_checked(tmp_path, monkeypatch):
    """Additions of a later version do not stop this one."""
    original = writer._datasets

    def with_colours(table):
        return original(table) | {"colours": np.arange(12, dtype="<f4").reshape(4, 3)}

    monkeypatch.setattr(writer, "_datasets", with_colours)
    data = bytearray(bytes(encode(make_table(n=4))))
    (tmp_path / "a.h5").write_bytes(data)
    np.testing.assert_array_equal(FeatureCache.open(tmp_path / "a.h5").features, make_table(n=4).features)
    place = bytes(data).index(np.arange(12, dtype="<f4").tobytes())
    data[place + 5] ^= 1
    (tmp_path / "a.h5").write_bytes(data)
    with pytest.raises(CacheError, match="checksum"):
        FeatureCache.open(tmp_path / "a.h5")


def _rewritten(name, put):
    """Return the bytes of a cache whose dataset ``name`` was replaced by what ``put`` makes."""
    buffer = io.BytesIO(bytes(encode(make_table(n=4))))
    with h5py.File(buffer, "r+", libver="v108") as file:
        del file[name]
        put(file)
    return buffer.getvalue()


def test_links_external_virtual_and_compressed_are_refused(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(range(200)))
    layout = h5py.VirtualLayout(shape=(4,), dtype="<i8")
    hostile = {
        "external link": lambda file: file.__setitem__("sizes", h5py.ExternalLink("secret", "/x")),
        "soft link": lambda file: file.__setitem__("sizes", h5py.SoftLink("/mtimes")),
        "external storage": lambda file: file.create_dataset(
            "sizes", shape=(4,), dtype="<i8", external=[(str(secret), 0, 32)]
        ),
        "virtual": lambda file: file.create_virtual_dataset("sizes", layout),
        "compressed": lambda file: file.create_dataset("sizes", data=np.zeros(4, "<i8"), compression="gzip"),
        "chunked": lambda file: file.create_dataset("sizes", data=np.zeros(4, "<i8"), chunks=(2,)),
        "wrong type": lambda file: file.create_dataset("sizes", data=np.zeros(4, "<i4")),
        "group": lambda file: file.create_group("sizes"),
    }
    for name, put in hostile.items():
        (tmp_path / "a.h5").write_bytes(_rewritten("sizes", put))
        with pytest.raises(CacheError, match="sizes"):
            FeatureCache.open(tmp_path / "a.h5")
            pytest.fail(f"{name} was read")


def test_a_file_that_claims_more_than_it_has_is_refused_at_once(tmp_path):
    def claim(file):
        create = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        create.set_layout(h5py.h5d.CONTIGUOUS)
        create.set_alloc_time(h5py.h5d.ALLOC_TIME_LATE)
        space = h5py.h5s.create_simple((10**9, 1280))
        h5py.h5d.create(file.id, b"features", h5py.h5t.IEEE_F32LE, space, create)

    data = _rewritten("features", claim)
    assert len(data) < 1_000_000
    (tmp_path / "a.h5").write_bytes(data)
    with pytest.raises(CacheError, match="claims 5120000000000 bytes"):
        FeatureCache.open(tmp_path / "a.h5")


def test_many_names_of_one_dataset_do_not_fill_the_memory(tmp_path):
    buffer = io.BytesIO(bytes(encode(make_table(n=4))))
    with h5py.File(buffer, "r+", libver="v108") as file:
        file["large"] = np.zeros(100_000)
        for number in range(20):
            file[f"again{number}"] = file["large"]
    (tmp_path / "a.h5").write_bytes(buffer.getvalue())
    with pytest.raises(CacheError, match=r"its datasets claim more than the \d+ bytes of the file"):
        FeatureCache.open(tmp_path / "a.h5")


@pytest.mark.parametrize(
    "value",
    [
        "a string of variable length",
        np.array([b"a", b"b"]),
        np.float64(1),
        np.array([1, 2]),
        h5py.Empty("i8"),
        np.zeros(1, [("a", "i4")]),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["fingerprint", "other"])
def test_attributes_of_other_types_are_refused_unread(tmp_path, name, value):
    buffer = io.BytesIO(bytes(encode(make_table(n=4))))
    with h5py.File(buffer, "r+", libver="v108") as file:
        file.attrs[name] = value
    (tmp_path / "a.h5").write_bytes(buffer.getvalue())
    with pytest.raises(CacheError, match=f"its attribute {name} is of a type that no feature cache has"):
        FeatureCache.open(tmp_path / "a.h5")


@pytest.mark.parametrize("name", sorted(fmt.datasets(2)))
def test_a_missing_dataset_is_named(tmp_path, name):
    (tmp_path / "a.h5").write_bytes(_rewritten(name, lambda file: None))
    with pytest.raises(CacheError, match=name):
        FeatureCache.open(tmp_path / "a.h5")


@pytest.mark.parametrize(
    "path",
    sorted((*ARCHIVED.glob("cache-v*.h5"), *ARCHIVED.glob("cache-v*.cache"))),
    ids=lambda path: path.name,
)
def test_archived_files_of_every_version_are_read(path):
    about = path.with_suffix(".json") if path.is_file() else path.with_suffix(".cache.json")
    expected = json.loads(about.read_text())
    cache = FeatureCache.open(path)
    assert cache.class_names == expected["class_names"]
    assert cache.paths == expected["paths"]
    assert [list(row) for row in cache.rejects] == expected["rejects"]
    assert cache.labels.tolist() == expected["labels"]
    assert cache.fingerprint == expected["fingerprint"]
    np.testing.assert_array_equal(cache.features, np.array(expected["features"], np.float32))
    signatures = None if cache.signatures is None else [hashlib.sha256(row).hexdigest() for row in cache.signatures]
    assert signatures == expected.get("signatures_sha256")
    assert {name: column.tolist() for name, column in cache.metadata.items()} == expected.get("metadata", {})
    facts = [row.tobytes().hex() for row in cache.files.facts]
    assert facts == expected.get("facts", ["00" * FACT_BYTES] * len(cache))


def test_there_is_an_archived_file_of_this_version():
    assert (ARCHIVED / f"cache-v{fmt.FORMAT_VERSION}.h5").is_file()
    assert (ARCHIVED / f"cache-v{fmt.FORMAT_VERSION}.cache" / "manifest.json").is_file()


def test_what_our_reader_would_refuse_is_not_published(tmp_path, monkeypatch):
    """Another HDF5 may some day lay files out in another way; then nothing is written rather than lost."""

    def add_in_pieces(file, name, array):
        file.create_dataset(name, data=array, chunks=True)

    monkeypatch.setattr(writer, "_add", add_in_pieces)
    with pytest.raises(OutputError, match=r"h5py [0-9.]+ makes a file that embedonce cannot read \(.* in pieces"):
        write_cache(make_table(), tmp_path / "a.h5")
    assert not list(tmp_path.iterdir())


def test_a_table_whose_parts_do_not_fit_together_is_not_written(tmp_path):
    for name in ("labels", "features", "signatures"):
        table = make_table()
        setattr(table, name, getattr(table, name)[:-1])
        with pytest.raises(ValueError, match=name):
            write_cache(table, tmp_path / "a.h5")
    with pytest.raises(ValueError, match=r"signatures must have shape \(n, 784\)"):
        write_cache(replace(make_table(), signatures=np.zeros((130, 783), np.uint8)), tmp_path / "a.h5")
    assert not list(tmp_path.iterdir())
