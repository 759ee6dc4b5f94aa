"""Measure whether the decisions of ``embedonce train --decide`` keep their promises on data in groups.

A round draws calibration groups, chooses the thresholds, and measures on further groups. Two tables: drawn predictions
(confidence and correctness with effects of groups), and, with a cache and its groups file, heads that are trained on
some of its groups, with thresholds from folds as `train` chooses them.

For example:

    python benchmarks/decisions.py --rounds 2000
    python benchmarks/decisions.py --cache lung.h5 --groups lung.h5.groups.csv --rounds 500
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from embedonce import FeatureCache
from embedonce.errors import EmbedonceError
from embedonce.evaluate.metrics import AnswerCurve, label_threshold
from embedonce.evaluate.models.decision_thresholds import choose_decisions
from embedonce.evaluate.models.decisions import in_set
from embedonce.evaluate.splits import Split, as_groups
from embedonce.heads import make_head

ACCURACY, COVERAGE = 0.95, 0.9
DESIGNS = ("independent images", "even groups of 20", "uneven groups", "large groups are harder", "some groups fail")


def draw(design, groups, rng):
    """Return confidence, correctness, probability of the label and group of every image of some groups."""
    if design == "independent images":
        sizes = np.ones(20 * groups, int)
    elif design == "even groups of 20":
        sizes = np.full(groups, 20)
    else:
        sizes = rng.integers(1, 60, groups)
    ids = np.repeat(np.arange(len(sizes)), sizes)
    effect = np.zeros(len(sizes)) if design == "independent images" else rng.normal(0, 1.5, len(sizes))
    if design == "large groups are harder":
        effect -= sizes / 30
    if design == "some groups fail":
        effect -= 6 * (rng.random(len(sizes)) < 0.05)
    score = rng.normal(3.0, 2.0, len(ids))
    correct = rng.random(len(ids)) < 1 / (1 + np.exp(-(0.8 * score + effect[ids])))
    confidence = 0.5 + 0.5 / (1 + np.exp(-1.2 * score))  # overconfident
    return confidence, correct, np.where(correct, confidence, 1 - confidence), ids


def simulated(rounds, groups):
    """Print a line for every design of drawn predictions."""
    print(f"\nDrawn predictions, {groups} groups, accuracy={ACCURACY:g}, coverage={COVERAGE:g}, {rounds:,} rounds\n")
    print("| design | chosen | answered | below target | coverage | by images | without groups |")
    print("|---|---|---|---|---|---|---|")
    for design in DESIGNS:
        rng = np.random.default_rng(0)
        confidence, correct, of_label, ids = draw(design, 20_000, rng)
        weights = 1 / np.bincount(ids)[ids]
        chosen, below, covered = [], [], []
        for _ in range(rounds):
            calibration = draw(design, groups, rng)
            threshold = AnswerCurve(*calibration[:2], calibration[3]).threshold_for(ACCURACY)
            if threshold is not None:
                answered = confidence >= threshold.threshold
                chosen.append(answered.mean())
                below.append(correct[answered].mean() < ACCURACY)
            by_group = label_threshold(calibration[2], COVERAGE, calibration[3])
            by_image = label_threshold(calibration[2], COVERAGE)
            inside = [(of_label >= limit) | correct for limit in (by_group, by_image)]
            covered.append(
                [
                    np.average(inside[0], weights=weights),
                    inside[0].mean(),
                    np.average(inside[1], weights=weights),
                ]
            )
        answered = np.mean(chosen) if chosen else 0.0
        cells = [len(chosen) / rounds, answered, np.sum(below) / rounds, *np.mean(covered, axis=0)]
        print(f"| {design} | {' | '.join(f'{100 * cell:.1f} %' for cell in cells)} |", flush=True)


def real(path, groups_path, rounds, head, count, most):
    """Print a line for heads that are trained on drawn groups of a cache and tested on its other groups."""
    cache = FeatureCache.open(path)
    groups = as_groups(groups_path, cache)
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(groups.ids == number) for number in range(len(groups))]
    print(f"\n{head} on {path.name}, {count} of {len(members)} groups of at most {most} images, {rounds:,} rounds\n")
    print("| promise | chosen | answered or labels | kept on average | rounds below target |")
    print("|---|---|---|---|---|")
    results: dict[str, list[tuple[float, float]]] = {"accuracy": [], "coverage": []}
    targets = {"accuracy": ACCURACY, "coverage": COVERAGE}
    for number in range(rounds):
        order = rng.permutation(len(members))
        parts = [[rng.permutation(members[group])[:most] for group in half] for half in (order[:count], order[count:])]
        train, test = (np.concatenate(part) for part in parts)
        rows = np.sort(np.concatenate([train, test]))
        one = cache.select(rows)
        split = Split(np.searchsorted(rows, np.sort(train)), np.searchsorted(rows, np.sort(test)))
        own = as_groups([groups.names[row] for row in rows], one)
        estimator = make_head(head)
        decisions = {}
        for wanted in (targets, {"coverage": COVERAGE}):  # the accuracy may be out of reach
            try:
                chosen = choose_decisions(head, estimator, one, split, own, None, wanted, number)
                decisions = {decision.kind: decision for decision in chosen}
                break
            except EmbedonceError as error:
                print(f"round {number}: {error}", file=sys.stderr)
        estimator.fit(one.features[split.train], one.label_names[split.train])
        probabilities = estimator.predict_proba(one.features[split.test])
        predicted, true = probabilities.argmax(axis=1), one.labels[split.test]
        places = np.arange(len(true))
        _, of_row, sizes = np.unique(own.ids[split.test], return_inverse=True, return_counts=True)
        if "accuracy" in decisions:
            answered = probabilities[places, predicted] >= decisions["accuracy"].threshold
            results["accuracy"].append((float((predicted == true)[answered].mean()), float(answered.mean())))
        if "coverage" in decisions:
            inside = in_set(probabilities, predicted, decisions["coverage"].threshold)
            kept = float(np.average(inside[places, true], weights=1 / sizes[of_row]))
            results["coverage"].append((kept, float(inside.sum(axis=1).mean())))
    for kind, values in results.items():
        if not values:
            print(f"| {kind}={targets[kind]:g} | 0.0 % | - | - | - |")
            continue
        kept, measured = np.transpose(values)
        amount = f"{100 * measured.mean():.1f} %" if kind == "accuracy" else f"{measured.mean():.2f}"
        below = 100 * np.sum(kept < targets[kind]) / rounds
        print(
            f"| {kind}={targets[kind]:g} | {100 * len(values) / rounds:.1f} % | {amount} | {100 * kept.mean():.1f} % | "
            f"{below:.1f} % |"
        )


def main():
    """Read the options and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=500, help="rounds of each design")
    parser.add_argument("--count", type=int, default=100, help="groups that thresholds are chosen on")
    parser.add_argument("--cache", type=Path, help="cache of real images")
    parser.add_argument("--groups", type=Path, help="groups file of the cache")
    parser.add_argument("--head", default="logreg", help="head that is trained on the cache")
    parser.add_argument("--most", type=int, default=6, help="images of each group of the cache")
    options = parser.parse_args()
    if options.cache is None:
        simulated(options.rounds, options.count)
    else:
        real(options.cache, options.groups, options.rounds, options.head, options.count, options.most)


if __name__ == "__main__":
    main()
