"""A small cache of originals with near-duplicates, for tests of searches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from cache_tables import make_table
from embedonce.cache.writer import write_cache
from embedonce.evaluate.splits.groups import Groups

CLASSES, PER_CLASS, WIDTH, PER_ORIGINAL = 3, 80, 24, 4


def write_near_duplicates(target):
    """Write a cache of three classes of 20 originals with four near-duplicates each; the last feature is the row's number."""
    n = CLASSES * PER_CLASS
    generator = np.random.default_rng(0)
    labels = np.arange(n) % CLASSES
    original = np.arange(n) // CLASSES // PER_ORIGINAL * CLASSES + labels
    centres = generator.normal(size=(CLASSES, WIDTH)) * 0.5
    features = centres[labels] + generator.normal(size=(n, WIDTH))[original] + 0.3 * generator.normal(size=(n, WIDTH))
    features[:, -1] = np.arange(n)
    table = make_table(n, WIDTH, 0, signatures=False)
    paths = [f"class{label}/{group:03d}-{row:03d}.jpg".encode() for row, (label, group) in enumerate(
        zip(labels, original, strict=True))]  # fmt: skip
    order = sorted(range(n), key=paths.__getitem__)
    files = replace(table.files, paths=[paths[row] for row in order])
    made = replace(
        table,
        class_names=[f"class{label}".encode() for label in range(CLASSES)],
        files=files,
        labels=labels[order].astype(np.int32),
        features=features[order].astype(np.float32),
        provenance={"weights": "imagenet", "versions": {}},
    )
    write_cache(made, target)
    return target


def originals(cache):
    """Return the groups of this cache."""
    return Groups(list(cache.paths), [name.split("/")[1][:3] for name in cache.paths], "file")
