"""Suspected label errors, from the predictions of heads that were not trained on the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...cache import as_csv
from ..scoring import ComparisonData
from ..shared import Record, Records


@dataclass(frozen=True)
class SuspectedError(Record):
    """An image whose label may be incorrect, with the probabilities of the label and of the suggested class."""

    row: int
    path: str
    label: str
    suggested: str
    p_label: float
    p_suggested: float
    group: str | None = None


def suspected_rows(
    true: npt.NDArray[np.intp], probabilities: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the rows whose label is probably incorrect, the most suspicious first, and the suggested classes."""
    # confident learning (Northcutt, Jiang and Chuang, 2021, doi:10.1613/jair.1.12125), by heads not trained on the row:
    # another class reaches its threshold, its mean probability over the images with this label
    thresholds = np.full(probabilities.shape[1], np.inf)
    for index in np.unique(true):
        thresholds[index] = probabilities[true == index, index].mean()
    reaching = np.where(probabilities >= thresholds, probabilities, -1)
    suggested = np.where((reaching >= 0).any(axis=1), reaching.argmax(axis=1), true)
    rows = np.arange(len(true))
    margin = probabilities[rows, suggested] - probabilities[rows, true]
    suspected = np.flatnonzero(margin > 0)
    suspected = suspected[np.argsort(-margin[suspected], kind="stable")]
    return suspected, suggested[suspected]


def label_errors(comparison: ComparisonData) -> tuple[str | None, Records[SuspectedError]]:
    """Return the head with the lowest log loss, or None, and the label errors that it suggests."""
    able = [result for result in comparison.results if result.probabilities is not None]
    if not able:
        return None, Records()
    best = min(able, key=lambda result: (result.scores["log_loss"], result.name))
    assert best.probabilities is not None
    cache, rows = comparison.cache, comparison.split.test
    true = cache.labels[rows].astype(np.intp)
    suspected = zip(*(part.tolist() for part in suspected_rows(true, best.probabilities)), strict=True)
    return best.name, Records(
        SuspectedError(
            int(rows[position]),
            cache.paths[rows[position]],
            cache.class_names[true[position]],
            cache.class_names[suggested],
            float(best.probabilities[position, true[position]]),
            float(best.probabilities[position, suggested]),
            None if comparison.groups is None else comparison.groups.names[rows[position]],
        )
        for position, suggested in suspected
    )


def suspects_csv(errors: Sequence[SuspectedError]) -> bytes:
    """Return suspected label errors as CSV, without row numbers."""
    columns = ["path", "label", "suggested", "p_label", "p_suggested"]
    columns += ["group"] if errors and errors[0].group is not None else []
    values = ([error.to_dict()[name] for name in columns] for error in errors)
    return as_csv(columns, ([f"{cell:.6g}" if isinstance(cell, float) else cell for cell in row] for row in values))
