"""Measure how well suspected label errors find labels that were changed on purpose.

    python benchmarks/label_errors.py CACHE [--fraction 0.03] [--seed 0]

A fraction of the labels of the cache is changed at random. ``logreg`` is cross-validated on five folds, in which
near-duplicates stay together. The table has precision and recall of each reason, and the average precision of the
probabilities alone, ordered by the probability of the label.
"""

from __future__ import annotations

import argparse

import numpy as np
from embedonce import FeatureCache, compare, find_groups
from embedonce.evaluate.report.label_errors import label_errors, suspected_rows
from sklearn.metrics import average_precision_score


def main() -> None:
    """Change labels, search them, and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cache")
    parser.add_argument("--fraction", type=float, default=0.03)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    cache = FeatureCache.open(options.cache)
    groups = find_groups(cache).groups
    generator = np.random.default_rng(options.seed)
    labels = cache.labels.copy()
    changed = np.zeros(len(labels), bool)
    changed[generator.choice(len(labels), round(options.fraction * len(labels)), replace=False)] = True
    classes = len(cache.class_names)
    labels[changed] = (labels[changed] + generator.integers(1, classes, changed.sum())) % classes
    noisy = cache.with_labels(labels, cache.class_names)
    comparison = compare(noisy, "logreg", groups=groups, split="grouped", folds=5)
    _, errors = label_errors(comparison)
    print(f"{changed.sum():,} of {len(labels):,} labels were changed")
    for reason in ("near-duplicates", "probabilities"):
        rows = [error.row for error in errors if error.reason == reason]
        found = changed[rows].sum()
        print(f"{reason:<16} {len(rows):,} suspected, precision {found / max(1, len(rows)):.3f}", end="")
        print(f", recall {found / changed.sum():.3f}")
    (result,) = comparison.results
    test = comparison.split.test
    true = labels[test].astype(np.intp)
    positions, suggested = suspected_rows(true, result.probabilities)
    of_label = result.probabilities[positions, true[positions]]
    margin = result.probabilities[positions, suggested] - of_label
    for name, rank in (("probability of the label", -of_label), ("difference", margin)):
        ranks = np.full(len(test), -np.inf)
        ranks[positions] = rank
        ranks[~np.isfinite(ranks)] = rank.min() - 1
        print(f"average precision by {name}: {average_precision_score(changed[test], ranks):.3f}")


if __name__ == "__main__":
    main()
