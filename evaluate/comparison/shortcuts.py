"""The shortcut audit: scores of small classifiers on values that hold no object, such as the sizes of the files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ...heads import make_head
from ...heads.numerics import shared
from ..metrics import Clusters, accuracy_interval, balanced_accuracy_interval, contributions, units
from ..scoring import NEAR, ShortcutAudit, ShortcutScore
from ..shared import Records
from ..splits import Split
from .result import Comparison
from .shortcut_families import CONTENT, Families, Rows, families_of

_TRAINING_ROWS = 3000
"""Small classifiers learn little more from more rows, and this limits the time and the number of files to read."""
_LEAST_OF_CLASS = 10
_LEAST_TESTED = 5  # images of a class that is told from the others
_TREES = 10
_MOST_CLASSES = 100  # of a logistic regression, whose time grows with them
_ROUNDS = 200  # of shuffled classes

Classes: TypeAlias = npt.NDArray[np.intp]
Predicted: TypeAlias = Mapping[str, Mapping[str, Classes]]
"""Classes of all test rows that each classifier predicts, by family and by classifier."""


def audit_shortcuts(comparison: Comparison, splits: Sequence[Split], seed: int) -> ShortcutAudit:
    """Score every family on the test images of the comparison, in each fold if there are some."""
    cache, best = comparison.cache, comparison.table[0]
    families, predicted = shared(
        ("shortcuts", id(cache), *map(id, splits), seed), lambda: _predict(comparison, splits, seed)
    )
    true = cache.labels[comparison.split.test].astype(np.intp)
    clusters = units(comparison.test_groups, len(true))
    weighted = comparison.ranked_by == "balanced_accuracy"
    every = _Test(true, clusters, weighted, comparison.ranked_by)
    chance, class_chance = _chance(every, predicted, seed)
    scores = [every.score(family, of_family, best.predicted, chance[1]) for family, of_family in predicted.items()]
    others = {row.family: predicted[row.family] for row in scores if not row.near}
    return ShortcutAudit(
        Records(sorted(scores, key=lambda row: -row.score)),
        Records(_of_classes(every, others, best.predicted, cache.class_names, class_chance)),
        best.name,
        every.value(best.predicted),
        every.majority,
        chance,
        tuple(families.constant),
        tuple(families.left_out),
    )


class _Test:
    """True classes of the test images, and scores of predictions of them."""

    def __init__(self, true: Classes, clusters: Clusters, weighted: bool, metric: str) -> None:
        self.true, self.clusters, self.metric = true, clusters, metric
        self.classes = true if weighted else None
        self.majority = self.value(np.full(len(true), np.bincount(true).argmax()))

    def score(
        self, family: str, by_classifier: Mapping[str, Classes], best: Classes, chance: float, label: str | None = None
    ) -> ShortcutScore:
        """Return the score of the better classifier, and whether it comes near the best head."""
        values = {name: self.value(predicted) for name, predicted in by_classifier.items()}
        name = max(values, key=values.__getitem__)
        of_best = self.value(best)
        least = self.majority + NEAR * max(0.0, of_best - self.majority)
        near = values[name] >= least and values[name] > chance
        low = high = values[name]
        if near or label is None:  # of a class, others are not kept
            correct = by_classifier[name] == self.true
            if self.classes is None:
                low, high = accuracy_interval(correct, self.clusters)
            else:
                low, high = balanced_accuracy_interval(correct, self.classes, self.clusters)
        return ShortcutScore(family, label, name, self.metric, values[name], low, high, of_best, near)

    def value(self, predicted: Classes) -> float:
        """Return the score of predictions."""
        return float(contributions(predicted == self.true, self.classes).mean())


def _of_classes(
    every: _Test, predicted: Predicted, best: Classes, class_names: Sequence[str], chance: float
) -> list[ShortcutScore]:
    """Return the families that tell one of several classes from all others about as well as the best head does."""
    # a source of one class is hidden in the score of many classes; brightness can be that of an object
    scores = []
    sizes = np.bincount(every.true)
    for label in np.flatnonzero(sizes >= _LEAST_TESTED).tolist() if np.count_nonzero(sizes) > 2 else ():
        one = _Test((every.true == label).astype(np.intp), every.clusters, True, "balanced_accuracy")
        for family, by_classifier in predicted.items():
            if family not in CONTENT:
                own = {name: (answers == label).astype(np.intp) for name, answers in by_classifier.items()}
                scores.append(one.score(family, own, (best == label).astype(np.intp), chance, class_names[label]))
    return sorted((row for row in scores if row.near), key=lambda row: -row.score)


def _predict(comparison: Comparison, splits: Sequence[Split], seed: int) -> tuple[Families, Predicted]:
    """Return the families, and what both classifiers predict of each on all test rows, in the first repeat of folds."""
    cache = comparison.cache
    labels, weighted = cache.labels.astype(np.intp), comparison.ranked_by == "balanced_accuracy"
    first = [split for split in splits if not split.repeat]
    trained = [_some_rows(split.train, labels, seed + number) for number, split in enumerate(first)]
    rows = np.unique(np.concatenate([*trained, *(split.test for split in first)]))
    order = np.argsort(np.concatenate([split.test for split in first]), kind="stable")
    families = families_of(cache, rows)
    predicted = {}
    for family, values in families.values.items():
        parts: dict[str, list[Classes]] = {}
        for train, split in zip(trained, first, strict=True):
            inside, outside = np.searchsorted(rows, train), np.searchsorted(rows, split.test)
            for name, answers in _fit(values[inside], labels[train], values[outside], weighted, seed).items():
                parts.setdefault(name, []).append(answers)
        whole = {name: np.concatenate(answers)[order] for name, answers in parts.items() if len(answers) == len(first)}
        predicted[family] = whole
    return families, predicted


def _some_rows(train: Rows, labels: Classes, seed: int) -> Rows:
    """Return at most about `_TRAINING_ROWS` of the training rows, of each class at most an equal number."""
    if len(train) <= _TRAINING_ROWS:
        return train
    shuffled = np.random.default_rng(seed).permutation(train)
    present = np.unique(labels[train])
    most = max(_LEAST_OF_CLASS, -(-_TRAINING_ROWS // len(present)))
    order = np.argsort(labels[shuffled], kind="stable")
    starts = np.searchsorted(labels[shuffled][order], present)
    return np.sort(np.concatenate([shuffled[order[start : start + most]] for start in starts.tolist()]))


def _fit(
    train: npt.NDArray[np.float32], labels: Classes, test: npt.NDArray[np.float32], weighted: bool, seed: int
) -> dict[str, Classes]:
    """Return the classes that a small forest and, if there are not many classes, a logistic regression predict."""
    from sklearn.tree import ExtraTreeClassifier  # sklearn.ensemble takes long to import

    weights = "balanced" if weighted else None
    trees = [
        ExtraTreeClassifier(max_depth=12, min_samples_leaf=2, class_weight=weights, random_state=seed + number)
        for number in range(_TREES)
    ]
    mean = np.mean([tree.fit(train, labels).predict_proba(test) for tree in trees], axis=0)
    classes = np.unique(labels)
    predicted = {"forest": classes[mean.argmax(axis=1)]}
    if 2 <= len(classes) <= _MOST_CLASSES:
        logreg = make_head("logreg", class_weight=weights)
        predicted["logreg"] = logreg.fit(train, labels).predict(test).astype(np.intp)
    return predicted


def _chance(every: _Test, predicted: Predicted, seed: int) -> tuple[tuple[float, float], float]:
    """Return the band of the highest score of predictions that have nothing to do with the classes.

    The second value is the highest score of one class against the others.
    """
    # classes of whole groups are shuffled, as images of one group are not independent; the predictions stay
    if not predicted:
        return (0.0, 0.0), 0.0
    generator, count = np.random.default_rng(seed), len(every.true)
    by_group = np.argsort(every.clusters.of_row, kind="stable")
    answers = np.stack([one[by_group] for pair in predicted.values() for one in pair.values()])
    of_files = np.repeat([family not in CONTENT for family in predicted], [len(pair) for pair in predicted.values()])
    sizes = np.bincount(every.true, minlength=int(answers.max()) + 1)
    named = np.stack([np.bincount(row, minlength=len(sizes)) for row in answers])
    tested = sizes >= _LEAST_TESTED
    highest, of_class = [], [0.0]
    for _ in range(_ROUNDS):
        order = np.argsort(generator.permutation(every.clusters.groups)[every.clusters.of_row], kind="stable")
        true = every.true[order]
        hits = np.stack([np.bincount(true[row == true], minlength=len(sizes)) for row in answers])
        recalls = hits / np.maximum(sizes, 1)
        values = hits.sum(1) / count if every.classes is None else recalls.sum(1) / np.count_nonzero(sizes)
        highest.append(values.max())
        others = 1 - (named - hits) / np.maximum(count - sizes, 1)
        if tested.any() and of_files.any():
            of_class.append(((recalls + others) / 2)[of_files][:, tested].max())
    low, high = np.quantile(highest, [0.025, 0.975]).tolist()
    return (low, high), float(max(of_class))
