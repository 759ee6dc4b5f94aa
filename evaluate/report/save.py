"""Writing a comparison to a folder: results.json, report.html, CSV files and figures."""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...cache import as_csv, display, read_regular, write_atomically
from ...errors import EmbedonceError, first_line
from ..shared import as_json, number_names
from ..splits import write_folds, write_split
from .label_errors import label_errors, notes_on_pairs, suspects_csv
from .results_json import FORMAT, comparison_results

if TYPE_CHECKING:
    from ..scoring import ComparisonData, HeadResult


RESULTS = "results.json"
PARTIAL = "results.partial.json"
"""Scores of the finished heads of a comparison that is not finished."""


def save_comparison(comparison: ComparisonData, folder: Path | str, *, maps: bool = False) -> list[Path]:
    """Write a comparison into a folder, see `Comparison.save`; return the files."""
    from ..shared import confusion_figure, history_figure, replacing_files, try_figure
    from .figures import best_of, drawn_names, figures
    from .html import write_report

    folder = Path(folder)
    names = comparison.cache.class_names
    matrices = {result.name: result.scores["confusion"] for result in comparison.table}
    drawn = {name: matrices[name] for name in drawn_names(comparison)}
    subtitles = {result.name: _subtitle(result) for result in comparison.results}
    draw_all = functools.partial(confusion_figure, drawn, names, subtitles, best_of(comparison))
    drawing = {"confusion": draw_all} | figures(comparison)
    with replacing_files(folder, "results", RESULTS, [*_listed(folder / RESULTS), PARTIAL]) as temporary:
        write_atomically(temporary / "predictions.csv", _predictions_csv(comparison))
        if comparison.folds:
            write_folds(comparison.folds, comparison.cache, temporary / "split.csv")
        else:
            write_split(comparison.split, comparison.cache, temporary / "split.csv")
        write_atomically(temporary / "suspects.csv", suspects_csv(label_errors(comparison)[1]))
        for result, stem in zip(comparison.results, _stems(comparison.results), strict=True):
            matrix = matrices[result.name]
            rows = ([name, *counts] for name, counts in zip(names, matrix, strict=True))
            write_atomically(temporary / f"confusion-{stem}.csv", as_csv(["true \\ predicted", *names], rows))
            drawing[f"confusion-{stem}"] = functools.partial(
                confusion_figure, {result.name: matrix}, names, {result.name: subtitles[result.name]}
            )
            if result.history:
                drawing[f"curves-{stem}"] = functools.partial(history_figure, {result.name: result.history})
        notes = []
        for name, draw in drawing.items():
            notes += try_figure(draw, temporary / f"{name}.png", temporary / f"{name}.svg")
        notes += _numbered_names(comparison)
        notes += notes_on_pairs(comparison)
        comparison.notes += [note for note in notes if note not in comparison.notes]
        try:
            write_report(comparison, temporary / "report.html", maps=maps)
        except EmbedonceError:
            raise
        except Exception as error:  # as of a figure
            comparison.notes.append(f"report.html could not be written ({type(error).__name__}: {first_line(error)})")
        files = sorted({*os.listdir(temporary), RESULTS})
        write_atomically(temporary / RESULTS, as_json(comparison_results(comparison) | {"files": files}))
    return [folder / name for name in files]


def _numbered_names(comparison: ComparisonData) -> list[str]:
    """Return a note on names that figures of pixels replace by numbers, because no font here has their characters."""
    numbers = number_names(comparison.cache.class_names, "class")
    numbers |= number_names([result.name for result in comparison.results], "head")
    if not numbers:
        return []
    legend = ", ".join(f"{label} is {display(name)}" for name, label in numbers.items())
    return [f"no font of this machine has the characters of these names, so that PNG files have numbers: {legend}"]


def _stems(results: Sequence[HeadResult]) -> list[str]:
    """Return a name for the files of each head; no two are equal, not even where upper and lower case are."""
    stems: list[str] = []
    for result in results:
        stem = plain = re.sub(r"[^\w.+-]", "-", result.name)  # package.module:Class has a colon
        number = 2
        while stem.casefold() in {other.casefold() for other in stems}:
            stem, number = f"{plain}-{number}", number + 1
        stems.append(stem)
    return stems


def _listed(path: Path) -> list[str]:
    """Return the files of an earlier run in a folder, which its results list."""
    try:
        results = json.loads(read_regular(path))
        files = results["files"] if results["format"] == FORMAT else []
    except (OSError, ValueError, TypeError, KeyError):  # no results, or those of another program
        return []
    return [name for name in files if isinstance(name, str) and name == Path(name).name and name not in ("", "..")]


def _subtitle(result: HeadResult) -> str:
    scores = result.scores
    return f"accuracy {scores['accuracy']:.4f}, macro F1 {scores['macro_f1']:.4f}"


def _predictions_csv(comparison: ComparisonData) -> bytes:
    """Return a line for every head and test image; with groups, they have a column."""
    cache, rows, groups = comparison.cache, comparison.split.test, comparison.groups
    names = cache.class_names
    group_cells = [[] for _ in rows] if groups is None else [[groups.names[row]] for row in rows]

    def lines() -> Iterator[list[str]]:
        for result in comparison.results:
            for position, row in enumerate(rows):
                if result.probabilities is None:
                    probabilities = [""] * len(names)
                else:
                    probabilities = [f"{value:.6g}" for value in result.probabilities[position]]
                true, predicted = names[cache.labels[row]], names[result.predicted[position]]
                yield [result.name, cache.paths[row], true, predicted, *probabilities, *group_cells[position]]

    group = [] if groups is None else ["group"]
    return as_csv(["head", "path", "true", "predicted", *(f"p_{name}" for name in names), *group], lines())
