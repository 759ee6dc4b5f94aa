"""Caches without files behind them, for tests of splits."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np


def cache_of(labels_by_path, classes=None, rejects=()):
    """Return what a split sees of a cache: paths in their order, labels, classes."""
    names = sorted(set(labels_by_path.values())) if classes is None else classes
    labels = np.array([names.index(name) for name in labels_by_path.values()], np.int32)
    counts = dict(zip(names, np.bincount(labels, minlength=len(names)).tolist(), strict=True))
    hashes = np.arange(len(labels) * 32, dtype=np.int64).astype(np.uint8).reshape(-1, 32)
    return _Cache(
        path="trees.h5",
        display_path="trees.h5",
        paths=list(labels_by_path),
        labels=labels,
        class_names=names,
        class_counts=counts,
        unlabelled=0,
        provenance={},
        rejects=[(path, "no image") for path in rejects],
        random_weights=None,
        files=SimpleNamespace(hashes=hashes),
    )


class _Cache(SimpleNamespace):
    def __len__(self):
        return len(self.paths)
