"""Assembly of the tables that a run writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..cache import FEATURES, HASH_BYTES, SIGNATURES, Files, Matrix, Rows, RowSource, Table
from .embed import EmbedResult
from .plan import Inventory, LazyRows, StoredImage
from .scan import ImageFile


@dataclass
class Assembler:
    """Makes the tables of one run; ``class_names`` are sorted."""

    inventory: Inventory
    fingerprint: dict[str, Any]
    provenance: dict[str, Any]
    class_names: list[bytes]

    def table_of_results(self, results: list[EmbedResult]) -> Table:
        """Return the table of images that were just embedded, copied or rejected."""
        rows = [item for item in results if not item.reason]
        copied = [item.copy_of for item in rows if item.copy_of is not None]

        def read(matrix: Matrix) -> Rows:
            copies = iter(self.inventory.gather(copied, matrix))
            computed = [item.features if matrix == FEATURES else item.signature for item in rows]
            values = [next(copies) if values is None else values for values in computed]
            return np.stack(values) if values else np.zeros((0, matrix.width), matrix.dtype)

        return self._table(
            [(item.image, item.digest) for item in rows],
            [(item.image, item.digest, item.reason) for item in results if item.reason],
            read,
            self.inventory.has_signatures(copied),
        )

    def table_of_stored(self, items: list[StoredImage]) -> Table:
        """Return the table of images of the inventory, in the order given."""
        rows = [item for item in items if item.row >= 0]
        return self._table(
            [(item.image, item.digest) for item in rows],
            [(item.image, item.digest, item.reason) for item in items if item.row < 0],
            lambda matrix: LazyRows(self.inventory, rows, matrix),
            self.inventory.has_signatures(rows),
        )

    def _table(
        self,
        rows: list[tuple[ImageFile, bytes]],
        rejects: list[tuple[ImageFile, bytes, str]],
        read: Callable[[Matrix], Rows | RowSource],
        has_signatures: bool,
    ) -> Table:
        index = {name: number for number, name in enumerate(self.class_names)}
        labels = np.array([index[image.path.partition(b"/")[0]] for image, _ in rows], np.int32)
        return Table(
            self.fingerprint,
            self.provenance,
            self.class_names,
            _files(rows),
            labels,
            read(FEATURES),
            _files([(image, digest) for image, digest, _ in rejects]),
            [reason for _, _, reason in rejects],
            read(SIGNATURES) if has_signatures else None,
        )


def _files(items: list[tuple[ImageFile, bytes]]) -> Files:
    hashes = np.frombuffer(b"".join(digest for _, digest in items), np.uint8).reshape(-1, HASH_BYTES)
    return Files(
        [image.path for image, _ in items],
        np.array([image.size for image, _ in items], np.int64),
        np.array([image.mtime for image, _ in items], np.int64),
        hashes,
    )
