"""Scores of predictions by scikit-learn's definitions, in one table."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

if TYPE_CHECKING:  # the command line reads the table, and the import takes milliseconds
    import numpy.typing as npt

    Counts: TypeAlias = npt.NDArray[np.float64]
    """Shape (..., 3, k): for each class its correctly predicted images, its images, and the images predicted as it."""


class Metric(NamedTuple):
    """A score, and how it is shown; ``measure`` takes ``Counts``, or true classes and probabilities."""

    name: str
    title: str
    measure: Callable[..., Any]
    heading: str = ""  # a shorter title for columns
    of_probabilities: bool = False
    higher_is_better: bool = True
    bounds: tuple[float, float] = (0.0, 1.0)  # scale of the interval of a function of counts
    percent: bool = False
    shown: bool = True  # in tables; results have all metrics

    @property
    def column(self) -> str:
        """Its heading in tables."""
        return self.heading or self.title

    @property
    def sign(self) -> int:
        """1 if more is better, else -1."""
        return 1 if self.higher_is_better else -1


def accuracy(counts: Counts) -> npt.NDArray[np.float64]:
    """Return the fraction of correct predictions."""
    correct, of_class, _ = np.moveaxis(counts, -2, 0)
    fraction: npt.NDArray[np.float64] = correct.sum(-1) / of_class.sum(-1)
    return fraction


def balanced_accuracy(counts: Counts) -> npt.NDArray[np.float64]:
    """Return the mean recall of the classes that occur; scikit-learn's function warns about the others."""
    correct, of_class, _ = np.moveaxis(counts, -2, 0)
    return _mean_where(correct, of_class, of_class > 0)


def macro_f1(counts: Counts) -> npt.NDArray[np.float64]:
    """Return the mean F1 of the classes that occur or are predicted."""
    correct, of_class, predicted = np.moveaxis(counts, -2, 0)
    both = of_class + predicted
    return _mean_where(2 * correct, both, both > 0)


def matthews(counts: Counts) -> npt.NDArray[np.float64]:
    """Return Matthews's correlation (Gorodkin, 2004, doi:10.1016/j.compbiolchem.2004.09.006), 0 if constant."""
    correct, of_class, predicted = np.moveaxis(counts, -2, 0)
    total = of_class.sum(-1)
    agreement = correct.sum(-1) * total - (of_class * predicted).sum(-1)
    spread = (total**2 - (of_class**2).sum(-1)) * (total**2 - (predicted**2).sum(-1))
    correlation: npt.NDArray[np.float64] = np.divide(
        agreement, np.sqrt(spread), out=np.zeros(np.shape(spread)), where=spread > 0
    )
    return correlation


def log_loss(true: npt.NDArray[np.intp], probabilities: npt.NDArray[np.float64]) -> float:
    """Return the mean negative natural logarithm of the true class's probability, as scikit-learn's ``log_loss``."""
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        wrong = probabilities[~((probabilities >= 0) & (probabilities <= 1))]
        raise ValueError(f"probabilities must be from 0 to 1, got {wrong[0]}")
    if not np.isclose(probabilities.sum(axis=1), 1, atol=1e-4).all():  # those of heads in float32 are near 1
        warnings.warn("the probabilities of an image do not sum to 1, so that log loss means little", stacklevel=3)
    return float(losses(true, probabilities).mean())


def losses(true: npt.NDArray[np.intp], probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the negative natural logarithm of the true class's probability of every image, shape (t,)."""
    tiny = np.finfo(probabilities.dtype).eps
    found: npt.NDArray[np.float64] = -np.log(np.clip(probabilities[np.arange(len(true)), true], tiny, 1 - tiny))
    return found


def roc_auc(true: npt.NDArray[np.intp], probabilities: npt.NDArray[np.float64]) -> float | None:
    """Return the mean area under the one-vs-rest ROC curves of the classes that occur, None for one class."""
    present = np.unique(true)
    if len(present) < 2:
        return None
    return float(np.mean([roc_area(true == index, probabilities[:, index]) for index in present]))


def roc_area(positive: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64]) -> float:
    """Return the area under a ROC curve, with the arithmetic of scikit-learn's ``roc_auc_score``, for many classes."""
    hits, misses = _curve(positive, scores)
    if len(hits) > 2:  # the points on straight lines are left out
        corners = np.r_[True, (np.diff(misses, 2) != 0) | (np.diff(hits, 2) != 0), True]
        hits, misses = hits[corners], misses[corners]
    hits, misses = np.r_[0.0, hits], np.r_[0.0, misses]
    return float(np.trapezoid(hits / hits[-1], misses / misses[-1]))


def average_precision(positive: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64]) -> float:
    """Return the average precision, as scikit-learn's ``average_precision_score`` defines it."""
    hits, misses = _curve(positive, scores)
    return float(np.sum(np.diff(hits / hits[-1], prepend=0.0) * (hits / (hits + misses))))


def _curve(positive: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64]) -> tuple[Counts, Counts]:
    """Return the numbers of positives and of negatives from each distinct score on, the highest first."""
    order = np.argsort(-scores, kind="stable")
    ends = np.r_[np.flatnonzero(np.diff(scores[order])), len(scores) - 1]
    hits = np.cumsum(positive[order], dtype=np.float64)[ends]
    return hits, 1.0 + ends - hits


METRICS = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "accuracy", accuracy, percent=True),
        Metric("balanced_accuracy", "balanced accuracy", balanced_accuracy, heading="balanced", percent=True),
        Metric("macro_f1", "macro F1", macro_f1, percent=True),
        Metric("log_loss", "log loss", log_loss, of_probabilities=True, higher_is_better=False, bounds=(0.0, math.inf)),
        Metric("roc_auc", "ROC AUC", roc_auc, of_probabilities=True),
        Metric("mcc", "Matthews correlation", matthews, heading="MCC", bounds=(-1.0, 1.0), shown=False),
    )
}
"""Every score by its name, in the order of results and tables."""


SKEWED = 1.5
"""From this ratio of the largest to the smallest class on, accuracy mostly measures the largest."""


def leading_metric(labels: npt.NDArray[np.integer]) -> str:
    """Return the score that orders heads on a data set: ``balanced_accuracy`` if its classes differ much in size."""
    counts = np.bincount(labels[labels >= 0])
    counts = counts[counts > 0]
    return "balanced_accuracy" if len(counts) and counts.max() > SKEWED * counts.min() else "accuracy"


def shown_metrics(first: str) -> list[Metric]:
    """Return the metrics that are columns of tables, ``first`` before the others."""
    shown = [metric for metric in METRICS.values() if metric.shown and metric.name != first]
    return [METRICS[first], *shown]


def score(
    true: npt.NDArray[np.intp],
    predicted: npt.NDArray[np.intp],
    probabilities: npt.NDArray[np.float64] | None,
    class_names: list[str],
) -> dict[str, Any]:
    """Score predictions: a float or None for each of `METRICS`, ``per_class`` and ``confusion``, rows true."""
    k = len(class_names)
    confusion = np.bincount(true * k + predicted, minlength=k * k).reshape(k, k)
    counts = np.stack([np.diagonal(confusion), confusion.sum(1), confusion.sum(0)]).astype(np.float64)
    correct, of_class, named = counts
    precision, recall, f1 = (
        np.divide(above, below, out=np.zeros(k), where=below > 0)
        for above, below in ((correct, named), (correct, of_class), (2 * correct, of_class + named))
    )
    scores: dict[str, Any] = {}
    for name, metric in METRICS.items():
        if not metric.of_probabilities:
            scores[name] = float(metric.measure(counts))
        else:
            scores[name] = None if probabilities is None else metric.measure(true, probabilities)
    # the fraction of the images of other classes that are not predicted as this one, 0 without any
    others, wrong = confusion.sum() - confusion.sum(axis=1), confusion.sum(axis=0) - confusion.diagonal()
    specificity = np.where(others > 0, 1 - wrong / np.maximum(others, 1), 0.0)
    scores["per_class"] = [
        {
            "class": name,
            "precision": float(precision[index]),
            "recall": float(recall[index]),
            "f1": float(f1[index]),
            "specificity": float(specificity[index]),
            "support": int(of_class[index]),
        }
        for index, name in enumerate(class_names)
    ]
    return scores | {"confusion": confusion.tolist()}


def align_probabilities(
    probabilities: npt.NDArray[np.float64], classes: npt.NDArray[Any], class_names: list[str]
) -> npt.NDArray[np.float64]:
    """Reorder a head's probability columns to ``class_names``; a class that it never saw gets 0."""
    index = {name: column for column, name in enumerate(class_names)}
    aligned = np.zeros((len(probabilities), len(class_names)))
    aligned[:, [index[str(name)] for name in classes]] = probabilities
    return aligned


def _mean_where(
    above: npt.NDArray[np.floating], below: npt.NDArray[np.floating], where: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    quotients = np.divide(above, below, out=np.zeros(above.shape), where=where)
    mean: npt.NDArray[np.float64] = quotients.sum(-1) / np.maximum(where.sum(-1), 1)
    return mean
