"""Reading one cache file: refused unless it is plain, checked before it is believed, features on demand."""

from __future__ import annotations

import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from . import format as fmt
from .errors import CacheError, DamagedCacheError, first_line
from .hdf5 import Hdf5File, StoredArray
from .names import display, unpack
from .table import HASH_BYTES, Features, Files, Table

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MARK_WITHIN = 1 << 16  # the root group's attributes stand at the front of the file
_GATHER_SHARE = 4  # more than this part of the rows, and reading all of them in one go is quicker


class Shard:
    """One cache file, opened: everything but the features has been read and checked.

    The open descriptor keeps its generation when the path is replaced or removed. Threads must not share one.

    Attributes
    ----------
    path : Path
    table : Table
        With an empty feature matrix.
    shape : (int, int)
        Rows and features per row.
    digest : str
        Vouches for the whole file; 32 hexadecimal digits.
    """

    def __init__(self, path: Path, content: _Content, source: io.FileIO) -> None:
        self.path = path
        self.table = content.table
        self.shape = content.shape
        self.digest = content.digest
        self._content = content
        self._source = source

    @classmethod
    def open(cls, path: Path) -> Shard:
        """Open a cache file.

        Raises
        ------
        DamagedCacheError
            When the file is a feature cache whose content does not match its checksums.
        CacheError
            When the file is missing, is no feature cache, or is of a later version.
        """
        shown = display(str(path))
        try:
            source = io.FileIO(path, "r")
        except OSError as error:
            advice = "; make it with: embedonce extract IMAGES CACHE" if isinstance(error, FileNotFoundError) else ""
            raise CacheError(f"cannot open the cache {shown}: {error.strerror}{advice}") from error
        try:
            try:
                content = _read(source, os.fstat(source.fileno()).st_size)
            except _RefusedError as error:
                raise CacheError(f"{shown}: {error}") from error
            except (CacheError, OSError) as error:
                if _is_marked(source):
                    raise DamagedCacheError(f"{shown}: damaged: {first_line(error)}; {fmt.REMEDY}") from error
                raise CacheError(f"{shown} is no readable feature cache: {first_line(error)}") from error
        except BaseException:
            source.close()
            raise
        return cls(path, content, source)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def closed(self) -> bool:
        """Whether the features can no longer be read."""
        return self._source.closed

    def close(self) -> None:
        """Release the file; what was read stays usable."""
        self._source.close()

    def read_into(self, out: Features, places: npt.NDArray[np.intp] | None = None) -> None:
        """Read and check all features.

        Parameters
        ----------
        out : ndarray of float32, shape (N, d), C-contiguous
        places : ndarray of intp, shape (n,), optional
            Row of ``out`` for every row; by default the first n in order.

        Raises
        ------
        DamagedCacheError
            When stored values are damaged; the message names the images.
        """
        self._refuse(self._read_blocks(out, places))

    def damaged_rows(self) -> npt.NDArray[np.intp]:
        """Read everything once and return the rows whose stored features are damaged, in order."""
        return np.array(self._read_blocks(None, None), np.intp)

    def rows(self, rows: npt.ArrayLike) -> Features:
        """Read and check some rows, given by number: float32, shape (len(rows), d).

        Raises
        ------
        DamagedCacheError
            When one of them is damaged.
        """
        wanted = np.asarray(rows, np.intp)
        if len(wanted) * _GATHER_SHARE > len(self):
            features = np.empty(self.shape, "<f4")
            self._refuse(np.intersect1d(self._read_blocks(features, None), wanted).tolist())
            return features[wanted]
        features = np.empty((len(wanted), self.shape[1]), "<f4")
        size = self.shape[1] * features.itemsize
        for place, row in enumerate(wanted.tolist()):
            self._source.seek(self._content.offset + row * size)
            part = memoryview(features[place]).cast("B")
            if not _fill(self._source, part) or xxhash.xxh3_64_intdigest(part) != int(self._content.row_checksums[row]):
                self._refuse([row])
        return features

    def _refuse(self, damaged: list[int]) -> None:
        if damaged:
            names = ", ".join(display(self.table.files.paths[row]) for row in damaged[:3])
            more = ", …" if len(damaged) > 3 else ""
            raise DamagedCacheError(
                f"{display(str(self.path))}: the stored features of {len(damaged)} image(s) are damaged "
                f"({names}{more}); {fmt.REMEDY}"
            )

    def _read_blocks(self, out: Features | None, places: npt.NDArray[np.intp] | None) -> list[int]:
        """Read and check block by block, into ``out`` unless it is None, and return the damaged rows."""
        content, width = self._content, self.shape[1]
        if not len(self) or not width:
            return []
        straight = out is not None and places is None
        buffer = np.empty((0 if straight else min(content.block_rows, len(self)), width), "<f4")
        damaged: list[int] = []
        for block, start in enumerate(range(0, len(self), content.block_rows)):
            end = min(start + content.block_rows, len(self))
            target = out[start:end] if out is not None and straight else buffer[: end - start]
            # A block that the disk refuses to read is damaged as well, so each is sought for itself.
            self._source.seek(content.offset + start * width * 4)
            # Hashing each block while it is still in the processor's cache costs a tenth of the reading.
            data = target.reshape(-1).view(np.uint8).data
            if not _fill(self._source, data):
                damaged += range(start, end)
            elif xxhash.xxh3_64_intdigest(data) != content.block_checksums[block]:
                sums = fmt.row_checksums(target)
                damaged += (start + np.flatnonzero(sums != content.row_checksums[start:end])).tolist()
            if out is not None and places is not None:
                out[places[start:end]] = target
        return damaged


@dataclass(frozen=True)
class _Content:
    table: Table
    digest: str
    offset: int
    shape: tuple[int, int]
    block_rows: int
    row_checksums: npt.NDArray[np.uint64]
    block_checksums: list[int]


def _is_marked(source: io.FileIO) -> bool:
    """Return whether a file that cannot be read was once a feature cache, by its first bytes."""
    try:
        source.seek(0)
        start = source.read(_MARK_WITHIN)
    except OSError:
        return False
    return start.startswith(_HDF5_SIGNATURE) and fmt.FORMAT.encode() in start


class _RefusedError(CacheError):
    """The file is whole, but not what this reader takes; repairing it would be wrong."""


def _read(source: io.FileIO, size: int) -> _Content:
    file = Hdf5File(source, size)
    attributes = file.attributes()
    if attributes.get("format") != fmt.FORMAT.encode():
        raise CacheError("it is not an embedonce feature cache")
    version = attributes.get("format_version")
    if version != fmt.FORMAT_VERSION:
        raise _RefusedError(
            f"its format version is {version!r}, this embedonce reads {fmt.FORMAT_VERSION}; upgrade embedonce"
        )
    stored = attributes.pop("digest", b"")
    arrays = file.arrays()
    missing = sorted(set(fmt.DATASETS) - set(arrays))
    if missing:
        raise CacheError(f"it has no {', '.join(missing)}")
    for name, (dtype, dimensions) in fmt.DATASETS.items():
        found = arrays[name]
        if found.dtype != dtype or len(found.shape) != dimensions:
            raise CacheError(f"{name} must be {dtype} with {dimensions} dimension(s), got {found.dtype} {found.shape}")
    features = arrays.pop("features")
    shape = (features.shape[0], features.shape[1])
    datasets = {name: _load(source, array) for name, array in arrays.items()}
    digest = fmt.digest(attributes, datasets, shape)
    if digest.encode() != stored:
        raise CacheError("its checksum does not match")
    try:
        table = _table(attributes, datasets)
    except (ValueError, RecursionError) as error:
        raise _RefusedError(f"{first_line(error)}; a writer made a mistake, or it is a forgery") from error
    block_rows = attributes.get("block_rows")
    if not isinstance(block_rows, int) or block_rows < 1:
        raise _RefusedError("its block_rows must be a number above 0; a writer made a mistake, or it is a forgery")
    _check_lengths(table, datasets, shape[0], block_rows)
    blocks: list[int] = datasets["block_checksums"].tolist()
    return _Content(table, digest, features.offset, shape, block_rows, datasets["row_checksums"], blocks)


def _load(source: io.FileIO, array: StoredArray) -> npt.NDArray[Any]:
    values = np.empty(array.shape, array.dtype)
    source.seek(array.offset if array.size else 0)
    if not _fill(source, values.reshape(-1).view(np.uint8).data):
        raise CacheError("the file cannot be read to its end")
    return values


def _fill(source: io.FileIO, part: memoryview) -> bool:
    """Fill a buffer from where the file stands; False when the disk fails or the file ends."""
    filled = 0
    try:
        while filled < len(part):
            count = source.readinto(part[filled:])
            if not count:
                return False
            filled += count
    except OSError:
        return False
    return True


def _check_lengths(table: Table, datasets: dict[str, npt.NDArray[Any]], n: int, block_rows: int) -> None:
    m = len(table.rejects.paths)
    wanted = {"labels": n, "row_checksums": n, "block_checksums": -(-n // block_rows), "sizes": n, "mtimes": n}
    wanted |= {"rejects_sizes": m, "rejects_mtimes": m}
    fit = all(len(datasets[name]) == length for name, length in wanted.items())
    fit = fit and datasets["hashes"].shape == (n, HASH_BYTES) and datasets["rejects_hashes"].shape == (m, HASH_BYTES)
    if not fit or len(table.files.paths) != n or len(table.reasons) != m:
        raise _RefusedError("its tables differ in length; a writer made a mistake, or it is a forgery")
    if n and not (table.labels.min() >= 0 and table.labels.max() < len(table.class_names)):
        raise _RefusedError("a label has no class name; a writer made a mistake, or it is a forgery")


def _table(attributes: dict[str, bytes | int], datasets: dict[str, npt.NDArray[Any]]) -> Table:
    def strings(name: str) -> list[bytes]:
        return unpack(datasets[f"{name}_bytes"], datasets[f"{name}_offsets"])

    def files(prefix: str) -> Files:
        columns = (datasets[f"{prefix}{name}"] for name in ("sizes", "mtimes", "hashes"))
        return Files(strings(f"{prefix}paths"), *columns)

    texts = {name: attributes.get(name) for name in ("fingerprint", "provenance")}
    parsed = {name: json.loads(text) for name, text in texts.items() if isinstance(text, bytes)}
    if not all(isinstance(parsed.get(name), dict) for name in texts):
        raise ValueError("its fingerprint and provenance must be JSON objects")
    return Table(
        fingerprint=parsed["fingerprint"],
        provenance=parsed["provenance"],
        class_names=strings("class_names"),
        files=files(""),
        labels=datasets["labels"],
        features=np.zeros((0, 0), np.float32),  # read on demand
        rejects=files("rejects_"),
        reasons=[reason.decode("utf-8", "replace") for reason in strings("rejects_reasons")],
    )
