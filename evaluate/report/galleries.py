"""The images of the page: incorrect predictions, differences between heads, and suspected label errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...cache import display
from ..scoring import ComparisonData, HeadResult
from ..shared import confused_pairs, evenly_spaced_indices, first_of_each, percent
from .activation_maps import MapRequest
from .figures import true_labels
from .label_errors import SuspectedError

PAIRS = 6
OPEN = 3  # pairs of classes that are not folded
_IMAGES = 12  # on each side of a pair of heads, and of a pair of classes
_FEW_IMAGES = 4  # of a pair of classes that is folded
_SUSPECTED = 24


class Entry(NamedTuple):
    """An image of the page; ``alike`` counts the images of its group that it represents."""

    row: int
    map: MapRequest
    path: str
    caption: str
    alike: int


def incorrect_predictions(comparison: ComparisonData) -> list[dict[str, Any]]:
    """Return the pairs of classes that the best head confuses most often, with images."""
    result, test, true = comparison.table[0], comparison.split.test, true_labels(comparison)
    names = [display(name) for name in comparison.cache.class_names]
    matrix = comparison.confusion(result.name)
    pairs = []
    for number, pair in enumerate(confused_pairs(matrix)):
        positions = np.flatnonzero((true == pair.true) & (result.predicted == pair.predicted))
        firsts, alike = first_of_each(_groups_of(comparison, test[positions]))
        chosen = evenly_spaced_indices(len(firsts), _IMAGES if number < OPEN else _FEW_IMAGES)
        images = [
            _incorrect(comparison, int(positions[first]), result, int(count))
            for first, count in zip(firsts[chosen], alike[chosen], strict=True)
        ]
        about = {"true": names[pair.true], "predicted": names[pair.predicted], "count": pair.images}
        about |= {"total": int(matrix[pair.true].sum()), "fraction": pair.fraction}
        pairs.append(about | {"groups": len(firsts), "images": images})
    return pairs


def _incorrect(comparison: ComparisonData, position: int, result: HeadResult, alike: int) -> Entry:
    """Return a test image that a head classifies incorrectly."""
    cache, row = comparison.cache, int(comparison.split.test[position])
    predicted = cache.class_names[result.predicted[position]]
    caption = f"labelled {display(cache.class_names[cache.labels[row]])}, {_prediction(comparison, position, result)}"
    request = MapRequest(result.name, row, predicted)
    return Entry(row, request, display(cache.paths[row]), caption + _among(alike), alike)


def differing_images(comparison: ComparisonData) -> list[dict[str, Any]]:
    """Return, for the first pairs of heads, test images that only one of them classifies correctly."""
    rows, true = comparison.split.test, true_labels(comparison)
    pairs = []
    for difference in comparison.differences[:PAIRS]:
        a, b = comparison.result(difference.a), comparison.result(difference.b)
        sides = []
        for correct, incorrect in ((a, b), (b, a)):
            positions = np.flatnonzero((correct.predicted == true) & (incorrect.predicted != true))
            firsts, counts = first_of_each(_groups_of(comparison, rows[positions]))
            chosen = evenly_spaced_indices(len(firsts), _IMAGES)
            images = [
                _entry(comparison, int(positions[first]), correct, incorrect, int(alike))
                for first, alike in zip(firsts[chosen], counts[chosen], strict=True)
            ]
            side = {"correct": display(correct.name), "count": len(positions), "groups": len(firsts)}
            sides.append(side | {"images": images})
        pairs.append({"a": display(a.name), "b": display(b.name), "sides": sides})
    return pairs


def _entry(comparison: ComparisonData, position: int, correct: HeadResult, incorrect: HeadResult, alike: int) -> Entry:
    """Return a test image that one head classifies correctly and the other incorrectly."""
    cache, row = comparison.cache, int(comparison.split.test[position])
    predictions = [_prediction(comparison, position, result) for result in (correct, incorrect)]
    caption = f"{display(cache.class_names[cache.labels[row]])}; {', '.join(predictions)}"
    request = MapRequest(incorrect.name, row, cache.class_names[incorrect.predicted[position]])
    return Entry(row, request, display(cache.paths[row]), caption + _among(alike), alike)


def suspected_images(comparison: ComparisonData, judge: str, errors: Sequence[SuspectedError]) -> list[Entry]:
    """Return the first suspected label errors, one image of each group."""
    if not errors:
        return []
    firsts, counts = first_of_each(_groups_of(comparison, np.array([error.row for error in errors])))
    entries = []
    for first, alike in list(zip(firsts.tolist(), counts.tolist(), strict=True))[:_SUSPECTED]:
        error = errors[first]
        caption = f"labelled {display(error.label)}{_in_brackets(error.p_label)}, "
        who = "most near-duplicates are" if error.reason == "near-duplicates" else f"{display(judge)} predicts"
        caption += f"{who} {display(error.suggested)}{_in_brackets(error.p_suggested)}"
        request = MapRequest(judge, error.row, error.suggested)
        entries.append(Entry(error.row, request, display(error.path), caption + _among(alike), alike))
    return entries


def _prediction(comparison: ComparisonData, position: int, result: HeadResult) -> str:
    index = int(result.predicted[position])
    given = "" if result.probabilities is None else f" ({percent(float(result.probabilities[position, index]))})"
    return f"{display(result.name)}: {display(comparison.cache.class_names[index])}{given}"


def _in_brackets(probability: float | None) -> str:
    return "" if probability is None else f" ({percent(probability)})"


def _among(alike: int) -> str:
    return f"; one of {alike} such images of its group" if alike > 1 else ""


def _groups_of(comparison: ComparisonData, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Return the group of each row, or the rows where groups are not known."""
    return rows if comparison.groups is None else comparison.groups.ids[rows]
