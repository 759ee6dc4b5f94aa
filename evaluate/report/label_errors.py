"""Images whose label is probably wrong, by what heads say that were not trained on them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..scoring import ComparisonData, HeadResult
from ..shared import as_csv


def suspects(true: npt.NDArray[np.intp], probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Return the rows whose label is probably wrong, the most suspect first.

    Parameters
    ----------
    true : ndarray of intp, shape (t,)
        Labels.
    probabilities : ndarray of float64, shape (t, k)
        By heads that were not trained on the row.

    Returns
    -------
    ndarray of intp

    Notes
    -----
    Confident learning (Northcutt, Jiang and Chuang, 2021, doi:10.1613/jair.1.12125): a class's threshold is the mean
    probability that images labelled with it are given for it. A row is suspect when a class other than its label
    reaches its own threshold and is the most probable of those that do; rows are ordered by the probability of that
    class less that of the label.
    """
    suggested = _suggested(true, probabilities)
    rows = np.arange(len(true))
    margin = probabilities[rows, suggested] - probabilities[rows, true]
    found = np.flatnonzero(margin > 0)
    ordered: npt.NDArray[np.intp] = found[np.argsort(-margin[found], kind="stable")]
    return ordered


def _suggested(true: npt.NDArray[np.intp], probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Return the most probable class of those that reach their threshold; the label where none does: shape (t,)."""
    thresholds = np.full(probabilities.shape[1], np.inf)
    for index in np.unique(true):
        thresholds[index] = probabilities[true == index, index].mean()
    reaching = np.where(probabilities >= thresholds, probabilities, -1)
    suggested: npt.NDArray[np.intp] = np.where((reaching >= 0).any(axis=1), reaching.argmax(axis=1), true)
    return suggested


def label_errors(comparison: ComparisonData) -> tuple[str | None, list[dict[str, Any]]]:
    """Return the suspect labels among a comparison's test images, the most suspect first.

    With folds, these are all images of the cache.

    Parameters
    ----------
    comparison : ComparisonData

    Returns
    -------
    str or None
        The head whose probabilities were taken: of those that have any, the one of the lowest log loss.
    list of dict
        ``row`` of the cache, ``path``, ``label``, ``suggested``, the class that :func:`suspects` orders by, the
        probabilities ``p_label`` and ``p_suggested``, and ``group`` when groups are known.
    """
    able = [result for result in comparison.results if result.probabilities is not None]
    if not able:
        return None, []
    best = min(able, key=lambda result: (result.scores["log_loss"], result.name))
    return best.name, _listed(comparison, best)


def suspects_csv(listed: list[dict[str, Any]]) -> bytes:
    """Return what :func:`label_errors` lists as a table, without the rows' numbers."""
    columns = ["path", "label", "suggested", "p_label", "p_suggested"]
    columns += ["group"] if listed and "group" in listed[0] else []
    lines = ([f"{one[name]:.6g}" if name.startswith("p_") else one[name] for name in columns] for one in listed)
    return as_csv(columns, lines)


def _listed(comparison: ComparisonData, result: HeadResult) -> list[dict[str, Any]]:
    cache, rows = comparison.cache, comparison.split.test
    probabilities = result.probabilities
    if probabilities is None:
        return []
    true = cache.labels[rows].astype(np.intp)
    suggestions = _suggested(true, probabilities)
    listed = []
    for place in suspects(true, probabilities).tolist():
        label, suggested = int(true[place]), int(suggestions[place])
        listed.append(
            {
                "row": int(rows[place]),
                "path": cache.paths[rows[place]],
                "label": cache.class_names[label],
                "suggested": cache.class_names[suggested],
                "p_label": float(probabilities[place, label]),
                "p_suggested": float(probabilities[place, suggested]),
            }
        )
        if comparison.groups is not None:
            listed[-1]["group"] = comparison.groups.names[rows[place]]
    return listed
