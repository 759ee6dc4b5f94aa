"""The rows of a cache in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .format import FEATURES, SIGNATURES, Matrix
from .metadata import Metadata

Features = npt.NDArray[np.float32]
Signatures = npt.NDArray[np.uint8]
Rows = npt.NDArray[Any]
"""Some rows of a matrix."""

HASH_BYTES = 32
"""Length of a content hash: SHA-256 of the image file."""

FACT_BYTES = 35
"""Length of what a row knows of its file besides its size, as docs/FORMAT.md defines it."""

FILE_COLUMNS = ("sizes", "mtimes", "hashes", "oddities", "facts")


class RowSource(Protocol):
    """A matrix that is not in memory and is read in blocks of rows."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""

    def read_rows(self, start: int, end: int) -> Rows:
        """Return the rows from ``start`` to ``end``."""


def row_blocks(source: Rows | RowSource, rows: int) -> Iterator[Rows]:
    """Yield a matrix in blocks of ``rows`` rows, the last one shorter; blocks of an array are views of it."""
    for start in range(0, source.shape[0], rows):
        end = min(start + rows, source.shape[0])
        yield source[start:end] if isinstance(source, np.ndarray) else source.read_rows(start, end)


@dataclass
class Files:
    """Paths in the image folder, sizes in bytes, modification times (ns since 1970) and SHA-256 of image files.

    The `hashes` (n, 32) of a file that could not be read are zeros. `oddities` (n,) are bits, by which pixels may be
    others than the user thinks; 0 by default. `facts` (n, 35) are how the file was made, and the mean colour; zeros if
    they are not known.
    """

    paths: list[bytes] = field(default_factory=list)
    sizes: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    mtimes: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    hashes: npt.NDArray[np.uint8] = field(default_factory=lambda: np.zeros((0, HASH_BYTES), np.uint8))
    oddities: npt.NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, np.uint8))
    facts: npt.NDArray[np.uint8] = field(default_factory=lambda: np.zeros((0, FACT_BYTES), np.uint8))

    def __post_init__(self) -> None:
        if not len(self.oddities):
            self.oddities = np.zeros(len(self.paths), np.uint8)
        if not len(self.facts):
            self.facts = np.zeros((len(self.paths), FACT_BYTES), np.uint8)

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: npt.NDArray[np.intp]) -> Files:
        """Return some rows, in their order."""
        columns = (getattr(self, name)[rows] for name in FILE_COLUMNS)
        return Files([self.paths[row] for row in rows], *columns)

    @classmethod
    def join(cls, parts: Sequence[Files]) -> Files:
        """Return the rows of all parts, one part after the other."""
        parts = [cls(), *parts]
        columns = (np.concatenate([getattr(part, name) for part in parts]) for name in FILE_COLUMNS)
        return cls([path for part in parts for path in part.paths], *columns)


@dataclass
class Table:
    """Content of a cache: n embedded images with d features, and m rejects with reasons.

    `labels` (n,) index into sorted `class_names`, -1 without a label. `features` (n, d) and
    `signatures` (n, 784) are arrays or sources; `signatures` is None unless every row has one.
    """

    fingerprint: dict[str, Any]
    provenance: dict[str, Any]
    class_names: list[bytes]
    files: Files
    labels: npt.NDArray[np.int32]
    features: Features | RowSource
    rejects: Files = field(default_factory=Files)
    reasons: list[str] = field(default_factory=list)
    signatures: Signatures | RowSource | None = None
    metadata: Metadata = field(default_factory=Metadata)

    @property
    def format_version(self) -> int:
        """The version of the format that the table is written in: the lowest that can hold it."""
        if self.metadata.names or bool((self.labels < 0).any()):
            return 3
        return 1 if self.signatures is None else 2

    @property
    def matrices(self) -> dict[Matrix, Rows | RowSource]:
        """Features and, if there are any, signatures."""
        return {FEATURES: self.features} | ({} if self.signatures is None else {SIGNATURES: self.signatures})

    def blocks(self, matrix: Matrix, rows: int) -> Iterator[Rows]:
        """Yield a matrix in C-contiguous blocks of ``rows`` rows, the last one shorter."""
        for part in row_blocks(self.matrices[matrix], rows):
            yield np.ascontiguousarray(part, dtype=matrix.dtype)
