"""Measure what faster extraction costs in accuracy, on a folder of real images.

    python benchmarks/precision.py IMAGES --weights FILE [--alpha 1.0] [--image-size 224] [--seeds 5] [--caches DIR]
        [--kinds float32,int8,reduced] [--json FILE]

In one run, the folder is extracted as a whole process in each kind: ``float32``, ``int8`` (``--precision int8``),
``float16``, ``bfloat16``, and ``reduced`` (``--decoding reduced``, omitted if no JPEG file is large enough). Then the
heads ``logreg`` and ``svm`` are trained and tested on each cache: on the same 80/20 splits, one for each seed, once
with all training images and once with 300 of them, the same number of every class.

The table has images/s of the whole process, the mean accuracy over the seeds and, below it, the difference to
the accuracy of ``float32`` on the same split, mean and standard deviation, in percentage points.

With ``--caches DIR`` the caches are kept there as ``float32.h5`` and so on, and those that are up to date are not
made again. The model is prepared before a process is timed.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from embedonce.cache import FeatureCache
from embedonce.evaluate.comparison.run import compare
from embedonce.evaluate.splits.plan import make_split
from embedonce.evaluate.splits.split import Split
from embedonce.extract import cpu_count
from embedonce.extract.engines.engines import make_engine
from embedonce.extract.recipe import make_recipe
from embedonce.extract.scan import scan_folder
from extraction import extract_seconds
from PIL import Image, UnidentifiedImageError
from processes import extraction_parser
from rich.console import Console
from rich.table import Table

KINDS = {
    "float32": (),
    "int8": ("--precision", "int8"),
    "float16": ("--precision", "float16"),
    "bfloat16": ("--precision", "bfloat16"),
    "reduced": ("--decoding", "reduced"),
}
HEADS = ("logreg", "svm")
BUDGET = 300


def reducible(folder: Path, image_size: int) -> bool:
    """Return whether the folder has a JPEG file that ``--decoding reduced`` would decode at a fraction."""
    for image in scan_folder(folder).images:
        try:
            with Image.open(folder / os.fsdecode(image.path)) as opened:
                if opened.format == "JPEG" and min(opened.size) >= 2 * image_size:
                    return True
        except (OSError, UnidentifiedImageError):  # it will be among the rejects
            continue
    return False


def small_part(split: Split, cache: FeatureCache, budget: int, seed: int) -> Split:
    """Return a split with some of the training images, the same number of every class if possible."""
    generator = np.random.default_rng(seed)
    labels = cache.labels[split.train]
    kinds = np.unique(labels)
    chosen = [generator.permutation(split.train[labels == kind])[: budget // len(kinds)] for kind in kinds]
    return Split(np.sort(np.concatenate(chosen)), split.test, split.method, split.seed)


def accuracies(cache: FeatureCache, seeds: int) -> Iterator[tuple[str, float]]:
    """Yield the name of a column and an accuracy, for every seed, training set and head."""
    for seed in range(seeds):
        whole = make_split(cache, "random", seed)
        for name, split in (("all", whole), (str(BUDGET), small_part(whole, cache, BUDGET, seed))):
            for result in compare(cache, heads=HEADS, split=split).results:
                yield f"{result.name}, {name}", result.scores["accuracy"]


def measure(kind: str, folder: Path, caches: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Extract one kind and return images/s (None if the cache was up to date) and the accuracies."""
    path = caches / f"{kind}.h5"
    seconds, report = extract_seconds(folder, path, options, *KINDS[kind])
    measured: dict[str, list[float]] = {}
    cache = FeatureCache.open(path)
    for column, accuracy in accuracies(cache, options.seeds):
        measured.setdefault(column, []).append(accuracy)
    whole = report["embedded"] + report["copied"] == len(cache)  # there was no cache before
    rate = len(cache) / seconds if whole else None
    return {"images_per_second": rate, "seconds": seconds, "paths": cache.paths, "accuracies": measured}


def cell(kind: list[float], base: list[float], is_base: bool) -> str:
    """Return a mean accuracy and its difference to that of float32."""
    if is_base:
        return f"{np.mean(kind):.4f}"
    points = 100 * (np.array(kind) - np.array(base))
    return f"{np.mean(kind):.4f}\n{points.mean():+.2f} ± {points.std():.2f}"


def main() -> None:
    """Measure, print a table, and write JSON."""
    parser = extraction_parser(__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--kinds", default="float32,int8,reduced", help=", ".join(KINDS))
    parser.add_argument("--caches", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    kinds = options.kinds.split(",")
    if kinds[0] != "float32" or not set(kinds) <= set(KINDS):
        parser.error(f"--kinds must begin with float32 and have only {', '.join(KINDS)}")
    if "reduced" in kinds and not reducible(options.images, options.image_size):
        kinds.remove("reduced")

    recipe = make_recipe(options.weights, options.alpha, options.image_size)
    with tempfile.TemporaryDirectory() as temporary:
        caches = options.caches or Path(temporary)
        caches.mkdir(parents=True, exist_ok=True)
        measured = {}
        for kind in kinds:
            make_engine("auto", replace(recipe, precision=kind if kind != "reduced" else "float32"))
            measured[kind] = measure(kind, options.images, caches, options)
    paths = [result.pop("paths") for result in measured.values()]
    assert all(names == paths[0] for names in paths), "the caches have other rows, and so other splits"

    base = measured["float32"]
    columns = list(base["accuracies"])
    title = f"{len(paths[0]):,} images, {options.seeds} seeds, {cpu_count()} processors"
    table = Table(title=title)
    for column in ("extraction", "images/s", *columns):
        table.add_column(column, justify="left" if column == "extraction" else "right")
    for kind, result in measured.items():
        rate = result["images_per_second"]
        cells = [cell(result["accuracies"][name], base["accuracies"][name], kind == "float32") for name in columns]
        table.add_row(kind, "-" if rate is None else f"{rate:,.0f}", *cells)
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    main()
