"""Simulate the coverage of the confidence intervals, the error rate of the tests, and the estimate for the best head.

    python benchmarks/statistics.py [--rounds N] [--tables NAMES] [--run DIR] [--json FILE]

The truth is known: the output of a head is normally distributed in each class, and the outputs of a group have a part
in common. **alone**: every image is a group. **drawn**: as alone, and the numbers of images of the classes are drawn
too. **even**: groups of 20 images with a correlation of 0.7, so that most are correct or incorrect as a whole.
**uneven**: groups of 1 to 60 images, log-normally distributed, with a correlation of 0.3. **hard**: uneven, and the
larger a group, the harder. **mixed**: uneven, and each group has images of all classes. **common**: as mixed, and
difficult groups are difficult in all classes.

- **scores**: the fraction of 95 % intervals that contain the true score, for classes of equal and of unequal sizes,
  and for an easy, a moderate and a difficult task; and how often the report notes that intervals may be off.
- **tests**: two equally good heads, and how often they are called different at 0.05, by accuracy and by balanced
  accuracy, where a tenth of the groups are of a second class; and by sign flips alone. **exchangeable**: the heads err
  alike, and agree on 60 % of the groups. **images, groups**: one errs on single images and the other on whole groups.
  **half**: as before, but half of their errors are the same. **power**: as exchangeable, but one errs twice as often.
  **tied**: how often two heads are called practically tied by accuracy.
- **unpaired**: one head on two separate sets of images, on which it is equally good, as for ``--external``: how often
  they are called different at 0.05, by accuracy and by balanced accuracy. The second set has three times or a fifth as
  many groups as the first.
- **own**: as scores, of a metric of the user, Cohen's kappa, by the jackknife; rounds without an error do not count.
  **own_tests**: as tests, by the same.
- **best**: the score of the best of several heads, less the true score of that head, as it is and corrected for the
  choice, in points of accuracy; and the coverage of the corrected interval. Heads are equally good, or differ by up to
  so many points.
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
from embedonce.evaluate.metrics.intervals import accuracy_interval, score_intervals
from embedonce.evaluate.metrics.metrics import METRICS, score
from embedonce.evaluate.metrics.own_metrics import (
    Answers,
    Contributions,
    compare_contributions,
    contributions_interval,
    find_contributions,
    read_metrics,
)
from embedonce.evaluate.metrics.paired_tests import MARGIN, PairedTest, compare_folds, compare_pair, sign_flip_p
from embedonce.evaluate.metrics.selection import Predicted, selection_bias
from embedonce.evaluate.metrics.unpaired_tests import Sample, unpaired_p
from embedonce.evaluate.splits.plan import FEW, FEW_ERRORS, UNEQUAL
from embedonce.extract import cpu_count
from rich.console import Console
from rich.table import Table
from sklearn.metrics import cohen_kappa_score

CORRELATION = {"alone": 0.0, "drawn": 0.0, "even": 0.7, "uneven": 0.3, "hard": 0.3, "mixed": 0.3, "common": 0.3}
SHARED = ("mixed", "common")  # groups have images of all classes
SEPARATIONS = (1.5, 2.5, 4.0)
MEAN_SIZE = 13.6  # of uneven groups
Groups = npt.NDArray[np.intp] | None
Found = dict[str, float]


def kappa(true: npt.NDArray[np.str_], predicted: npt.NDArray[np.str_]) -> float:
    """Return Cohen's kappa, in less time than scikit-learn's function, which is called a thousand times here."""
    names, counts = np.unique(true, return_counts=True)
    of_name = dict(zip(*np.unique(predicted, return_counts=True), strict=True))
    by_chance = sum(count * of_name.get(name, 0) for name, count in zip(names, counts, strict=True)) / len(true) ** 2
    return float(((true == predicted).mean() - by_chance) / (1 - by_chance))


KAPPA = read_metrics(kappa, ["0", "1", "2"], "statistics")["kappa"]


def sizes_of_groups(kind: str, groups: int, generator: np.random.Generator) -> npt.NDArray[np.intp]:
    """Draw the number of images of every group."""
    if CORRELATION[kind] == 0:
        return np.ones(groups, np.intp)
    if kind == "even":
        return np.full(groups, 20)
    return np.clip(generator.lognormal(2.2, 0.9, groups).round(), 1, 60).astype(np.intp)


def draw_outputs(
    kind: str, groups: tuple[int, ...], separation: float, generator: np.random.Generator
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64], npt.NDArray[np.intp]]:
    """Draw class, probabilities and group of the images of so many groups of each class."""
    shared, k, first = CORRELATION[kind], len(groups), 0
    if kind == "drawn":
        groups = tuple(generator.multinomial(sum(groups), np.array(groups) / sum(groups)).tolist())
    parts: list[tuple[npt.NDArray[Any], ...]] = []
    common = generator.normal(size=(max(groups), k))
    for label, count in enumerate(groups):
        sizes = sizes_of_groups(kind, count, generator)
        of_row = np.repeat(np.arange(count), sizes)
        effect = common[:count] if kind in SHARED else generator.normal(size=(count, k))
        if kind == "common":
            effect = np.where(np.arange(k) == label, np.sqrt(2) * effect[:, :1], 0)
        output = np.sqrt(shared) * effect[of_row] + np.sqrt(1 - shared) * generator.normal(size=(len(of_row), k))
        harder = np.minimum(sizes / MEAN_SIZE, 3) if kind == "hard" else np.ones(count)
        output[:, label] += separation * (1.3 - 0.3 * harder)[of_row]
        parts.append((np.full(len(of_row), label), output, of_row + first))
        first += 0 if kind in SHARED else count
    true, outputs, of_image = (np.concatenate(part) for part in zip(*parts, strict=True))
    scores = np.exp(1.5 * (outputs - outputs.max(1, keepdims=True)))  # overconfident
    return true, scores / scores.sum(1, keepdims=True), of_image


@functools.cache
def true_scores(kind: str, groups: tuple[int, ...], separation: float) -> dict[str, float]:
    """Return the scores of a head on enough images to be the truth, with the classes in proportion."""
    from sklearn.metrics import roc_auc_score

    many = 1_500_000 // len(groups) // (1 if CORRELATION[kind] == 0 else 14)
    kind = "alone" if kind == "drawn" else kind
    true, probabilities, _ = draw_outputs(kind, (many,) * len(groups), separation, np.random.default_rng(0))
    weights = (np.array(groups) / np.bincount(true))[true]
    confusion = np.zeros((len(groups), len(groups)))
    np.add.at(confusion, (true, probabilities.argmax(1)), weights)
    counts = np.stack([np.diagonal(confusion), confusion.sum(1), confusion.sum(0)])
    found = {name: float(one.measure(counts)) for name, one in METRICS.items() if not one.of_probabilities}
    losses = -np.log(probabilities[np.arange(len(true)), true])
    part = slice(None, None, 5)  # of areas, which take long
    areas = [
        roc_auc_score(true[part] == label, probabilities[part, label], sample_weight=weights[part])
        for label in range(len(groups))
    ]
    return found | {"log_loss": float(np.average(losses, weights=weights)), "roc_auc": float(np.mean(areas))}


def coverage(kind: str, groups: tuple[int, ...], separation: float, seed: int) -> Found:
    """Return which intervals of one simulated head contain the truth, and whether a note says that they may not."""
    true, probabilities, of_row = draw_outputs(kind, groups, separation, np.random.default_rng(seed))
    found = _held(tuple(METRICS), true_scores(kind, groups, separation), true, probabilities, of_row, seed)
    return found | {"noted": coverage_noted(true, probabilities.argmax(1), of_row)}


def coverage_noted(true: npt.NDArray[np.intp], predicted: npt.NDArray[np.intp], of_row: npt.NDArray[np.intp]) -> bool:
    """Return whether a note says that intervals may be too narrow or too wide."""
    wrong = len(np.unique(of_row[predicted != true]))
    fewest = min(units(of_row[true == label], int((true == label).sum())).effective for label in np.unique(true))
    every = units(of_row, len(true))
    return fewest < FEW or wrong < FEW_ERRORS or every.effective < UNEQUAL * every.groups


def draw_correct(
    accuracy: float, of_row: npt.NDArray[np.intp], kind: str, generator: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Draw which images are classified correctly."""
    if CORRELATION[kind] == 0:
        return generator.random(len(of_row)) < accuracy
    spread = (1 - CORRELATION[kind]) / CORRELATION[kind]
    of_group = generator.beta(accuracy * spread, (1 - accuracy) * spread, of_row.max() + 1)
    return generator.random(len(of_row)) < of_group[of_row]


def two_heads(
    design: str, accuracy: float, of_row: npt.NDArray[np.intp], kind: str, generator: np.random.Generator
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], float]:
    """Draw which images two heads classify correctly; return the true difference too."""
    groups = of_row.max() + 1
    if design in ("exchangeable", "power"):
        first, other = (draw_correct(accuracy, of_row, kind, generator) for _ in range(2))
        second = np.where((generator.random(groups) < 0.6)[of_row], first, other)
        if design == "exchangeable":
            return first, second, 0.0
        return first, second & draw_correct(2 - 1 / accuracy, of_row, kind, generator), 1 - accuracy
    same = np.ones(len(of_row), np.bool_)
    if design == "half":
        same, accuracy = draw_correct((1 + accuracy) / 2, of_row, kind, generator), 2 * accuracy / (1 + accuracy)
    single, whole = generator.random(len(of_row)) < accuracy, (generator.random(groups) < accuracy)[of_row]
    return same & single, same & whole, 0.0


def tests(design: str, kind: str, groups: int, accuracy: float, seed: int) -> Found:
    """Return whether two heads are called different, and whether the interval contains the difference."""
    generator = np.random.default_rng(seed)
    of_row = np.repeat(np.arange(groups), sizes_of_groups(kind, groups, generator))
    a, b, truth = two_heads(design, accuracy, of_row, kind, generator)
    plain = compare_pair(a, b, of_row)
    balanced = compare_pair(a, b, of_row, (of_row % 10 == 0).astype(np.intp))
    flips = sign_flip_p(np.bincount(of_row, a.astype(int) - b.astype(int)).astype(np.int64))
    return {
        "accuracy": plain.p < 0.05,
        "balanced": balanced.p < 0.05,
        "sign flips": flips < 0.05,
        "tied": plain.p >= 0.05 and max(abs(plain.low), abs(plain.high)) <= MARGIN,
        "accuracy covered": plain.low <= truth <= plain.high,
        "balanced covered": balanced.low <= truth <= balanced.high,
    }


def unpaired(kind: str, groups: int, others: int, accuracy: float, seed: int) -> Found:
    """Return whether two sets with the same truth are called different."""
    generator = np.random.default_rng(seed)
    samples = []
    for count in (groups, others):
        of_row = np.repeat(np.arange(count), sizes_of_groups(kind, count, generator))
        classes = (of_row % 3 == 0).astype(np.intp)
        samples.append(Sample(draw_correct(accuracy, of_row, kind, generator), classes, of_row))
    first, second = samples
    return {f"by {metric}": unpaired_p(first, second, metric) < 0.05 for metric in ("accuracy", "balanced_accuracy")}


def best(heads: int, spread: float, kind: str, groups: int, accuracy: float, seed: int) -> Found:
    """Return the score of the best head less the truth, in points, and whether its interval contains the truth."""
    from scipy.stats import norm

    generator = np.random.default_rng(seed)
    of_row = np.repeat(np.arange(groups), sizes_of_groups(kind, groups, generator))
    accuracies = accuracy - spread / 100 * np.arange(heads) / (heads - 1)
    shared = CORRELATION[kind]
    # half of the variance is common to all heads
    of_group = generator.normal(size=(groups, 1)) + generator.normal(size=(groups, heads))
    of_image = generator.normal(size=(len(of_row), 1)) + generator.normal(size=(len(of_row), heads))
    drawn = np.sqrt(shared / 2) * of_group[of_row] + np.sqrt((1 - shared) / 2) * of_image
    correct = drawn < norm.ppf(accuracies)
    chosen = int(correct.mean(0).argmax())
    predicted = {str(number): Predicted(np.where(correct[:, number], 0, 1), None) for number in range(heads)}
    bias = selection_bias("accuracy", np.zeros(len(of_row), np.intp), predicted, 2, of_row, seed=seed)
    low, high = accuracy_interval(correct[:, chosen], units(of_row, len(of_row)))
    plain = float(correct[:, chosen].mean() - accuracies[chosen])
    return {
        "as it is, points": 100 * plain,
        "corrected, points": 100 * (plain + bias),
        "covered": low <= accuracies[chosen] <= high,
        "corrected covered": low + bias <= accuracies[chosen] <= high,
    }


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
    scores = ("accuracy", "balanced_accuracy", "macro_f1", "roc_auc", "log_loss")
    found = _held(scores, scores_of_population(run, head), true[rows], probabilities[rows], named, seed)
    correct = [probabilities.argmax(1) == true, population(run, other)[1].argmax(1) == true]
    pair = compare_pair(correct[0][rows], correct[1][rows], named)
    return found | {"difference": pair.low <= correct[0].mean() - correct[1].mean() <= pair.high}


def _held(
    scores: tuple[str, ...], truth: dict[str, Any], true: Any, probabilities: Any, groups: Groups, seed: int
) -> Found:
    names = [str(index) for index in range(probabilities.shape[1])]
    predicted = probabilities.argmax(1)
    found = score_intervals(true, predicted, probabilities, names, groups, seed=seed)
    return {name: found[name][0] <= truth[name] <= found[name][1] for name in scores if name in found}


def own(kind: str, groups: tuple[int, ...], separation: float, seed: int) -> Found:
    """Return whether the interval of a metric of the user, Cohen's kappa, contains the truth, and if a note warns."""
    true, probabilities, of_row = draw_outputs(kind, groups, separation, np.random.default_rng(seed))
    predicted = probabilities.argmax(1)
    value, found = _kappa(true, predicted, of_row)
    classes = [str(index) for index in range(len(groups))]
    answers = Answers(true.astype(str), predicted.astype(str), None, classes)
    interval = contributions_interval(KAPPA, answers, value, found)
    if interval is None:
        return {}
    noted = coverage_noted(true, predicted, of_row)
    return {"kappa": interval[0] <= true_kappa(kind, groups, separation) <= interval[1], "noted": noted}


def _kappa(
    true: npt.NDArray[np.intp], predicted: npt.NDArray[np.intp], of_row: npt.NDArray[np.intp]
) -> tuple[float, Contributions]:
    answers = Answers(true.astype(str), predicted.astype(str), None, [])
    value = KAPPA.measure(answers)
    return value, find_contributions(KAPPA, answers, value, of_row)


@functools.cache
def true_kappa(kind: str, groups: tuple[int, ...], separation: float) -> float:
    """Return Cohen's kappa of a head on enough images to be the truth, with the classes in proportion."""
    many = 500_000 // len(groups) // (1 if CORRELATION[kind] == 0 else 14)
    true, probabilities, _ = draw_outputs(
        "alone" if kind == "drawn" else kind, (many,) * len(groups), separation, np.random.default_rng(0)
    )
    weights = (np.array(groups) / np.bincount(true))[true]
    return float(cohen_kappa_score(true, probabilities.argmax(1), sample_weight=weights))


def own_tests(design: str, kind: str, groups: int, accuracy: float, seed: int) -> Found:
    """Return whether two heads are called different by Cohen's kappa of three classes."""
    generator = np.random.default_rng(seed)
    of_row = np.repeat(np.arange(groups), sizes_of_groups(kind, groups, generator))
    true = (of_row % 3).astype(np.intp)
    values, found = {}, {}
    for name, correct in zip("ab", two_heads(design, accuracy, of_row, kind, generator), strict=False):
        predicted = np.where(correct, true, (true + 1) % 3)
        values[name], found[name] = _kappa(true, predicted, of_row)
    (row,) = compare_contributions(KAPPA, values, found)
    return {"kappa": row.p < 0.05}


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
    certain = PairedTest("accuracy", 0.0, 0.0, 0.0, 0.0, "none", (0, 0))  # the t test alone
    return {"corrected t": compare_folds(differences, sizes, certain).p < 0.05, "plain t": bool(plain < 0.05)}


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
    sizes = {
        "alone": [(20, 20), (100, 100, 100), (300, 20), (1000, 100, 20), (1000, 10), (20,) * 20],
        "drawn": [(300, 30), (1000, 100, 30)],
        "even": [(25, 25, 25), (100, 25), (20,) * 10],
        "uneven": [(30, 30, 30), (150, 30), (150, 50, 30)],
        "hard": [(40, 40, 40), (200, 40)],
        "mixed": [(40, 40, 40), (120, 40)],
        "common": [(40, 40, 40), (120, 40)],
    }
    scores = [(kind, each, separation) for kind in sizes for each in sizes[kind] for separation in SEPARATIONS]
    grouped = list(product(("even", "uneven"), (25, 150), (0.8, 0.95, 0.99)))
    alone = list(product(("alone",), (100, 500), (0.8, 0.95, 0.99)))
    designs = [("exchangeable", *case) for case in alone + grouped]
    designs += [(design, *case) for design in ("images, groups", "half") for case in grouped]
    designs += [("power", *case) for case in alone + grouped]
    heads = [
        (count, spread, *case)
        for count in (3, 20)
        for spread in (0.0, 2.0, 10.0)
        for case in (("alone", 100, 0.9), ("alone", 500, 0.9), ("even", 25, 0.9), ("uneven", 150, 0.95))
    ]
    found = {
        "scores": ("95 % intervals that contain the truth", ("kind", "groups", "separation"), coverage, scores),
        "tests": ("heads called different, and intervals", ("design", "kind", "groups", "accuracy"), tests, designs),
        "unpaired": (
            "equal scores on separate images that are called different",
            ("kind", "groups", "others", "accuracy"),
            unpaired,
            [
                (kind, groups, others, accuracy)
                for kind, counts in (("alone", (100, 500)), ("even", (30, 150)), ("uneven", (60, 150)))
                for groups in counts
                for others in (3 * groups, max(groups // 5, 20))
                for accuracy in (0.8, 0.95, 0.99)
            ],
        ),
        "own": (
            "95 % intervals of a metric of the user that contain the truth",
            ("kind", "groups", "separation"),
            own,
            [(kind, each, separation) for kind in sizes for each in sizes[kind][:2] for separation in SEPARATIONS],
        ),
        "own_tests": (
            "heads called different by a metric of the user",
            ("design", "kind", "groups", "accuracy"),
            own_tests,
            [design for design in designs if design[3] < 0.99],
        ),
        "best": ("best of several heads", ("heads", "spread", "kind", "groups", "accuracy"), best, heads),
        "folds": (
            "equally good learners that folds find different at 0.05",
            ("folds", "repeats"),
            folds_of_ties,
            [(5, 1), (5, 3), (10, 1)],
        ),
    }
    if run is not None:
        names = list(dict.fromkeys(row["head"] for row in json.loads((run / "results.json").read_text())["heads"]))
        cases = [(run, *pair, count) for count in (20, 60, 150) for pair in combinations(names, 2)]
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
            if name in ("scores", "own"):  # once, for all processes
                (true_scores if name == "scores" else true_kappa)(*case)
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
    columns = [column for column in rows[0] if column != "run"]
    for column in columns:
        table.add_column(column.replace("_", " "), justify="right", min_width=5)
    for row in rows:
        table.add_row(*(_cell(column, row[column]) for column in columns))
    return table


def _cell(column: str, value: Any) -> str:
    if isinstance(value, tuple):
        return f"{len(value)} x {value[0]}" if len(value) > 3 else ", ".join(map(str, value))
    if not isinstance(value, float) or column in ("accuracy", "separation", "spread"):
        return str(value)
    return f"{value:.2f}" if column.endswith("points") else f"{100 * value:.1f}"


if __name__ == "__main__":
    main()
