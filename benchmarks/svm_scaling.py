"""Measure how the scaling of features decides the accuracy of the svm head.

    python benchmarks/svm_scaling.py CACHE [CACHE ...] [--images 50,200] [--rare 600:10] [--repeats 5] [--json FILE]

Each repeat draws some images of every class of a cache, and predicts all of them in five folds, in which
near-duplicates stay together (``CACHE.groups.csv`` of ``embedonce compare`` is read if it exists). ``--rare 600:10``
draws 600 images of the first class and 10 of the second. Printed are the mean accuracy and balanced accuracy of the svm
head with every scaling, without and with class weights, and of logreg.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from embedonce import FeatureCache, make_head
from embedonce.evaluate.splits import as_groups
from rich.console import Console
from rich.table import Table as Shown
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold

HEADS: dict[str, tuple[str, dict[str, Any]]] = {
    "standard": ("svm", {"scaling": "standard", "probability": False}),
    "overall": ("svm", {"scaling": "overall", "probability": False}),
    "standard, balanced": ("svm", {"scaling": "standard", "probability": False, "class_weight": "balanced"}),
    "overall, balanced": ("svm", {"scaling": "overall", "probability": False, "class_weight": "balanced"}),
    "logreg": ("logreg", {}),
    "logreg, balanced": ("logreg", {"class_weight": "balanced"}),
}
FOLDS = 5


def designs(labels: Any, images: list[int], rare: list[tuple[int, int]]) -> Iterator[tuple[str, list[int]]]:
    """Yield the name and the number of images of each class of the subsets of a cache."""
    counts = np.bincount(labels)
    for number in images:
        yield f"{number} a class", [min(number, int(count)) for count in counts]
    for many, few in rare:
        if counts[0] >= many and counts[1] >= few:
            yield f"{many:,} and {few}", [many, few] + [0] * (len(counts) - 2)


def predict(name: str, options: dict[str, Any], X: Any, y: Any, groups: Any, seed: int) -> tuple[Any, Any]:
    """Return the true and predicted classes of folds that train on every class."""
    true, predicted = [], []
    for train, test in StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(X, y, groups):
        if len(np.unique(y[train])) == len(np.unique(y)):
            true.append(y[test])
            predicted.append(make_head(name, **options).fit(X[train], y[train]).predict(X[test]))
    return np.concatenate(true), np.concatenate(predicted)


def measure(path: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure every head on every subset of a cache."""
    cache, stored = FeatureCache.open(path), Path(f"{path}.groups.csv")
    groups = as_groups(stored, cache).ids if stored.exists() else np.arange(len(cache))
    labels, rows = cache.labels.astype(np.intp), []
    for design, counts in designs(labels, options.images, options.rare):
        scores: dict[str, list[tuple[float, float]]] = {name: [] for name in HEADS}
        for seed in range(options.repeats):
            generator = np.random.default_rng(seed)
            drawn = [generator.permutation(np.flatnonzero(labels == code))[:count] for code, count in enumerate(counts)]
            chosen = np.sort(np.concatenate(drawn))
            for name, (head, parameters) in HEADS.items():
                true, predicted = predict(head, parameters, cache[chosen], labels[chosen], groups[chosen], seed)
                scores[name].append((accuracy_score(true, predicted), balanced_accuracy_score(true, predicted)))
        means = {name: np.mean(values, axis=0).tolist() for name, values in scores.items()}
        rows.append({"cache": Path(path).stem, "images": design} | means)
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("caches", nargs="+", metavar="CACHE")
    parser.add_argument("--images", type=lambda text: [int(n) for n in text.split(",") if n], default=[50, 200])
    parser.add_argument(
        "--rare",
        type=lambda text: [(int(pair.split(":")[0]), int(pair.split(":")[1])) for pair in text.split(",") if pair],
        default=[(600, 10)],
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = [row for path in options.caches for row in measure(path, options)]
    table = Shown("cache", "images", *HEADS)
    for row in rows:
        table.add_row(row["cache"], row["images"], *("{:.3f} {:.3f}".format(*row[name]) for name in HEADS))
    Console(width=160).print(table)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
