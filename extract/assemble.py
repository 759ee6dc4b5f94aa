"""Putting rows together: the tables that a run writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..cache.manifest import Manifest
from ..cache.table import HASH_BYTES, Features, Files, RowSource, Table
from .embed import Done
from .plan import Inventory, Known
from .scan import ImageFile


@dataclass
class Assembler:
    """Makes tables of one run.

    Attributes
    ----------
    inventory : Inventory
    fingerprint, provenance : dict
        Of the run.
    class_names : list of bytes
        Sorted.
    """

    inventory: Inventory
    fingerprint: dict[str, Any]
    provenance: dict[str, Any]
    class_names: list[bytes]

    def about(self) -> Manifest:
        """Return what holds for all of the run's shards."""
        return Manifest(self.fingerprint, self.provenance, self.class_names, [])

    def of_done(self, part: list[Done]) -> Table:
        """Return the table of images that were just embedded, copied or rejected."""
        rows = [item for item in part if not item.reason]
        copies = iter(self.inventory.gather([item.copy_of for item in rows if item.copy_of is not None]))
        features = [next(copies) if item.features is None else item.features for item in rows]
        return self._table(
            [(item.image, item.digest) for item in rows],
            np.stack(features) if features else np.zeros((0, 0), np.float32),
            [(item.image, item.digest, item.reason) for item in part if item.reason],
        )

    def of_known(self, items: list[Known]) -> Table:
        """Return the table of images whose rows stand somewhere in the inventory, in the order given."""
        rows = [item for item in items if item.row >= 0]
        return self._table(
            [(item.image, item.digest) for item in rows],
            self.inventory.rows_of(rows),
            [(item.image, item.digest, item.reason) for item in items if item.row < 0],
        )

    def _table(
        self,
        rows: list[tuple[ImageFile, bytes]],
        features: Features | RowSource,
        rejects: list[tuple[ImageFile, bytes, str]],
    ) -> Table:
        index = {name: number for number, name in enumerate(self.class_names)}
        labels = np.array([index[image.path.partition(b"/")[0]] for image, _ in rows], np.int32)
        return Table(
            self.fingerprint,
            self.provenance,
            self.class_names,
            _files(rows),
            labels,
            features,
            _files([(image, digest) for image, digest, _ in rejects]),
            [reason for _, _, reason in rejects],
        )


def _files(items: list[tuple[ImageFile, bytes]]) -> Files:
    hashes = np.frombuffer(b"".join(digest for _, digest in items), np.uint8).reshape(-1, HASH_BYTES)
    return Files(
        [image.path for image, _ in items],
        np.array([image.size for image, _ in items], np.int64),
        np.array([image.mtime for image, _ in items], np.int64),
        hashes,
    )
