"""Do the intervals cover what they say, and do the tests cry wolf as seldom as they say? By simulation.

    python benchmarks/statistics.py [--rounds N] [--json FILE]

Truth is known here: heads are right by chance, with a given accuracy. Images of a group are right or wrong together:
the accuracy of each group is drawn from a beta distribution with an intra-group correlation. Uneven groups have 1 to 60
images, log-normally distributed, and a correlation of 0.3: about 100 images are 8 groups, 500 are 36, 3,000 are 247.
Even groups have 20 images and a correlation of 0.7, so that most are right or wrong as a whole: 5, 25 and 150 groups.

- **Coverage**: the share of 95 % intervals of :func:`embedonce.evaluate.intervals.score_intervals` that hold the
  true accuracy, beside that of the bootstrap's own percentiles; of the macro F1 and of the difference of two heads.
- **False positives**: how often each test finds two equally good heads different at the level of 0.05. The naive
  test is McNemar's on images of groups.
- **Folds**: two heads are really trained, a logistic regression on one half of the features each, on data in which
  both halves tell as much; the corrected t test over repeated folds, beside the plain t test.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from embedonce.evaluate.intervals import score_intervals, units
from embedonce.evaluate.metrics import score
from embedonce.evaluate.paired import compare_folds, compare_pair
from embedonce.extract.processors import available_processors
from rich.console import Console
from rich.table import Table

CORRELATION = {"uneven": 0.3, "even": 0.7}
Groups = npt.NDArray[np.intp] | None


def groups_of(images: int, kind: str) -> Groups:
    """Return the group of about so many images, the same in every round; None for ``alone``."""
    if kind == "alone":
        return None
    if kind == "even":
        return np.arange(images) // 20
    generator = np.random.default_rng(images)
    sizes: list[int] = []
    while sum(sizes) < images:
        sizes.append(int(np.clip(round(generator.lognormal(2.2, 0.9)), 1, 60)))
    return np.repeat(np.arange(len(sizes)), sizes)


def right(
    accuracy: float, groups: Groups, kind: str, images: int, generator: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Draw which images are classified rightly."""
    if groups is None:
        return generator.random(images) < accuracy
    spread = (1 - CORRELATION[kind]) / CORRELATION[kind]
    of_group = generator.beta(accuracy * spread, (1 - accuracy) * spread, groups.max() + 1)
    return generator.random(len(groups)) < of_group[groups]


def coverage(accuracy: float, images: int, kind: str, seed: int, resamples: int = 500) -> dict[str, bool]:
    """Return which intervals of one simulated head hold the truth."""
    generator = np.random.default_rng(seed)
    groups = groups_of(images, kind)
    correct = right(accuracy, groups, kind, images, generator)
    other = right(accuracy, groups, kind, images, generator)
    # three classes in turn, so that the macro F1 of a head that errs evenly is its accuracy
    true = np.arange(len(correct)) % 3
    predicted = np.where(correct, true, (true + generator.integers(1, 3, len(true))) % 3)
    names = ["a", "b", "c"]
    found = score_intervals(true, predicted, None, names, groups, resamples=resamples, seed=seed + 10**6)
    pair = compare_pair(correct, other, groups)
    drawn = units(groups, len(correct))
    sums = drawn.sums(np.column_stack([correct, np.ones(len(correct))]))
    weights = generator.multinomial(drawn.groups, np.full(drawn.groups, 1 / drawn.groups), size=resamples)
    low, high = np.quantile((weights @ sums[:, 0]) / (weights @ sums[:, 1]), [0.025, 0.975])
    return {
        "accuracy": found["accuracy"][0] <= accuracy <= found["accuracy"][1],
        "macro F1": found["macro_f1"][0] <= accuracy <= found["macro_f1"][1],
        "difference": pair["low"] <= 0 <= pair["high"],
        "percentiles": bool(low <= accuracy <= high),
    }


def false_positives(accuracy: float, images: int, kind: str, seed: int) -> dict[str, bool]:
    """Return which tests tell two equally good heads apart."""
    generator = np.random.default_rng(seed)
    groups = groups_of(images, kind)
    a, b = (right(accuracy, groups, kind, images, generator) for _ in range(2))
    return {"ours": compare_pair(a, b, groups)["p"] < 0.05, "McNemar": compare_pair(a, b)["p"] < 0.05}


def folds_of_ties(k: int, repeats: int, seed: int) -> dict[str, bool]:
    """Return which tests over folds tell two equally good learners apart."""
    from scipy.stats import ttest_1samp
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import RepeatedStratifiedKFold

    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, 200)
    features = generator.normal(size=(200, 12)) + 0.45 * (2 * labels[:, None] - 1)
    differences, sizes = [], []
    for train, test in RepeatedStratifiedKFold(n_splits=k, n_repeats=repeats, random_state=seed).split(
        features, labels
    ):
        scores = []
        for columns in (slice(0, 6), slice(6, 12)):
            model = LogisticRegression().fit(features[train, columns], labels[train])
            scores.append(float((model.predict(features[test, columns]) == labels[test]).mean()))
        differences.append(scores[0] - scores[1])
        sizes.append((len(train), len(test)))
    plain = ttest_1samp(differences, 0).pvalue if np.std(differences) > 0 else 1.0
    return {"ours": compare_folds(differences, sizes)["p"] < 0.05, "plain t": bool(plain < 0.05)}


def shown_images(images: int, kind: str) -> str:
    """Return how a table names so many images in such groups."""
    groups = groups_of(images, kind)
    return f"{images:,}" if groups is None else f"{images:,} in {groups.max() + 1} {kind} groups"


def shares(function: Callable[..., dict[str, bool]], rounds: int, *arguments: Any) -> dict[str, float]:
    """Return how often each answer is yes."""
    from joblib import Parallel, delayed

    seeds = np.array_split(np.arange(rounds), 8 * available_processors())
    parts = Parallel(available_processors())(delayed(_many)(function, arguments, part) for part in seeds)
    answers = [answer for part in parts for answer in part]
    return {name: float(np.mean([answer[name] for answer in answers])) for name in answers[0]}


def _many(function: Callable[..., dict[str, bool]], arguments: tuple[Any, ...], seeds: Any) -> list[dict[str, bool]]:
    return [function(*arguments, int(seed)) for seed in seeds]


def seconds_of_intervals() -> float:
    """Return the seconds that all intervals of one head take: 3,000 test images in 750 groups, three classes."""
    generator = np.random.default_rng(0)
    true = generator.integers(0, 3, 3000)
    probabilities = generator.dirichlet([1, 1, 1], 3000)
    score(true, probabilities.argmax(1), probabilities, ["a", "b", "c"])
    begin = time.perf_counter()
    score_intervals(true, probabilities.argmax(1), probabilities, ["a", "b", "c"], np.arange(3000) // 4)
    return time.perf_counter() - begin


def main() -> None:
    """Simulate, print tables, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result: dict[str, Any] = {"rounds": options.rounds, "coverage": [], "false_positives": [], "folds": []}

    error = 196 * np.sqrt(0.95 * 0.05 / options.rounds)
    console = Console()
    table = Table(title=f"95 % intervals that hold the truth, % (of {options.rounds:,} rounds: +-{error:.1f})")
    for column in ("images", "accuracy", "accuracy %", "macro F1 %", "difference %", "percentiles %"):
        table.add_column(column, justify="right")
    for kind in ("alone", *CORRELATION):
        for images in (100, 500, 3000):
            for accuracy in (0.8, 0.95, 0.99):
                found = shares(coverage, options.rounds, accuracy, images, kind)
                result["coverage"].append({"images": images, "true_accuracy": accuracy, "groups": kind} | found)
                shown = [f"{100 * found[name]:.1f}" for name in ("accuracy", "macro F1", "difference", "percentiles")]
                table.add_row(shown_images(images, kind), f"{accuracy}", *shown)
    console.print(table)

    table = Table(title="equally good heads that are found different at 0.05, %")
    for column in ("images", "accuracy", "our test %", "McNemar %"):
        table.add_column(column, justify="right")
    for kind in ("alone", *CORRELATION):
        for images in (100, 500, 3000):
            for accuracy in (0.8, 0.95):
                found = shares(false_positives, options.rounds, accuracy, images, kind)
                result["false_positives"].append({"images": images, "true_accuracy": accuracy, "groups": kind} | found)
                shown = [f"{100 * found[name]:.1f}" for name in ("ours", "McNemar")]
                table.add_row(shown_images(images, kind), f"{accuracy}", *shown)
    console.print(table)

    table = Table(title="equally good learners that folds find different at 0.05, %")
    for column in ("folds", "repeats", "corrected t %", "plain t %"):
        table.add_column(column, justify="right")
    for k, repeats in ((5, 1), (5, 3), (10, 1)):
        found = shares(folds_of_ties, options.rounds // 4, k, repeats)
        result["folds"].append({"folds": k, "repeats": repeats} | found)
        table.add_row(str(k), str(repeats), f"{100 * found['ours']:.1f}", f"{100 * found['plain t']:.1f}")
    console.print(table)

    result["seconds"] = seconds_of_intervals()
    console.print(f"all intervals of a head on 3,000 test images: {result['seconds']:.2f} s")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
