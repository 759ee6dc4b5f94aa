"""Reading caches: checked before they are believed, lazily, one whole generation at a time."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import xxhash

from . import format as fmt
from .errors import CacheError, first_line
from .names import display, unpack
from .table import HASH_BYTES, Features, Files, Table


class FeatureCache:
    """The features of a folder of images, as one file holds them.

    Open one with :meth:`open`. Everything but the features is read and checked at once; the features are
    read, and checked block by block, when first asked for. A cache that is replaced while it is open keeps
    answering from the generation that was opened.

    Attributes
    ----------
    path : Path
    class_names : list of str
        Sorted names of the class folders.
    labels : ndarray of int32, shape (n,)
        Index into ``class_names`` of every row.
    paths : list of str, length n
        Relative to the image folder, POSIX separators. Bytes that are not UTF-8 are surrogate escapes.
    rejects : list of (str, str)
        Path and reason of every image that could not be embedded.
    fingerprint : dict
        Everything that decides the feature values.
    provenance : dict
        What made the cache and decides nothing: versions, engine, image folder.
    files, reject_files : Files
        Sizes, modification times and content hashes of the rows and of the rejects.
    """

    def __init__(self, path: Path, table: Table, source: io.FileIO, features: _FeatureRange) -> None:
        self.path = path
        self.class_names = [os.fsdecode(name) for name in table.class_names]
        self.labels = table.labels
        self.paths = [os.fsdecode(name) for name in table.files.paths]
        self.rejects = [
            (os.fsdecode(name), reason) for name, reason in zip(table.rejects.paths, table.reasons, strict=True)
        ]
        self.fingerprint = table.fingerprint
        self.provenance = table.provenance
        self.files = table.files
        self.reject_files = table.rejects
        self._source = source
        self._range = features
        self._features: Features | None = None

    @classmethod
    def open(cls, path: Path | str) -> FeatureCache:
        """Open a cache file.

        Parameters
        ----------
        path : path-like
            A file that ``embedonce extract`` wrote.

        Returns
        -------
        FeatureCache

        Raises
        ------
        CacheError
            When the file is missing, is no feature cache, is of a later version, or is damaged.
        """
        path = Path(path)
        shown = display(str(path))
        try:
            source = io.FileIO(path, "r")
        except OSError as error:
            advice = "; make it with: embedonce extract IMAGES CACHE" if isinstance(error, FileNotFoundError) else ""
            raise CacheError(f"cannot open the cache {shown}: {error.strerror}{advice}") from error
        try:
            try:
                # An open descriptor keeps its generation when the path is replaced; HDF5 takes no lock on it.
                with h5py.File(source, "r") as file:
                    table, features = _read(file, os.fstat(source.fileno()).st_size)
            except CacheError as error:
                raise CacheError(f"{shown}: {error}") from error
            except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
                raise CacheError(
                    f"{shown} is no readable feature cache, or a damaged one: {first_line(error)}"
                ) from error
        except BaseException:
            source.close()
            raise
        return cls(path, table, source, features)

    @property
    def features(self) -> Features:
        """ndarray of float32, shape (n, d): the pooled features, checked while they are read.

        Raises
        ------
        CacheError
            When stored values are damaged; the message names the images.
        """
        if self._features is None:
            if self._source.closed:
                raise CacheError(f"{display(str(self.path))}: the cache was closed before its features were read")
            self._features = self._read_features()
            self._source.close()
        return self._features

    @property
    def label_names(self) -> npt.NDArray[np.str_]:
        """ndarray of str, shape (n,): the class name of every row."""
        return np.array(self.class_names)[self.labels]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features per row, known without reading the features."""
        return self._range.shape

    @property
    def random_weights(self) -> str | None:
        """``random:SEED`` when the features come from random weights and mean little, otherwise None."""
        weights = str(self.provenance.get("weights", ""))
        return weights if weights.startswith("random:") else None

    @property
    def class_counts(self) -> dict[str, int]:
        """Number of embedded images per class name."""
        counts = np.bincount(self.labels, minlength=len(self.class_names)).tolist()
        return dict(zip(self.class_names, counts, strict=True))

    def __len__(self) -> int:
        return self._range.shape[0]

    def __repr__(self) -> str:
        n, d = self.shape
        return f"<FeatureCache {display(str(self.path))}: {n} images x {d} features, {len(self.class_names)} classes>"

    def __enter__(self) -> FeatureCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the file; what was read stays usable."""
        self._source.close()

    def _read_features(self) -> Features:
        shape, rows = self._range.shape, self._range.block_rows
        features = np.empty(shape, dtype="<f4")
        if features.size == 0:
            return features
        data = features.reshape(-1).view(np.uint8).data
        step = shape[1] * features.itemsize * rows
        self._source.seek(self._range.offset)
        damaged: list[int] = []
        # Hashing each block while it is still in the processor's cache costs a tenth of the reading.
        for block, start in enumerate(range(0, len(data), step)):
            part = data[start : start + step]
            _read_fully(self._source, part)
            if xxhash.xxh3_64_intdigest(part) != self._range.block_checksums[block]:
                damaged += range(block * rows, min((block + 1) * rows, shape[0]))
        if damaged:
            wrong = [row for row in damaged if fmt.row_checksums(features[[row]])[0] != self._range.row_checksums[row]]
            names = ", ".join(display(self.paths[row]) for row in wrong[:3]) + (", …" if len(wrong) > 3 else "")
            raise CacheError(
                f"{display(str(self.path))}: the stored features of {len(wrong)} image(s) are damaged ({names}); "
                "delete the cache and run embedonce extract again"
            )
        return features


class _FeatureRange:
    """Where the features stand in the file, and their checksums."""

    def __init__(self, offset: int, shape: tuple[int, int], datasets: dict[str, npt.NDArray[Any]], rows: int) -> None:
        self.offset = offset
        self.shape = shape
        self.block_rows = rows
        self.row_checksums = datasets["row_checksums"]
        self.block_checksums = datasets["block_checksums"].tolist()


def _read_fully(source: io.FileIO, part: memoryview) -> None:
    filled = 0
    while filled < len(part):
        count = source.readinto(part[filled:])
        if not count:
            raise CacheError("the file ends within its features")
        filled += count


def _read(file: h5py.File, file_size: int) -> tuple[Table, _FeatureRange]:
    attributes = {name: _attribute(file, name) for name in file.attrs}
    if attributes.get("format") != fmt.FORMAT.encode():
        raise CacheError("this HDF5 file is not an embedonce feature cache")
    version = attributes.get("format_version")
    if version != fmt.FORMAT_VERSION:
        raise CacheError(
            f"its format version is {version!r}, this embedonce reads {fmt.FORMAT_VERSION}; upgrade embedonce"
        )
    stored = attributes.pop("digest", b"")
    missing = sorted(set(fmt.DATASETS) - set(file))
    if missing:
        raise CacheError(f"damaged: it has no {', '.join(missing)}")
    checked = {name: _checked_dataset(file, name, file_size) for name in file}
    feature_set = checked.pop("features")
    shape = (int(feature_set.shape[0]), int(feature_set.shape[1]))
    datasets = {name: dataset[()] for name, dataset in checked.items()}
    if fmt.digest(attributes, datasets, shape).encode() != stored:
        raise CacheError("damaged: its checksum does not match; delete it and run embedonce extract again")
    table = _table(attributes, datasets)
    block_rows = attributes.get("block_rows")
    n = shape[0]
    if not isinstance(block_rows, int) or block_rows < 1:
        raise CacheError("damaged: block_rows must be a number above 0")
    wanted = {"labels": n, "row_checksums": n, "block_checksums": -(-n // block_rows), "sizes": n, "mtimes": n}
    lengths_fit = all(len(datasets[name]) == length for name, length in wanted.items())
    if not lengths_fit or len(table.files.paths) != n or datasets["hashes"].shape != (n, HASH_BYTES):
        raise CacheError("damaged: its tables differ in length")
    if n and not (table.labels.min() >= 0 and table.labels.max() < len(table.class_names)):
        raise CacheError("damaged: a label has no class name")
    return table, _FeatureRange(feature_set.id.get_offset() or 0, shape, datasets, block_rows)


def _attribute(file: h5py.File, name: str) -> bytes | int:
    value = file.attrs[name]
    if isinstance(value, np.bytes_):
        return bytes(value)
    if isinstance(value, np.int64):
        return int(value)
    raise CacheError(f"its attribute {name} is of a type that no feature cache has")


def _checked_dataset(file: h5py.File, name: str, file_size: int) -> h5py.Dataset:
    """Return a dataset that stands in this very file, plainly; anything else could read foreign files or lie."""
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise CacheError(f"{name} is a link to somewhere else; a feature cache has none")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise CacheError(f"{name} is not a dataset")
    creation = dataset.id.get_create_plist()
    plain = creation.get_layout() == h5py.h5d.CONTIGUOUS and not creation.get_external_count()
    if not plain or creation.get_nfilters():
        raise CacheError(f"{name} is stored outside the file, in pieces or compressed; a feature cache is contiguous")
    dtype, dimensions = fmt.DATASETS.get(name, (dataset.dtype.str, dataset.ndim))
    if dataset.dtype.str != dtype or dataset.ndim != dimensions or dataset.dtype.kind not in "iuf":
        raise CacheError(f"{name} must be {dtype} with {dimensions} dimension(s), got {dataset.dtype} {dataset.shape}")
    offset = dataset.id.get_offset() or 0
    size = int(np.prod([int(length) for length in dataset.shape], dtype=object)) * dataset.dtype.itemsize
    if offset + size > file_size or (size and not offset):
        raise CacheError(f"{name} claims {size} bytes, more than the file has; it is truncated or a forgery")
    return dataset


def _table(attributes: dict[str, bytes | int], datasets: dict[str, npt.NDArray[Any]]) -> Table:
    def strings(name: str) -> list[bytes]:
        return unpack(datasets[f"{name}_bytes"], datasets[f"{name}_offsets"])

    def files(prefix: str) -> Files:
        columns = (datasets[f"{prefix}{name}"] for name in ("sizes", "mtimes", "hashes"))
        return Files(strings(f"{prefix}paths"), *columns)

    texts = {name: attributes[name] for name in ("fingerprint", "provenance")}
    parsed = {name: json.loads(text) for name, text in texts.items() if isinstance(text, bytes)}
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
