"""Feature caches as their users see them: a file, a folder of shards, or arrays in memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..errors import (
    CacheError,
    FingerprintError,
    LabelsError,
    ParameterError,
    check_choice,
    check_flag,
    check_mapping,
    check_path,
    describe,
    first_line,
    import_optional,
)
from .format import FEATURES, SIGNATURES, Matrix
from .manifest import Manifest
from .metadata import Metadata, text_of, typed
from .names import display
from .shard import Shard
from .shards import StoredMatrix, join_shards, open_generation
from .table import HASH_BYTES, Features, Files, Rows, Signatures, Table


class FeatureCache:
    """Features, labels and paths of a folder of images.

    `open` reads a cache from disk. Everything but features and signatures is read and checked at once;
    these are read, and checked block by block, when first asked for. A cache that is replaced while it is open
    answers from the generation that was opened. `from_arrays`, `select`, `with_labels` and
    `concat` make caches in memory, which `compare`, `tune` and `train` take as well.

    ``cache[rows]`` returns the features of some rows, without reading the others.

    Attributes
    ----------
    path : Path or None
        None for a cache in memory.
    source : Path or None
        ``path``, or that of the cache from which `labelled` has taken the rows.
    class_names : list of str
        Sorted names of the classes.
    labels : ndarray of int32, shape (n,)
        Index into ``class_names`` of every row, -1 for an image without a label. Read-only.
    paths : list of str, length n
        Relative to the image folder, POSIX separators. Bytes that are not UTF-8 are surrogate escapes.
    rejects : list of (str, str)
        Path and reason of every image that could not be embedded.
    fingerprint : dict
        Everything that decides the feature values.
    provenance : dict
        Versions, engine, image folder: how the cache was made, without influence on the values.
    files : Files
        Sizes, modification times and content hashes of the rows.
    unlabelled : int
        Images without a label that `labelled` has left out; 0 for other caches.
    report : ExtractionReport or None
        Result of the extraction that returned this cache; None for other caches.
    table : Table
        The content as it is written to disk.
    shards : sequence of Shard
        The files of the cache: one for a cache of one file, none in memory.

    See Also
    --------
    embedonce.extract_features : Make a cache from a folder of images.
    embedonce.info : Summarize a cache.

    Examples
    --------
    >>> from embedonce import FeatureCache
    >>> cache = FeatureCache.from_arrays([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], ["ash", "birch", "ash"])
    >>> cache
    <FeatureCache (in memory): 3 images x 2 features, 2 classes>
    >>> cache[cache.label_names == "ash"].tolist()
    [[0.0, 1.0], [1.0, 1.0]]
    """

    def __init__(
        self,
        table: Table,
        path: Path | None = None,
        shards: Sequence[Shard] = (),
        generation: Manifest | str | None = None,
    ) -> None:
        self.table = table
        self.path = self.source = path
        self.shards = shards
        self.fingerprint = table.fingerprint
        self.provenance = table.provenance
        self.files = table.files
        self.class_names = [os.fsdecode(name) for name in table.class_names]
        self.labels = _read_only(table.labels)
        self.paths = [os.fsdecode(name) for name in table.files.paths]
        self.rejects = [
            (os.fsdecode(name), reason) for name, reason in zip(table.rejects.paths, table.reasons, strict=True)
        ]
        self.report: Any = None
        self.unlabelled = 0
        self._generation = generation
        self._matrices: dict[Matrix, Rows | StoredMatrix | JoinedFeatures] = {
            matrix: rows if isinstance(rows, StoredMatrix | JoinedFeatures) else _read_only(np.asarray(rows))
            for matrix, rows in table.matrices.items()
        }

    @classmethod
    def open(cls, path: Path | str) -> FeatureCache:
        """Open a cache on disk.

        Parameters
        ----------
        path : path-like
            A file or a folder of shards that ``embedonce extract`` wrote.

        Returns
        -------
        FeatureCache

        Raises
        ------
        DamagedCacheError
            If the content does not match its checksums; the message names the file.
        CacheError
            If there is no feature cache, or one of a later version.

        See Also
        --------
        from_arrays : Make a cache from arrays.

        Examples
        --------
        >>> from embedonce import FeatureCache
        >>> with FeatureCache.open("lung.h5") as cache:  # doctest: +SKIP
        ...     cache.shape
        (15000, 1280)
        """
        place = check_path("path", "FeatureCache.open", path)
        shards, manifest = open_generation(place)
        return cls.of_shards(place, shards, manifest)

    @classmethod
    def of_shards(cls, path: Path, shards: list[Shard], manifest: Manifest | None) -> FeatureCache:
        """Return the cache of shards that are open already; a cache of one file has no manifest."""
        return cls(join_shards(shards, manifest), path, shards, manifest or shards[0].digest)

    @classmethod
    def from_arrays(
        cls,
        features: npt.ArrayLike,
        labels: npt.ArrayLike | None = None,
        class_names: Sequence[str] | None = None,
        paths: Sequence[str] | None = None,
        *,
        metadata: Mapping[str, Sequence[Any]] | None = None,
        signatures: npt.ArrayLike | None = None,
        fingerprint: dict[str, Any] | None = None,
        provenance: dict[str, Any] | None = None,
    ) -> FeatureCache:
        """Make a cache in memory from copies of arrays.

        Parameters
        ----------
        features : array-like of shape (n, d)
            Converted to float32.
        labels : array-like of shape (n,), default=None
            Names of classes, or integers that index ``class_names``, -1 for a row without a label. By default no row
            has a label.
        class_names : sequence of str, default=None
            By default the names, or the integers as text, that occur in ``labels``.
        paths : sequence of str, default=None
            Unique names of the rows. By default the class and the number of the row.
        metadata : mapping of str to sequence of length n, default=None
            Columns about the rows, such as patients. Values are stored as text; None and NaN are missing values.
        signatures : array-like of shape (n, 784), default=None
            Thumbnails of 28 x 28 pixels, uint8, which the search for near-duplicates needs.
        fingerprint : dict, default=None
            Everything that decides the feature values. Only caches with equal fingerprints can be used together.
        provenance : dict, default=None
            How the features were made.

        Returns
        -------
        FeatureCache
            Rows in the given order. The content hash of a row is that of its features, so equal rows count as equal
            images.

        Raises
        ------
        ParameterError
            If shapes or lengths differ, a label has no class, or a path occurs twice.

        See Also
        --------
        select, with_labels, concat

        Examples
        --------
        >>> from embedonce import FeatureCache
        >>> cache = FeatureCache.from_arrays([[0.5], [1.5]], [0, 1], class_names=["ash", "birch"])
        >>> cache.label_names.tolist(), cache.paths
        (['ash', 'birch'], ['ash/0', 'birch/1'])
        """
        rows = _as_array(features, np.float32, "features")
        for name, about in (("fingerprint", fingerprint), ("provenance", provenance)):
            check_mapping(name, "from_arrays", about)
        if rows.ndim != 2:
            raise ParameterError(f"parameter features of from_arrays must have shape (n, d), got {rows.shape}")
        labels = np.full(len(rows), -1) if labels is None else labels
        names, codes = _encode_labels(labels, class_names, len(rows), "from_arrays")
        columns = {
            name: _as_texts(name, values, len(rows))
            for name, values in check_mapping("metadata", "from_arrays", metadata).items()
        }
        paths = None if paths is None else _as_names(paths, "parameter paths of from_arrays")
        if paths is None:
            digits = len(str(max(0, len(rows) - 1)))
            folders = [*(f"{name}/" for name in names), ""]  # -1 is the last
            paths = [f"{folders[code]}{row:0{digits}d}" for row, code in enumerate(codes.tolist())]
        elif len(paths) != len(rows):
            raise ParameterError(f"parameter paths of from_arrays must have {len(rows)} entries, got {len(paths)}")
        _require_unique(list(map(str, paths)), "parameter paths of from_arrays")
        thumbnails = None if signatures is None else _as_array(signatures, np.uint8, "signatures")
        if thumbnails is not None and thumbnails.shape != (len(rows), SIGNATURES.width):
            allowed = (len(rows), SIGNATURES.width)
            raise ParameterError(
                f"parameter signatures of from_arrays must have shape {allowed}, got {thumbnails.shape}"
            )
        digests = b"".join(hashlib.sha256(row.tobytes()).digest() for row in rows)
        zeros = np.zeros(len(rows), np.int64)
        hashes = np.frombuffer(digests, np.uint8).reshape(len(rows), HASH_BYTES)
        return cls(
            Table(
                fingerprint={"source": "arrays", "features": rows.shape[1]} if fingerprint is None else fingerprint,
                provenance={} if provenance is None else provenance,
                class_names=[os.fsencode(name) for name in names],
                files=Files([os.fsencode(str(path)) for path in paths], zeros, zeros, hashes),
                labels=codes,
                features=rows,
                signatures=thumbnails,
                metadata=Metadata.of_columns(columns),
            )
        )

    @classmethod
    def concat(cls, caches: Iterable[FeatureCache]) -> FeatureCache:
        """Join caches of different images into one in memory, rows in the order of the caches.

        Parameters
        ----------
        caches : iterable of FeatureCache
            At least one. Their fingerprints must be equal and their paths unique.

        Returns
        -------
        FeatureCache
            Classes of all caches; signatures if every cache has them; provenance as far as it is equal.

        Raises
        ------
        FingerprintError
            If the features were computed with different options.
        ParameterError
            If there is no cache, or an image is in two of them.

        See Also
        --------
        select : The opposite.

        Examples
        --------
        >>> from embedonce import FeatureCache
        >>> ash = FeatureCache.from_arrays([[0.5]], ["ash"])
        >>> birch = FeatureCache.from_arrays([[1.5]], ["birch"])
        >>> FeatureCache.concat([ash, birch]).class_counts
        {'ash': 1, 'birch': 1}
        """
        parts = list(caches)
        if not parts:
            raise ParameterError("parameter caches of concat must hold at least one cache, got none")
        first = parts[0]
        for part in parts[1:]:
            keys = sorted({*first.fingerprint, *part.fingerprint})
            differing = [key for key in keys if first.fingerprint.get(key) != part.fingerprint.get(key)]
            if differing:
                raise FingerprintError(
                    f"parameter caches of concat must have equal fingerprints, got another {', '.join(differing)} in "
                    f"the cache {part.display_path}"
                )
        _require_unique([path for part in parts for path in part.paths], "parameter caches of concat")
        names = sorted({name for part in parts for name in part.class_names})
        codes = [np.array([*map(names.index, part.class_names), -1], np.int32)[part.labels] for part in parts]
        thumbnails = [part.signatures for part in parts]
        return cls(
            Table(
                fingerprint=first.fingerprint,
                provenance={
                    key: value
                    for key, value in first.provenance.items()
                    if all(part.provenance.get(key) == value for part in parts)
                },
                class_names=[os.fsencode(name) for name in names],
                files=Files.join([part.files for part in parts]),
                labels=np.concatenate(codes),
                features=np.concatenate([part.features for part in parts]),
                rejects=Files.join([part.table.rejects for part in parts]),
                reasons=[reason for part in parts for reason in part.table.reasons],
                signatures=np.concatenate([rows for rows in thumbnails if rows is not None])
                if all(rows is not None for rows in thumbnails)
                else None,
                metadata=Metadata.join([part.table.metadata for part in parts], list(map(len, parts))),
            )
        )

    def select(self, rows: npt.ArrayLike | slice) -> FeatureCache:
        """Return a cache of some rows, in memory, with the classes that occur in them.

        Parameters
        ----------
        rows : slice, or array-like of bool or int
            No row twice.

        Returns
        -------
        FeatureCache
            Rows in the given order; without rejects.

        Raises
        ------
        ParameterError
            If a row occurs twice.
        IndexError
            If a row does not exist.

        See Also
        --------
        concat : Join caches.

        Examples
        --------
        >>> from embedonce import FeatureCache
        >>> cache = FeatureCache.from_arrays([[0.0], [1.0], [2.0]], ["ash", "birch", "ash"])
        >>> cache.select([2, 0]).paths
        ['ash/2', 'ash/0']
        """
        numbers = np.atleast_1d(np.arange(len(self))[_as_index(rows)])
        if len(np.unique(numbers)) < len(numbers):
            raise ParameterError("parameter rows of select must name no row twice, got one that occurs twice")
        class_names, labels = _classes_of(self, numbers)
        return FeatureCache(
            replace(
                self.table,
                class_names=class_names,
                files=self.files.take(numbers),
                labels=labels,
                features=self._rows(numbers, FEATURES),
                rejects=Files(),
                reasons=[],
                signatures=self._rows(numbers, SIGNATURES) if SIGNATURES in self._matrices else None,
                metadata=self.table.metadata.take(numbers),
            )
        )

    def labelled(self, owner: str = "this function") -> FeatureCache:
        """Return the images that have a label: this cache if all have one, otherwise a cache in memory.

        Parameters
        ----------
        owner : str, default="this function"
            The function that needs labels, for the error.

        Returns
        -------
        FeatureCache
            Its attribute ``unlabelled`` counts the images that were left out, ``source`` is the path of this cache.

        Raises
        ------
        LabelsError
            If no image has a label.

        See Also
        --------
        embedonce.label : Add labels to a cache.

        Examples
        --------
        >>> from embedonce import FeatureCache
        >>> cache = FeatureCache.from_arrays([[0.0], [1.0], [2.0]], [0, -1, 1], class_names=["ash", "birch"])
        >>> cache.labelled().paths
        ['ash/0', 'birch/2']
        """
        rows = np.flatnonzero(self.labels >= 0)
        if len(rows) == len(self):
            return self
        if not len(rows):
            raise LabelsError(
                f"{self.display_path} has no labels, which {owner} needs. Add them with: embedonce label CACHE "
                "--labels FILE"
            )
        cache = self.select(rows)
        cache.unlabelled, cache.source = len(self) - len(rows), self.source
        return cache

    def with_labels(self, labels: npt.ArrayLike, class_names: Sequence[str] | None = None) -> FeatureCache:
        """Return a cache in memory of the same images with other labels.

        Parameters
        ----------
        labels : array-like of shape (n,)
            Names of classes, or integers that index ``class_names``, -1 for a row without a label.
        class_names : sequence of str, default=None
            By default the names, or the integers as text, that occur in ``labels``.

        Returns
        -------
        FeatureCache

        Raises
        ------
        ParameterError
            If there are more or fewer labels than rows, or a label has no class.

        See Also
        --------
        select : Choose rows instead.

        Examples
        --------
        >>> from embedonce import FeatureCache
        >>> cache = FeatureCache.from_arrays([[0.0], [1.0]], ["ash", "birch"])
        >>> cache.with_labels(["tree", "tree"]).class_counts
        {'tree': 2}
        """
        names, codes = _encode_labels(labels, class_names, len(self), "with_labels")
        return FeatureCache(
            replace(
                self.table,
                class_names=[os.fsencode(name) for name in names],
                labels=codes,
                features=self.features,
                signatures=self.signatures,
            )
        )

    def to_frame(self, *, features: bool = False, library: Literal["pandas", "polars"] = "pandas") -> Any:
        """Return paths, labels and metadata, and features if asked for, as a data frame.

        Parameters
        ----------
        features : bool, default=False
            Also the columns ``feature_0``, ``feature_1`` and so on.
        library : {"pandas", "polars"}, default="pandas"
            Kind of the frame.

        Returns
        -------
        pandas.DataFrame or polars.DataFrame
            Columns ``path``, ``class_name`` and those of ``metadata``. A column of metadata is int64 or float64 if all
            of its texts are numbers as programs write them, so that 007 stays text.

        Raises
        ------
        MissingPackageError
            If the library is not installed.

        See Also
        --------
        from_arrays : Make a cache from arrays.
        embedonce.convert : Write a cache as Parquet, CSV or NumPy file.

        Examples
        --------
        >>> from embedonce import FeatureCache
        >>> cache = FeatureCache.from_arrays([[0.0], [1.0]], ["ash", "birch"], metadata={"age": [7, 9]})
        >>> cache.to_frame().columns.tolist()  # doctest: +SKIP
        ['path', 'class_name', 'age']
        """
        check_flag("features", "to_frame", features)
        check_choice("library", "to_frame", library, ("pandas", "polars"))
        frame = import_optional(library, "a data frame").DataFrame(self.columns())
        if not features:
            return frame
        if library == "polars":
            return frame.hstack(type(frame)(self.features, schema=self.feature_names))
        return frame.join(type(frame)(self.features, columns=self.feature_names))

    @property
    def feature_names(self) -> list[str]:
        """list of str, length d: names of the features in tables, ``feature_0`` and so on."""
        return [f"feature_{number}" for number in range(self.shape[1])]

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """Return paths, class names and typed metadata by name, as `to_frame` has them."""
        columns: dict[str, Any] = {
            "path": np.array(self.paths, object),
            "class_name": np.array([*self.class_names, None], object)[self.labels],
        }
        for name, texts in self.metadata.items():
            columns[f"{name}_metadata" if name in columns else name] = typed(texts)
        return columns

    @property
    def metadata(self) -> dict[str, npt.NDArray[np.object_]]:
        """Mapping of str to ndarray of str, shape (n,): columns about the images; an empty text is a missing value."""
        return self.table.metadata.columns

    @property
    def features(self) -> Features:
        """ndarray of float32, shape (n, d): the pooled features, checked while they are read. Read-only.

        Raises
        ------
        DamagedCacheError
            If stored values are damaged; the message names the images.
        """
        return self._whole(FEATURES)

    @property
    def signatures(self) -> Signatures | None:
        """ndarray of uint8, shape (n, 784): thumbnails of 28 x 28 pixels, luma, for finding near-duplicates. Read-only.

        None for a cache that was begun by a version without signatures.

        Raises
        ------
        DamagedCacheError
            If stored values are damaged; the message names the images.
        """
        return self._whole(SIGNATURES) if SIGNATURES in self._matrices else None

    @property
    def label_names(self) -> npt.NDArray[np.str_]:
        """ndarray of str, shape (n,): the class name of every row, empty without a label."""
        names: npt.NDArray[np.str_] = np.array([*self.class_names, ""], np.str_)[self.labels]  # -1 is the last
        return names

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and of features per row, without reading the features."""
        return len(self.labels), self._matrices[FEATURES].shape[1]

    @property
    def display_path(self) -> str:
        """The source, printable, or "(in memory)"."""
        return "(in memory)" if self.source is None else display(self.source)

    @property
    def digest(self) -> str | None:
        """Checksum of the whole generation on disk, 32 hexadecimal digits; None in memory."""
        return self._generation.digest if isinstance(self._generation, Manifest) else self._generation

    @property
    def random_weights(self) -> str | None:
        """``random:SEED`` if the features come from random weights, which makes them almost useless; otherwise None."""
        weights = str(self.provenance.get("weights", ""))
        return weights if weights.startswith("random:") else None

    @property
    def class_counts(self) -> dict[str, int]:
        """Number of embedded images per class name."""
        counts = np.bincount(self.labels[self.labels >= 0], minlength=len(self.class_names)).tolist()
        return dict(zip(self.class_names, counts, strict=True))

    def __getitem__(self, rows: int | slice | npt.ArrayLike) -> Features:
        """Return the features of some rows: an int, a slice, or an array of bool or int.

        Rows that are not in memory are read and checked, and not kept. The result is a read-only view, or an array that
        is not part of the cache.
        """
        index = _as_index(rows)
        if np.ndim(index) == 0 and not isinstance(index, slice):
            row: Features = self._rows(np.arange(len(self))[index][None], FEATURES)[0]
            return row
        return self._rows(index, FEATURES)

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        n, d = self.shape
        return f"<FeatureCache {self.display_path}: {n} images x {d} features, {len(self.class_names)} classes>"

    def __enter__(self) -> FeatureCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        # a cache on disk is sent as its path: another process reads the same generation of the file
        if self.path is None:
            return FeatureCache, (self.table,)
        return _open_again, (os.path.abspath(self.path), self.digest)

    def close(self) -> None:
        """Release the files; what was read stays usable."""
        for shard in self.shards:
            shard.close()

    def signatures_of(self, rows: npt.NDArray[np.intp]) -> Signatures | None:
        """Return the signatures of some rows, without reading the others, uint8, shape (m, 784); None without any."""
        return self._rows(rows, SIGNATURES) if SIGNATURES in self._matrices else None

    def _rows(self, rows: npt.NDArray[Any] | slice, matrix: Matrix) -> Rows:
        source = self._matrices[matrix]
        if isinstance(source, np.ndarray):
            return source[rows]
        self._require_open(matrix)
        return source.take(rows)

    def _whole(self, matrix: Matrix) -> Rows:
        """Return a matrix, read when it is first asked for; the last read that needs the files closes them."""
        source = self._matrices[matrix]
        if isinstance(source, np.ndarray):
            return source
        self._require_open(matrix)
        values = self._matrices[matrix] = _read_only(source.read())
        if all(isinstance(rows, np.ndarray) for rows in self._matrices.values()):
            # nothing refers to the files any more, unless another thread is reading
            self.shards = ()
            read: dict[str, Any] = {matrix.name: rows for matrix, rows in self._matrices.items()}
            self.table = replace(self.table, **read)
        return values

    def _require_open(self, matrix: Matrix) -> None:
        if any(shard.closed for shard in self.shards):
            raise CacheError(f"{self.display_path}: the cache was closed before its {matrix.name} were read")


class StoredRows:
    """Some rows of the features of a cache, read in blocks: a `RowSource`."""

    def __init__(self, cache: FeatureCache, rows: npt.NDArray[np.intp]) -> None:
        self._cache = cache
        self._rows = rows
        self.shape = (len(rows), cache.shape[1])

    def read_rows(self, start: int, end: int) -> Features:
        """Return the rows from ``start`` to ``end``; rows near each other are read in one go."""
        return self._cache[self._rows[start:end]]


class JoinedFeatures:
    """Features of the same images in several caches, side by side, read on demand: a `RowSource`.

    Each part is a cache and its row of every image.
    """

    def __init__(self, parts: Sequence[tuple[FeatureCache, npt.NDArray[np.intp]]]) -> None:
        self._parts = parts
        self.shape = (len(parts[0][1]), sum(cache.shape[1] for cache, _ in parts))

    def read_rows(self, start: int, end: int) -> Features:
        """Return the rows from ``start`` to ``end``."""
        return self.take(slice(start, end))

    def take(self, rows: npt.NDArray[Any] | slice) -> Features:
        """Return any rows; the caches do not keep them in memory."""
        return np.concatenate([cache[own[rows]] for cache, own in self._parts], axis=1)

    def read(self) -> Features:
        """Return all rows."""
        return self.take(slice(None))


def unread(cache: FeatureCache) -> FeatureCache:
    """Return the same generation of a cache, without the features that it has read, if its files are still open."""
    return FeatureCache(cache.table, cache.path, cache.shards, cache._generation)


def with_features_of(
    cache: FeatureCache, rows: npt.NDArray[np.intp], parts: Sequence[tuple[FeatureCache, npt.NDArray[np.intp]]]
) -> FeatureCache:
    """Return some images of a cache, without signatures, with the features of ``parts``, which are read on demand.

    A single part gives its fingerprint; those of several are the parts of a new one.
    """
    class_names, labels = _classes_of(cache, rows)
    first, fingerprints = parts[0][0], [part.fingerprint for part, _ in parts]
    made = FeatureCache(
        Table(
            fingerprint=fingerprints[0] if len(parts) == 1 else {"source": "caches", "parts": fingerprints},
            provenance=first.provenance,
            class_names=class_names,
            files=cache.files.take(rows),
            labels=labels,
            features=JoinedFeatures(parts),
            metadata=cache.table.metadata.take(rows),
        )
    )
    made.unlabelled = cache.unlabelled
    made.source = first.source if len(parts) == 1 else None
    return made


def _classes_of(cache: FeatureCache, rows: npt.NDArray[np.intp]) -> tuple[list[bytes], npt.NDArray[np.int32]]:
    """Return the classes that occur in some rows, and the labels of the rows as indices into them."""
    labels = cache.labels[rows]
    present = np.unique(labels[labels >= 0])
    names = [cache.table.class_names[label] for label in present]
    return names, np.where(labels >= 0, np.searchsorted(present, labels), -1).astype(np.int32)


def _open_again(path: str, digest: str) -> FeatureCache:
    """Open a cache that another process has opened, and check that it is the same generation."""
    cache = FeatureCache.open(path)
    if cache.digest != digest:
        cache.close()
        raise CacheError(
            f"{display(path)} has changed since it was opened, so its rows could be mixed up. Open it again"
        )
    return cache


def _read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    view: npt.NDArray[Any] = array.view()
    view.flags.writeable = False
    return view


def _as_index(rows: Any) -> Any:
    """Return rows as a slice or an array; an empty list is one of integers."""
    if isinstance(rows, slice):
        return rows
    index = np.asarray(rows)
    return index if index.size else index.astype(np.intp)


def _encode_labels(
    labels: npt.ArrayLike, class_names: Sequence[str] | None, rows: int, owner: str
) -> tuple[list[str], npt.NDArray[np.int32]]:
    """Return sorted class names, and the index of every label."""
    values = np.asarray(labels)
    if values.shape != (rows,):
        raise ParameterError(f"parameter labels of {owner} must have shape ({rows},), got {values.shape}")
    known = values != -1 if values.dtype.kind == "i" else np.ones(rows, bool)
    present, codes = np.unique(values[known], return_inverse=True)
    listed = present.tolist() if class_names is None else _as_names(class_names, f"parameter class_names of {owner}")
    given = [str(name) for name in listed]
    _require_unique(given, f"parameter class_names of {owner}")
    if class_names is not None and values.dtype.kind in "iu":
        if len(present) and not 0 <= present[0] <= present[-1] < len(given):
            raise ParameterError(f"parameter labels of {owner} must be from 0 to {len(given) - 1}, got {values}")
        present_names = [given[label] for label in present]
    else:
        present_names = [str(label) for label in present.tolist()]
    names = sorted(given)
    position = {name: number for number, name in enumerate(names)}
    unknown = [name for name in present_names if name not in position]
    if unknown:
        raise ParameterError(f"parameter labels of {owner} must be among the class names, got {unknown[0]!r}")
    encoded = np.full(rows, -1, np.int32)
    encoded[known] = np.array([position[name] for name in present_names], np.int32)[codes]
    return names, encoded


def _as_array(values: npt.ArrayLike, dtype: npt.DTypeLike, name: str) -> npt.NDArray[Any]:
    """Return a copy of values as an array."""
    try:
        return np.array(values, dtype, order="C")
    except (TypeError, ValueError, OverflowError) as error:
        raise ParameterError(
            f"parameter {name} of from_arrays must be an array of {np.dtype(dtype).name}, got {describe(values)}: "
            f"{first_line(error)}"
        ) from error


def _as_texts(name: str, values: Any, rows: int) -> list[str]:
    """Return a column of metadata as texts."""
    column = _as_names(values, f"column {name} of parameter metadata of from_arrays")
    if len(column) != rows:
        raise ParameterError(
            f"column {name} of parameter metadata of from_arrays must have {rows} values, got {len(column)}"
        )
    return [text_of(value) for value in column]


def _as_names(names: Any, owner: str) -> list[Any]:
    """Return names as a list."""
    if isinstance(names, str | bytes) or not isinstance(names, Iterable):
        raise ParameterError(f"{owner} must be a list of names, got {describe(names)}")
    return list(names)


def open_cache(cache: Any, owner: str) -> FeatureCache:
    """Return a cache that is given as it is or as a path, or raise ParameterError."""
    if isinstance(cache, FeatureCache):
        return cache
    if not isinstance(cache, str | os.PathLike):
        raise ParameterError(
            f"parameter cache of {owner} must be a FeatureCache or the path of one, got {describe(cache)}. To use "
            "arrays: FeatureCache.from_arrays(features, labels)"
        )
    return FeatureCache.open(check_path("cache", owner, cache))


def _require_unique(names: Sequence[str], owner: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ParameterError(f"{owner} must name everything once, got {display(name)!r} twice")
        seen.add(name)
