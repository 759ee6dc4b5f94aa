"""Suspected label errors, from the predictions of heads that were not trained on the image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...cache import as_csv, display
from ..scoring import ComparisonData
from ..shared import Record, Records


@dataclass(frozen=True)
class SuspectedError(Record):
    """An image whose label may be incorrect, the suggested class, and why: near-duplicates or probabilities.

    The probabilities of both classes are None where no head predicted the image.
    """

    row: int
    path: str
    label: str
    suggested: str
    reason: str
    p_label: float | None
    p_suggested: float | None
    group: str | None = None


_PAIRED = 10  # groups with two labels, from which on data may be paired


def suspected_rows(
    true: npt.NDArray[np.intp], probabilities: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the rows whose label is probably incorrect, the least probable label first, and the suggested classes."""
    # confident learning (Northcutt, Jiang and Chuang, 2021, doi:10.1613/jair.1.12125), by heads not trained on the row:
    # another class reaches its threshold, its mean probability over the images with this label
    thresholds = np.full(probabilities.shape[1], np.inf)
    for index in np.unique(true):
        thresholds[index] = probabilities[true == index, index].mean()
    reaching = np.where(probabilities >= thresholds, probabilities, -1)
    suggested = np.where((reaching >= 0).any(axis=1), reaching.argmax(axis=1), true)
    rows = np.arange(len(true))
    of_label = probabilities[rows, true]
    suspected = np.flatnonzero(probabilities[rows, suggested] > of_label)
    suspected = suspected[np.argsort(of_label[suspected], kind="stable")]
    return suspected, suggested[suspected]


def conflicting_rows(
    labels: npt.NDArray[np.integer], ids: npt.NDArray[np.intp]
) -> tuple[dict[int, int], tuple[int, int] | None]:
    """Return the label that most near-duplicates of each row with another label have, by row, the clearest first.

    Also return two classes if the groups pair them, such as images with and without something: their labels are
    not errors then.
    """
    order = np.argsort(ids, kind="stable")
    groups = [part for part in np.split(order, np.flatnonzero(np.diff(ids[order])) + 1) if len(part) > 1]
    found: list[tuple[float, int, int]] = []
    pairs: Counter[tuple[int, int]] = Counter()
    for rows in groups:
        present, counts = np.unique(labels[rows], return_counts=True)
        top = int(counts.argmax())
        if len(present) == 2 and counts[0] == counts[1]:
            pairs[int(present[0]), int(present[1])] += 1
        if 2 * counts[top] > len(rows) > counts[top]:
            share = counts[top] / len(rows)
            found += [(-share, int(row), int(present[top])) for row in rows[labels[rows] != present[top]]]
    paired = next((pair for pair, count in pairs.most_common(1) if count >= _PAIRED and 2 * count > len(groups)), None)
    return {row: label for _, row, label in sorted(found)}, paired


def label_errors(comparison: ComparisonData) -> tuple[str | None, Records[SuspectedError]]:
    """Return the head with the lowest log loss, or None, and the suspected label errors.

    First those that near-duplicates contradict, in all rows, then those of the test rows that this head contradicts.
    """
    able = [result for result in comparison.results if result.probabilities is not None]
    best = min(able, key=lambda result: (result.scores["log_loss"], result.name), default=None)
    cache, groups = comparison.cache, comparison.groups
    test = comparison.split.test
    place = {int(row): position for position, row in enumerate(test)}
    probabilities = None if best is None else best.probabilities
    suspected: dict[int, tuple[int, str]] = {}
    if groups is not None and groups.source == "found":
        conflicts, _ = conflicting_rows(cache.labels, groups.ids)
        suspected |= {row: (label, "near-duplicates") for row, label in conflicts.items()}
    if probabilities is not None:
        positions, suggested = suspected_rows(cache.labels[test].astype(np.intp), probabilities)
        for position, index in zip(positions.tolist(), suggested.tolist(), strict=True):
            suspected.setdefault(int(test[position]), (index, "probabilities"))

    def probability(row: int, index: int) -> float | None:
        if probabilities is None or row not in place or index >= probabilities.shape[1]:
            return None
        return float(probabilities[place[row], index])

    return None if best is None else best.name, Records(
        SuspectedError(
            row,
            cache.paths[row],
            cache.class_names[cache.labels[row]],
            cache.class_names[index],
            reason,
            probability(row, int(cache.labels[row])),
            probability(row, index),
            None if groups is None else groups.names[row],
        )
        for row, (index, reason) in suspected.items()
    )


def notes_on_pairs(comparison: ComparisonData) -> list[str]:
    """Return a note if most groups of near-duplicates pair two classes."""
    groups = comparison.groups
    if groups is None or groups.source != "found":
        return []
    _, paired = conflicting_rows(comparison.cache.labels, groups.ids)
    if paired is None:
        return []
    first, second = (display(comparison.cache.class_names[label]) for label in paired)
    return [
        f"most groups of near-duplicates hold as many images of {first} as of {second}, so the images seem to be "
        "pairs, such as with and without something. Their labels are then no errors"
    ]


def suspects_csv(errors: Sequence[SuspectedError]) -> bytes:
    """Return suspected label errors as CSV, without row numbers."""
    columns = ["path", "label", "suggested", "reason", "p_label", "p_suggested"]
    columns += ["group"] if errors and errors[0].group is not None else []
    values = ([error.to_dict()[name] for name in columns] for error in errors)
    return as_csv(columns, ([_cell(cell) for cell in row] for row in values))


def _cell(value: object) -> object:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else value
