"""Assembly of the tables that a run writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ..cache import FEATURES, HASH_BYTES, SIGNATURES, Files, Matrix, Rows, RowSource, Table
from .embed import EmbedResult
from .labels import Labels
from .plan import Inventory, LazyRows, StoredImage
from .scan import ImageFile


@dataclass
class Assembler:
    """Makes the tables of one run; those of results have no labels, which may change until the run ends."""

    inventory: Inventory
    fingerprint: dict[str, Any]
    provenance: dict[str, Any]
    labels: Labels = field(default_factory=Labels)

    @cached_property
    def class_names(self) -> list[bytes]:
        """Sorted names of the classes."""
        return self.labels.class_names

    def table_of_results(self, results: list[EmbedResult]) -> Table:
        """Return the table of images that were just embedded, copied or rejected."""
        rows = [item for item in results if not item.reason]
        copied = [item.copy_of for item in rows if item.copy_of is not None]

        def read(matrix: Matrix) -> Rows:
            copies = iter(self.inventory.gather(copied, matrix))
            computed = [item.features if matrix == FEATURES else item.signature for item in rows]
            values = [next(copies) if values is None else values for values in computed]
            return np.stack(values) if values else np.zeros((0, matrix.width), matrix.dtype)

        facts = iter(self.inventory.facts(copied))
        return self._table(
            [(item.image, item.digest, item.flags) for item in rows],
            np.stack([next(facts) if item.facts is None else item.facts for item in rows]) if rows else None,
            [(item.image, item.digest, item.reason) for item in results if item.reason],
            read,
            self.inventory.has_signatures(copied),
        )

    def table_of_stored(self, items: list[StoredImage]) -> Table:
        """Return the table of images of the inventory, in the order given."""
        rows = [item for item in items if item.row >= 0]
        return self._table(
            [(item.image, item.digest, item.oddities) for item in rows],
            self.inventory.facts(rows),
            [(item.image, item.digest, item.reason) for item in items if item.row < 0],
            lambda matrix: LazyRows(self.inventory, rows, matrix),
            self.inventory.has_signatures(rows),
            self.labels,
        )

    def _table(
        self,
        rows: list[tuple[ImageFile, bytes, int]],
        facts: npt.NDArray[np.uint8] | None,
        rejects: list[tuple[ImageFile, bytes, str]],
        read: Callable[[Matrix], Rows | RowSource],
        has_signatures: bool,
        labels: Labels | None = None,
    ) -> Table:
        labels, class_names = (Labels(), []) if labels is None else (labels, self.class_names)
        files = _files(rows)
        files = files if facts is None else replace(files, facts=facts)
        return Table(
            self.fingerprint,
            self.provenance,
            class_names,
            files,
            labels.codes(files.paths, class_names),
            read(FEATURES),
            _files([(image, digest, 0) for image, digest, _ in rejects]),
            [reason for _, _, reason in rejects],
            read(SIGNATURES) if has_signatures else None,
            labels.metadata(files.paths),
        )


def _files(items: list[tuple[ImageFile, bytes, int]]) -> Files:
    hashes = np.frombuffer(b"".join(digest for _, digest, _ in items), np.uint8).reshape(-1, HASH_BYTES)
    return Files(
        [image.path for image, _, _ in items],
        np.array([image.size for image, _, _ in items], np.int64),
        np.array([image.mtime for image, _, _ in items], np.int64),
        hashes,
        np.array([oddities for _, _, oddities in items], np.uint8),
    )
