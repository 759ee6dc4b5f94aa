"""Tables of invented rows, as whole caches and in parts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from embedonce.cache.manifest import Manifest
from embedonce.cache.table import Files, Table


def make_table(n=130, d=7, m=2, seed=0, signatures=True) -> Table:
    generator = np.random.default_rng(seed)

    def files(count, ending):
        return Files(
            [f"class{number % 2}/{number:04d}{ending}".encode() for number in range(count)],
            generator.integers(0, 2**40, count),
            generator.integers(0, 2**60, count),
            generator.integers(0, 256, (count, 32), dtype=np.uint8),
        )

    return Table(
        fingerprint={"architecture": "MobileNetV2", "alpha": 1.0},
        provenance={"weights": "random:0", "versions": {"embedonce": "0"}},
        class_names=[b"class0", b"class1"],
        files=files(n, ".jpg"),
        labels=(np.arange(n) % 2).astype(np.int32),
        features=generator.standard_normal((n, d)).astype(np.float32),
        rejects=files(m, "-bad.jpg"),
        reasons=[f"reason {number}" for number in range(m)],
        signatures=generator.integers(0, 256, (n, 784), dtype=np.uint8) if signatures else None,
    )


def take(table: Table, rows, rejects=()) -> Table:
    """Return a table of some rows and some rejects of another."""
    rows, rejects = list(rows), list(rejects)

    def files(whole, places):
        columns = (getattr(whole, name)[places] for name in ("sizes", "mtimes", "hashes"))
        return Files([whole.paths[place] for place in places], *columns)

    return replace(
        table,
        files=files(table.files, rows),
        labels=table.labels[rows],
        features=table.features[rows],
        signatures=None if table.signatures is None else table.signatures[rows],
        rejects=files(table.rejects, rejects),
        reasons=[table.reasons[place] for place in rejects],
    )


def by_path(table: Table) -> Table:
    """Return a table with its rows and rejects sorted by path, as a run writes them."""
    rows = sorted(range(len(table.files)), key=table.files.paths.__getitem__)
    return take(table, rows, sorted(range(len(table.rejects)), key=table.rejects.paths.__getitem__))


def about(table: Table) -> Manifest:
    """Return what a folder of shards says of the whole."""
    return Manifest(table.fingerprint, table.provenance, table.class_names, [])
