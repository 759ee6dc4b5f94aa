"""Simulate the coverage of the confidence intervals and the error rate of the tests.

    python benchmarks/statistics.py [--rounds N] [--tables NAMES] [--run DIR] [--json FILE]

The truth is known: heads are correct by chance, with a given accuracy. Images of a group are correct or incorrect
together: the accuracy of each group is drawn from a beta distribution with an intra-group correlation. Uneven groups
have 1 to 60 images, log-normally distributed, and a correlation of 0.3: about 100 images are 8 groups, 500 are 36,
3,000 are 247. Even groups have 20 images and a correlation of 0.7, so that most are correct or incorrect as a whole: 5,
25 and 150 groups.

- **scores**: the fraction of 95 % intervals (``evaluate/metrics/intervals.py``) that contain the true accuracy and
  macro F1, and the same for percentiles of the bootstrap.
- **differences**: the fraction of intervals of the difference of two heads that contain the truth, for equally good
  heads and for heads of which one errs twice as often; and how often the tests reject equally good heads at 0.05. The
  naive test is McNemar's on images of groups. The second head agrees with the first on 60 % of the groups, as heads on
  the same features do.
- **probabilities**: as scores, of the area under the ROC curve and the log loss, of a head whose output is normally
  distributed in each of two classes, or with heavy tails on the side of the other class (Gumbel's distribution); the
  images of a group are of one class and have a part of it in common.
- **folds**: two heads are trained, a logistic regression on one half of the features each, on data in which both halves
  are equally informative; the corrected t test over repeated folds, and the plain t test.
- **real**, with ``--run``: the predictions of a comparison (``embedonce compare CACHE --folds 5 -o DIR``) are the
  population, from which groups are drawn, and its scores are the truth.
"""

from __future__ import annotations

import argparse
import csv
import functools
import json
import time
from collections.abc import Callable
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from embedonce.evaluate.metrics.clusters import units
from embedonce.evaluate.metrics.intervals import score_intervals
from embedonce.evaluate.metrics.metrics import score
from embedonce.evaluate.metrics.paired_tests import compare_folds, compare_pair
from embedonce.extract import cpu_count
from rich.console import Console
from rich.table import Table

CORRELATION = {"uneven": 0.3, "even": 0.7}
KINDS = ("alone", *CORRELATION)
IMAGES = (100, 500, 3000)
Groups = npt.NDArray[np.intp] | None
Found = dict[str, bool]


def groups_of(images: int, kind: str) -> Groups:
    """Return the groups of about that many images, the same in every round; None for ``alone``."""
    if kind == "alone":
        return None
    if kind == "even":
        return np.arange(images) // 20
    generator = np.random.default_rng(images)
    sizes: list[int] = []
    while sum(sizes) < images:
        sizes.append(int(np.clip(round(generator.lognormal(2.2, 0.9)), 1, 60)))
    return np.repeat(np.arange(len(sizes)), sizes)


def draw_correct(
    accuracy: float, groups: Groups, kind: str, images: int, generator: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Draw which images are classified correctly."""
    if groups is None:
        return generator.random(images) < accuracy
    spread = (1 - CORRELATION[kind]) / CORRELATION[kind]
    of_group = generator.beta(accuracy * spread, (1 - accuracy) * spread, groups.max() + 1)
    return generator.random(len(groups)) < of_group[groups]


def coverage(kind: str, images: int, accuracy: float, seed: int) -> Found:
    """Return which intervals of one simulated head contain the truth."""
    generator = np.random.default_rng(seed)
    groups = groups_of(images, kind)
    correct = draw_correct(accuracy, groups, kind, images, generator)
    # three classes in turn, so that the macro F1 of a head with even errors is its accuracy
    true = np.arange(len(correct)) % 3
    predicted = np.where(correct, true, (true + generator.integers(1, 3, len(true))) % 3)
    found = score_intervals(true, predicted, None, ["a", "b", "c"], groups, resamples=500, seed=seed + 10**6)
    drawn = units(groups, len(correct))
    sums = drawn.sums(np.column_stack([correct, np.ones(len(correct))]))
    kinds, of_kind = np.unique(sums, axis=0, return_counts=True)
    weights = generator.multinomial(drawn.groups, of_kind / drawn.groups, size=500)
    low, high = np.quantile((weights @ kinds[:, 0]) / (weights @ kinds[:, 1]), [0.025, 0.975])
    return {
        "accuracy": found["accuracy"][0] <= accuracy <= found["accuracy"][1],
        "macro F1": found["macro_f1"][0] <= accuracy <= found["macro_f1"][1],
        "percentiles": bool(low <= accuracy <= high),
    }


def differences(kind: str, images: int, accuracy: float, seed: int) -> Found:
    """Return which intervals of the difference of two heads contain it, and which tests reject incorrectly."""
    generator = np.random.default_rng(seed)
    groups = groups_of(images, kind)
    first, other = (draw_correct(accuracy, groups, kind, images, generator) for _ in range(2))
    of_row = np.arange(len(first)) if groups is None else groups
    agreeing = generator.random(of_row.max() + 1)[of_row] < 0.6
    equal = np.where(agreeing, first, other)
    more = 1 - accuracy
    worse = equal & draw_correct(1 - more / accuracy, groups, kind, images, generator)
    tie, pair = compare_pair(first, equal, groups), compare_pair(first, worse, groups)
    found = tie.p < 0.05  # then an interval may end at 0, which it excludes
    return {
        "equal": not found and tie.low <= 0 <= tie.high,
        "unequal": pair.low <= more <= pair.high,
        "our test": found,
        "McNemar": compare_pair(first, equal).p < 0.05,
    }


def drawn_outputs(
    separation: float, groups: npt.NDArray[np.intp], kind: str, tails: str, generator: np.random.Generator
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Draw class and probabilities of images of two classes, the groups of each in equal number."""
    shared = CORRELATION.get(kind, 0.0)
    true = groups % 2
    side = 2 * true - 1
    if tails == "normal":
        draw = generator.normal
    else:  # towards the other class

        def draw(size: int) -> npt.NDArray[np.float64]:
            return -generator.gumbel(size=size) * np.sqrt(6) / np.pi

    noise = np.sqrt(shared) * draw(size=groups.max() + 1)[groups] + np.sqrt(1 - shared) * draw(size=len(groups))
    output = side * (separation / 2 + noise)
    first = 1 / (1 + np.exp(-2 * output))  # overconfident
    return true.astype(np.intp), np.column_stack([1 - first, first])


@functools.cache
def true_scores(separation: float, kind: str, tails: str) -> dict[str, Any]:
    """Return the scores of a head on enough images to be the truth."""
    alone = np.arange(10**6)
    true, probabilities = drawn_outputs(separation, alone, kind, tails, np.random.default_rng(0))
    return score(true, probabilities.argmax(1), probabilities, ["a", "b"])


def coverage_of_probabilities(kind: str, images: int, tails: str, separation: float, seed: int) -> Found:
    """Return which intervals of one simulated head contain the truth."""
    groups = groups_of(images, kind)
    rows = np.arange(images) if groups is None else groups
    true, probabilities = drawn_outputs(separation, rows, kind, tails, np.random.default_rng(seed))
    truth = true_scores(separation, kind, tails)
    return _held(("roc_auc", "log_loss"), truth, true, probabilities, groups, seed)


@functools.cache
def population(run: Path, head: str) -> tuple[npt.NDArray[Any], ...]:
    """Return true class, probabilities and group, as rows sorted by group, of a head's predictions."""
    with (run / "predictions.csv").open(newline="", encoding="utf-8") as file:
        lines = [line for line in csv.DictReader(file) if line["head"] == head]
    names = sorted({line["true"] for line in lines})
    true = np.array([names.index(line["true"]) for line in lines])
    probabilities = np.array([[float(line[f"p_{name}"]) for name in names] for line in lines])
    probabilities /= probabilities.sum(1, keepdims=True)  # the file rounds them
    _, groups = np.unique([line["group"] for line in lines], return_inverse=True)
    order = np.argsort(groups, kind="stable")
    return true[order], probabilities[order], groups[order]


@functools.cache
def scores_of_population(run: Path, head: str) -> dict[str, Any]:
    """Return the scores of a head on all of it."""
    true, probabilities, _ = population(run, head)
    return score(true, probabilities.argmax(1), probabilities, [str(index) for index in range(probabilities.shape[1])])


def coverage_of_real(run: Path, head: str, other: str, count: int, seed: int) -> Found:
    """Return which intervals contain the scores of the population from which groups are drawn."""
    true, probabilities, groups = population(run, head)
    starts = np.searchsorted(groups, np.arange(groups.max() + 2))
    drawn = np.random.default_rng(seed).integers(0, groups.max() + 1, count)
    rows = np.concatenate([np.arange(starts[group], starts[group + 1]) for group in drawn])
    named = np.repeat(np.arange(count), (starts[1:] - starts[:-1])[drawn])
    scores = ("accuracy", "macro_f1", "roc_auc", "log_loss")
    found = _held(scores, scores_of_population(run, head), true[rows], probabilities[rows], named, seed)
    correct = [probabilities.argmax(1) == true, population(run, other)[1].argmax(1) == true]
    pair = compare_pair(correct[0][rows], correct[1][rows], named)
    return found | {"difference": pair.low <= correct[0].mean() - correct[1].mean() <= pair.high}


def _held(
    scores: tuple[str, ...], truth: dict[str, Any], true: Any, probabilities: Any, groups: Groups, seed: int
) -> Found:
    names = [str(index) for index in range(probabilities.shape[1])]
    predicted = probabilities.argmax(1)
    found = score_intervals(true, predicted, probabilities, names, groups, resamples=500, seed=seed + 10**6)
    return {name: found[name][0] <= truth[name] <= found[name][1] for name in scores if name in found}


def folds_of_ties(k: int, repeats: int, seed: int) -> Found:
    """Return which tests over folds reject two equally good learners."""
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
    return {"ours": compare_folds(differences, sizes).p < 0.05, "plain t": bool(plain < 0.05)}


def shown_images(images: int, kind: str) -> str:
    """Return how a table names so many images in such groups."""
    groups = groups_of(images, kind)
    return f"{images:,}" if groups is None else f"{images:,} in {groups.max() + 1} {kind} groups"


def fractions(function: Callable[..., Found], first_seed: int, rounds: int, *arguments: Any) -> dict[str, float]:
    """Return how often each answer is yes."""
    from joblib import Parallel, delayed

    seeds = np.array_split(first_seed + np.arange(rounds), 4 * cpu_count())
    # forked, so that they inherit functools.cache
    run = Parallel(cpu_count(), backend="multiprocessing")
    parts = run(delayed(_many)(function, arguments, part) for part in seeds)
    answers = [answer for part in parts for answer in part]
    # rounds without an answer, such as an area when only one class was drawn, do not count
    names = dict.fromkeys(name for answer in answers for name in answer)
    return {name: float(np.mean([answer[name] for answer in answers if name in answer])) for name in names}


def _many(function: Callable[..., Found], arguments: tuple[Any, ...], seeds: Any) -> list[Found]:
    return [function(*arguments, int(seed)) for seed in seeds]


def tables(run: Path | None) -> dict[str, tuple[str, tuple[str, ...], Callable[..., Found], list[tuple[Any, ...]]]]:
    """Return of every table its title, the names of what is varied, what is simulated, and all cases."""
    accuracies = list(product(KINDS, IMAGES, (0.8, 0.95, 0.99)))
    separations = list(product(KINDS, IMAGES, ("normal", "heavy"), (1.0, 2.5, 4.0)))
    varied = ("kind", "images")
    found = {
        "scores": ("95 % intervals that contain the truth", (*varied, "true accuracy"), coverage, accuracies),
        "differences": (
            "95 % intervals of differences that contain the truth, and tests that find one where there is none",
            (*varied, "true accuracy"),
            differences,
            accuracies,
        ),
        "probabilities": (
            "95 % intervals of scores of probabilities that contain the truth",
            (*varied, "tails", "separation"),
            coverage_of_probabilities,
            separations,
        ),
        "folds": (
            "equally good learners that folds find different at 0.05",
            ("folds", "repeats"),
            folds_of_ties,
            [(5, 1), (5, 3), (10, 1)],
        ),
    }
    if run is not None:
        heads = list(dict.fromkeys(row["head"] for row in json.loads((run / "results.json").read_text())["heads"]))
        cases = [(run, *pair, count) for count in (20, 60, 150) for pair in combinations(heads, 2)]
        title = "95 % intervals that hold the scores of a real population"
        found["real"] = (title, ("run", "head", "other", "groups"), coverage_of_real, cases)
    return found


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
    parser.add_argument("--tables", help="names of tables, with commas")
    parser.add_argument("--run", type=Path, help="folder of a comparison with folds, for the table real")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    console = Console()
    console.print(f"{options.rounds:,} rounds: 95 % +-{196 * np.sqrt(0.95 * 0.05 / options.rounds):.1f}")
    result: dict[str, Any] = {"rounds": options.rounds}
    chosen = tables(options.run)
    for name in options.tables.split(",") if options.tables else chosen:
        title, varied, function, cases = chosen[name]
        result[name] = []
        for number, case in enumerate(cases):
            rounds = options.rounds // 4 if name == "folds" else options.rounds
            # separate seeds for each case, so that chance does not show as a pattern
            found = fractions(function, number * 10**5, rounds, *case)
            given = {key: str(value) if key == "run" else value for key, value in zip(varied, case, strict=True)}
            result[name].append(given | found)
        console.print(_table(title, result[name]))
    result["seconds"] = seconds_of_intervals()
    console.print(f"all intervals of a head on 3,000 test images: {result['seconds']:.2f} s")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


def _table(title: str, rows: list[dict[str, Any]]) -> Table:
    table = Table(title=f"{title}, %")
    shown = [row | {"images": shown_images(row["images"], row["kind"])} if "kind" in row else row for row in rows]
    columns = [column for column in shown[0] if column not in ("kind", "run")]
    for column in columns:
        table.add_column(column.replace("_", " "), justify="right", min_width=5)
    for row in shown:
        table.add_row(*(_cell(column, row[column]) for column in columns))
    return table


def _cell(column: str, value: Any) -> str:
    given = ("true accuracy", "separation")
    return f"{100 * value:.1f}" if isinstance(value, float) and column not in given else str(value)


if __name__ == "__main__":
    main()
