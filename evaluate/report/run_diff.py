"""Differences between two saved comparisons."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...cache import display
from ...errors import check_path
from ..metrics import METRICS, PairedTest, compare_pair
from ..shared import Record, Records, TextTable, data_frame, format_interval, format_number, html_table
from .saved_results import SavedResults, load_results

_HASH = re.compile("[0-9a-f]{16}")

Predictions = dict[str, dict[str, tuple[bool, str, str]]]
"""By head and path: whether the prediction is correct, the group of the image, and its class."""


@dataclass(frozen=True)
class HeadDiff(Record):
    """Scores of one head in runs A and B, and the test of B against A on the ``images`` that both runs tested."""

    head: str
    a: dict[str, float | None]
    b: dict[str, float | None]
    images: int = 0
    paired: PairedTest | None = None

    def difference(self, score: str) -> float | None:
        """Return a score of run B minus that of run A."""
        a, b = self.a[score], self.b[score]
        return None if a is None or b is None else b - a

    def to_dict(self) -> dict[str, Any]:
        """Return ``a``, ``b`` and ``difference`` of every score, and the paired test."""
        scores = {name: {"a": self.a[name], "b": self.b[name], "difference": self.difference(name)} for name in self.a}
        paired = None if self.paired is None else {"images": self.images} | self.paired.to_dict()
        return {"head": self.head} | scores | {"paired": paired}


@dataclass(frozen=True, repr=False)
class RunDiff:
    """Differences between runs A and B: settings that differ, heads of both runs, and heads of one run.

    ``metric`` is the score that is compared: accuracy, or balanced accuracy if both runs are ranked by it.
    """

    settings: dict[str, dict[str, Any]]
    metric: str
    heads: Records[HeadDiff]
    only_a: list[str]
    only_b: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return the differences, JSON-serialisable, as ``embedonce diff --json`` prints them."""
        about: dict[str, Any] = {"settings": self.settings, "metric": self.metric, "heads": self.heads.to_dict()}
        return about | {"only_a": self.only_a, "only_b": self.only_b}

    def to_frame(self) -> Any:
        """Return the score `metric` of both runs as a pandas DataFrame, a line per head."""
        rows = []
        for head in self.heads:
            row = {"head": head.head, "a": head.a[self.metric], "b": head.b[self.metric]}
            test = {} if head.paired is None else head.paired.to_dict()
            row["difference"] = head.difference(self.metric)
            rows.append(row | {name: test.get(name) for name in ("low", "high", "p", "test")})
        return data_frame(rows)

    def table(self) -> TextTable:
        """Return the score `metric` of both runs as text, and its difference on the images that both tested."""
        rows = []
        for head in self.heads:
            cells = [display(head.head), format_number(head.a[self.metric]), format_number(head.b[self.metric])]
            paired = head.paired
            if paired is None:
                cells += ["0", "-", "-", "-"]
            else:
                cells += [f"{head.images:,}", f"{paired.difference:+.4f}"]
                cells += [format_interval(paired.low, paired.high), f"{paired.p:.2g}"]
            rows.append(cells)
        return TextTable([METRICS[self.metric].column, "A", "B", "shared", "B - A", "95 % interval", "p"], rows)

    def notes(self) -> list[str]:
        """Return the other differences in lines of text."""
        notes = ["Differences, intervals and p are those on the images that both runs tested (shared)."] * bool(
            self.heads
        )
        notes += [
            f"Only in {run}: {', '.join(map(display, names))}"
            for run, names in (("A", self.only_a), ("B", self.only_b))
            if names
        ]
        if not self.settings:
            return [*notes, "Features, images, split, parameters and versions are the same."]
        for name, values in self.settings.items():
            a, b = (display(str(values[run])) for run in ("a", "b"))
            hashes = any(_HASH.search(text) for text in (a, b))
            notes.append(f"{display(name)}: {'not the same' if hashes else f'{a} -> {b}'}")
        return notes

    def __str__(self) -> str:
        return "\n".join([str(self.table())] * bool(self.heads) + self.notes())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table(*self.table(), self.notes())


def diff(a: Path | str, b: Path | str) -> RunDiff:
    """Compare two saved comparisons.

    Parameters
    ----------
    a, b : path-like
        Folders that `Comparison.save` or ``embedonce compare`` wrote.

    Returns
    -------
    RunDiff
        ``settings`` that differ, with their values; ``heads`` of both runs, compared on the test images of both, by
        groups if both runs have the same groups; ``only_a`` and ``only_b``, the heads of one run.

    Raises
    ------
    ParameterError
        When a folder holds no results, or results of a later version.

    See Also
    --------
    embedonce.compare : Compare heads.

    Examples
    --------
    >>> import embedonce as eo, numpy as np, tempfile
    >>> X = np.random.default_rng(0).normal(size=(40, 1280)).astype(np.float32)
    >>> comparison = eo.compare(eo.FeatureCache.from_arrays(X, ["cat", "dog"] * 20), ["knn"], split="random")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     written = comparison.save(folder)
    ...     eo.diff(folder, folder).settings
    {}
    """
    a, b = check_path("a", "diff", a), check_path("b", "diff", b)
    first, second = load_results(a), load_results(b)
    heads_a = {head["head"]: head for head in first.content["heads"]}
    heads_b = {head["head"]: head for head in second.content["heads"]}
    predictions = _predictions(a), _predictions(b)
    metric = first.ranked_by if first.ranked_by == second.ranked_by else "accuracy"
    shared = [name for name in heads_a if name in heads_b]
    heads = []
    for name in shared:
        # results of an earlier version lack the scores that came later
        scores_a, scores_b = ({score: run[name].get(score) for score in METRICS} for run in (heads_a, heads_b))
        predicted_a, predicted_b = (run.get(name, {}) for run in predictions)
        images, paired = _paired(predicted_a, predicted_b, metric)
        heads.append(HeadDiff(name, scores_a, scores_b, images, paired))
    return RunDiff(
        _settings(first, second, shared),
        metric,
        Records(heads),
        [name for name in heads_a if name not in heads_b],
        [name for name in heads_b if name not in heads_a],
    )


def _settings(first: SavedResults, second: SavedResults, shared: list[str]) -> dict[str, dict[str, Any]]:
    a, b = (
        dict(one.settings) | {key: value for head in shared for key, value in one.parameters(head).items()}
        for one in (first, second)
    )
    return {key: {"a": a.get(key), "b": b.get(key)} for key in dict.fromkeys((*a, *b)) if a.get(key) != b.get(key)}


def _predictions(folder: Path) -> Predictions:
    predictions: Predictions = {}
    path = folder / "predictions.csv"
    if not path.is_file():
        return predictions
    csv.field_size_limit(2**24)
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        for row in csv.DictReader(file):
            correct = row["true"] == row["predicted"]
            predictions.setdefault(row["head"], {})[row["path"]] = correct, row.get("group") or "", row["true"]
    return predictions


def _paired(
    a: dict[str, tuple[bool, str, str]], b: dict[str, tuple[bool, str, str]], metric: str
) -> tuple[int, PairedTest | None]:
    """Return the number of images of both runs and the test of B against A on these."""
    paths = [path for path in a if path in b]
    if not paths:
        return 0, None
    correct_a, correct_b = (np.array([run[path][0] for path in paths]) for run in (a, b))
    groups_a, groups_b = ([run[path][1] for path in paths] for run in (a, b))
    groups = np.unique(groups_a, return_inverse=True)[1] if all(groups_a) and groups_a == groups_b else None
    classes = np.unique([a[path][2] for path in paths], return_inverse=True)[1].astype(np.intp)
    return len(paths), compare_pair(correct_b, correct_a, groups, classes if metric == "balanced_accuracy" else None)
