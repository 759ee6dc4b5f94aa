"""Validation of trained heads on images from elsewhere: other caches, or the values of a column, such as sites."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache, display, open_cache, read_table
from ...errors import GroupsError, HeadError, ParameterError, SplitError, check_mapping, describe
from ...extract import Progress
from ..duplicates import groups_for, near_duplicates_in
from ..metrics import Sample, interval_of_difference, probability_scores, unpaired_p
from ..models import FeatureSource, NoveltyDetector
from ..scoring import (
    ExternalScore,
    ExternalSet,
    HeadResult,
    fit_and_score,
    part_of,
    record_scores,
    score_head,
    with_intervals,
    with_own_metrics,
)
from ..shared import Records
from ..splits import Groups, Split, column_of
from .result import Comparison

_MOST_VALUES = 50
Rows = npt.NDArray[np.intp]


def open_external(external: Any, classes: Any, cache: FeatureCache) -> tuple[list[FeatureCache | str], dict[str, str]]:
    """Return the external caches, or columns ``@NAME``, and the class of each of their other class names."""
    given = [external] if isinstance(external, str | os.PathLike | FeatureCache) else external
    if isinstance(given, bytes | Mapping) or not isinstance(given, Sequence):
        raise ParameterError(
            "parameter external of compare must be caches, paths of caches or a column such as '@site', got "
            f"{describe(given)}"
        )
    names = _read_names(classes)
    unknown = sorted(set(names.values()) - set(cache.class_names))
    if unknown:
        raise ParameterError(
            "parameter external_classes of compare must lead to the classes "
            f"{', '.join(map(display, cache.class_names))}, got {display(unknown[0])}"
        )
    opened: list[FeatureCache | str] = []
    for one in given:
        if isinstance(one, str) and one.startswith("@"):
            _sites(cache, one)
            opened.append(one)
            continue
        other = open_cache(one, "compare").labelled("compare")
        FeatureSource.of_cache(cache).require_same(other.fingerprint)
        if not len(_known(other, cache, names)[1]):
            raise HeadError(
                f"parameter external of compare must have some of the classes "
                f"{', '.join(map(display, cache.class_names))}, got {other.display_path} with "
                f"{', '.join(map(display, other.class_names))}. Map its classes with external_classes"
            )
        opened.append(other)
    return opened, names


def score_external(
    comparison: Comparison,
    external: Sequence[FeatureCache | str],
    names: Mapping[str, str],
    heads: Mapping[str, Any],
    progress: Progress,
) -> list[ExternalSet]:
    """Score heads on every external set; unfitted ``heads`` are trained for the values of a column."""
    sets = []
    trained = (comparison.folds[0] if comparison.folds else comparison.split).train
    detector = None if all(isinstance(one, str) for one in external) else _detector(comparison, trained)
    for one in external:
        if isinstance(one, str):
            sites = _sites(comparison.cache, one)
            sets += [_score_site(comparison, one, value, rows, heads, progress) for value, rows in sites]
        else:
            assert detector is not None
            sets.append(_score_cache(comparison, one, names, heads, trained, detector, progress))
    return sets


@dataclass(frozen=True)
class _Tested:
    """External rows of a cache, whether they have something in training, and the training rows of the comparison.

    ``path`` is that of the cache; ``cache`` has the classes of the comparison.
    """

    path: Path | None
    cache: FeatureCache
    rows: Rows
    groups: Groups | None
    related: npt.NDArray[np.bool_]
    relation: str
    trained: Rows
    detector: NoveltyDetector


def _detector(comparison: Comparison, trained: Rows) -> NoveltyDetector:
    cache, groups = comparison.cache, comparison.groups
    return NoveltyDetector.fit(
        lambda part: cache[trained[part]],
        cache.labels[trained].astype(np.intp),
        None if groups is None else groups.ids[trained],
    )


def _score_cache(
    comparison: Comparison,
    other: FeatureCache,
    names: Mapping[str, str],
    heads: Mapping[str, Any],
    trained: Rows,
    detector: NoveltyDetector,
    progress: Progress,
) -> ExternalSet:
    labelled, rows = _known(other, comparison.cache, names)
    groups, notes = groups_for(other, None, None, progress)
    progress.now(f"searching near-duplicates of the training images in {other.display_path} …")
    related = np.zeros(len(rows), np.bool_)
    try:
        related = near_duplicates_in(labelled.select(rows), comparison.cache.select(trained))
    except GroupsError as error:
        if not notes:
            notes = [f"near-duplicates of training images could not be searched, so scores may be too high: {error}"]
    name = "features in memory" if other.path is None else other.path.name
    comparison.notes += [f"{display(name)}: {note}" for note in notes]
    tested = _Tested(other.source, labelled, rows, groups, related, "a near-duplicate", trained, detector)
    of_all = [
        score_head(result.name, result.head, labelled, rows) for result in comparison.table if result.name in heads
    ]
    others = Counter(other.label_names[np.setdiff1d(np.arange(len(other)), rows)].tolist())
    return _summary(name, comparison, tested, of_all, dict(sorted(others.items())))


def _score_site(
    comparison: Comparison, column: str, value: str, rows: Rows, heads: Mapping[str, Any], progress: Progress
) -> ExternalSet:
    from sklearn.base import clone

    cache, groups = comparison.cache, comparison.groups
    split = Split(np.setdiff1d(np.arange(len(cache)), rows), rows)
    name = f"{column.removeprefix('@')} {value}"
    related = np.zeros(len(rows), np.bool_)
    relation = "a near-duplicate" if groups is None or groups.source == "found" else "an image of their group"
    if groups is not None:
        related = np.isin(groups.ids[rows], groups.ids[split.train])
    of_all = []
    for result in comparison.table:
        if result.name in heads:
            progress.now(f"training {display(result.name)} without {display(name)} …")
            of_all.append(fit_and_score(result.name, clone(heads[result.name]), cache, split, groups))
    detector = _detector(comparison, split.train)
    tested = _Tested(cache.source, cache, rows, groups, related, relation, split.train, detector)
    return _summary(name, comparison, tested, of_all, {})


def _summary(
    name: str, comparison: Comparison, tested: _Tested, of_all: Sequence[HeadResult], left_out: Mapping[str, int]
) -> ExternalSet:
    rows, apart = tested.rows, ~tested.related
    several = bool(tested.related.any() and apart.any())
    kept = rows[apart] if several else rows
    results = []
    for result in of_all:
        chosen = part_of(result, tested.cache, rows, apart) if several else result
        chosen = with_intervals(chosen, tested.cache, kept, tested.groups)
        results.append(with_own_metrics(chosen, comparison.own_metrics, tested.cache, kept, tested.groups))
    earlier, notes = record_scores(tested.path, tested.cache, rows, of_all, "compare", "external")
    comparison.notes += [note for note in notes if note not in comparison.notes]
    scores = [_score(comparison, tested, kept, *pair) for pair in zip(results, of_all, strict=True)]
    training, classes = comparison.cache.labels[tested.trained], comparison.cache.class_names
    there, here = (
        np.bincount(labels, minlength=len(classes)) / len(labels) for labels in (training, tested.cache.labels[rows])
    )
    return ExternalSet(
        name,
        Records(scores),
        results,
        len(rows),
        int(tested.related.sum()),
        tested.relation,
        left_out,
        {label: (float(there[index]), float(here[index])) for index, label in enumerate(classes)},
        float((tested.detector.novelty(tested.cache[rows]) > 1).mean()),
        list(of_all) if several else [],
        earlier,
    )


def _score(
    comparison: Comparison, tested: _Tested, kept: Rows, result: HeadResult, of_all: HeadResult
) -> ExternalScore:
    metric, inside = comparison.ranked_by, comparison.result(result.name)
    test, cache = comparison.split.test, comparison.cache
    own = Sample(inside.predicted == cache.labels[test], cache.labels[test].astype(np.intp), comparison.test_groups)
    true = tested.cache.labels[kept].astype(np.intp)
    ids = None if tested.groups is None else tested.groups.ids[kept]
    score, internal = float(result.scores[metric]), float(inside.scores[metric])
    ends, own_ends = result.intervals[metric], inside.intervals[metric]
    errors = []
    for one, classes, groups in ((result, true, ids), (inside, own.classes, own.groups)):
        given = one.probabilities
        errors.append(None if given is None else probability_scores(classes, given, groups)["ece"])
    return ExternalScore(
        result.name,
        metric,
        score,
        *ends,
        internal,
        score - internal,
        *interval_of_difference(score, ends, internal, own_ends),
        unpaired_p(Sample(result.predicted == true, true, ids), own, metric),
        float(of_all.scores[metric]),
        *errors,
    )


def _known(other: FeatureCache, cache: FeatureCache, names: Mapping[str, str]) -> tuple[FeatureCache, Rows]:
    """Return an external cache with the classes of another one, and its rows of these classes."""
    numbers = {name: number for number, name in enumerate(cache.class_names)}
    of_class = np.array([numbers.get(names.get(name, name), -1) for name in other.class_names], np.int32)
    codes = of_class[other.labels]
    return other.with_labels(codes, cache.class_names), np.flatnonzero(codes >= 0)


def _sites(cache: FeatureCache, column: str) -> list[tuple[str, Rows]]:
    """Return the values of a column that some images have, and the rows of each."""
    values = np.array(column_of(cache, column))
    found = [value for value in np.unique(values).tolist() if value.strip()]
    if not 2 <= len(found) <= _MOST_VALUES:
        raise SplitError(
            f"parameter external of compare must be a column of 2 to {_MOST_VALUES} values, got {display(column)} with "
            f"{len(found):,}"
        )
    return [(value, np.flatnonzero(values == value)) for value in found]


def _read_names(classes: Any) -> dict[str, str]:
    if isinstance(classes, str | os.PathLike):
        lines = read_table(Path(classes), "file of external classes", ("external", "class"))
        return {row["external"]: row["class"] for _, row in lines}
    return {name: str(value) for name, value in check_mapping("external_classes", "compare", classes).items()}
