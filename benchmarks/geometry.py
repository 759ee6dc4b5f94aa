"""Measure what --resize and --antialias do to accuracy, on folders of real images that are not square.

    python benchmarks/geometry.py IMAGES [IMAGES ...] --weights FILE [--alpha 1.0] [--image-size 224] [--folds 5]
        [--caches DIR]

Each folder is embedded with ``stretch``, ``crop`` and ``pad``, without and with antialiasing. The head ``logreg`` is
cross-validated on each cache, on the same folds: the near-duplicates of the first cache stay together in all. The table
has the accuracy and its 95 % interval. With ``--caches DIR`` the caches are kept there.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from embedonce import compare, extract_features, find_groups
from embedonce.extract.options import RESIZES
from processes import extraction_parser
from rich.console import Console
from rich.table import Table


def measure(images: Path, caches: Path, options: argparse.Namespace) -> Table:
    """Return the table of a folder."""
    groups = None
    table = Table("resize", "antialias", "accuracy", "95 % interval")
    for how, antialias in RESIZES:
        cache = extract_features(
            images,
            caches / f"{images.resolve().name}-{how}{'-antialias' * antialias}.h5",
            weights=options.weights,
            alpha=options.alpha,
            image_size=options.image_size,
            resize=how,
            antialias=antialias,
        )
        if groups is None:
            groups = find_groups(cache).groups
            table.title = f"{images}: {len(cache):,} images, {len(cache.class_names)} classes, {options.folds} folds"
        (result,) = compare(cache, "logreg", groups=groups, folds=options.folds).results
        low, high = result.intervals["accuracy"]
        table.add_row(how, "yes" if antialias else "no", f"{result.scores['accuracy']:.4f}", f"{low:.4f} to {high:.4f}")
    return table


def main() -> None:
    """Measure and print a table of each folder."""
    parser = extraction_parser(__doc__, folders="+")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--caches", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        caches = options.caches or Path(temporary)
        caches.mkdir(parents=True, exist_ok=True)
        for images in options.images:
            Console().print(measure(images, caches, options))


if __name__ == "__main__":
    main()
