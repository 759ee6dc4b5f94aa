"""Writing a comparison to a folder: results.json, report.html, CSV files and figures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ...cache import make_folder, write_atomically
from ..shared import as_csv, as_json
from ..splits import write_folds, write_split
from .label_errors import label_errors, suspects_csv
from .results_json import comparison_results

if TYPE_CHECKING:
    from ..scoring import ComparisonData, HeadResult


def save_comparison(comparison: ComparisonData, folder: Path | str, *, maps: bool = False) -> list[Path]:
    """Write a comparison into a folder, see `Comparison.save`; return the files."""
    from ..shared import confusion_figure, history_figure, save_figure
    from .figures import figures
    from .html import write_report

    folder = make_folder(folder, "results")
    names = comparison.cache.class_names
    written = [folder / name for name in ("results.json", "predictions.csv", "split.csv", "suspects.csv")]
    write_atomically(written[0], as_json(comparison_results(comparison)))
    write_atomically(written[1], _predictions_csv(comparison))
    if comparison.folds:
        write_folds(comparison.folds, comparison.cache, written[2])
    else:
        write_split(comparison.split, comparison.cache, written[2])
    write_atomically(written[3], suspects_csv(label_errors(comparison)[1]))

    matrices = {result.name: result.scores["confusion"] for result in comparison.results}
    subtitles = {result.name: _subtitle(result) for result in comparison.results}
    drawn = {"confusion": confusion_figure(matrices, names, subtitles)} | figures(comparison)
    for result in comparison.results:
        stem = re.sub(r"[^\w.+-]", "-", result.name)  # package.module:Class has a colon
        drawn[f"confusion-{stem}"] = confusion_figure({result.name: matrices[result.name]}, names, subtitles)
        written.append(folder / f"confusion-{stem}.csv")
        rows = ([name, *counts] for name, counts in zip(names, matrices[result.name], strict=True))
        write_atomically(written[-1], as_csv(["true \\ predicted", *names], rows))
        if result.history:
            drawn[f"curves-{stem}"] = history_figure({result.name: result.history})
    for name, figure in drawn.items():
        written += [folder / f"{name}.png", folder / f"{name}.svg"]
        save_figure(figure, written[-2])
        save_figure(figure, written[-1])
    written.append(write_report(comparison, folder / "report.html", maps=maps))
    return written


def _subtitle(result: HeadResult) -> str:
    scores = result.scores
    return f"accuracy {scores['accuracy']:.4f}   macro F1 {scores['macro_f1']:.4f}"


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
