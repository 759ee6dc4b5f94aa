"""Writing a comparison to a folder: results.json, report.html, CSV files and figures."""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from ...cache import as_csv, display, read_regular, write_atomically
from ...errors import EmbedonceError, check_choice, first_line
from ..shared import as_json, number_names
from ..splits import write_folds, write_split
from .label_errors import label_errors, notes_on_pairs, suspects_csv
from .results_json import FORMAT, comparison_results

if TYPE_CHECKING:
    from ..scoring import ComparisonData, HeadResult


RESULTS = "results.json"
PARTIAL = "results.partial.json"
"""Scores of the finished heads of a comparison that is not finished."""


Figures = Literal["none", "report", "all"]


def save_comparison(
    comparison: ComparisonData, folder: Path | str, *, maps: bool = False, figures: Figures = "all"
) -> list[Path]:
    """Write a comparison into a folder, see `Comparison.save`; return the files."""
    from ..shared import replacing_files
    from .figures import file_stems
    from .html import write_report

    check_choice("figures", "Comparison.save", figures, get_args(Figures))
    folder = Path(folder)
    names, stems = comparison.cache.class_names, file_stems(comparison)
    with replacing_files(folder, "results", RESULTS, [*_listed(folder / RESULTS), PARTIAL]) as temporary:
        write_atomically(temporary / "predictions.csv", _predictions_csv(comparison))
        if comparison.folds:
            write_folds(comparison.folds, comparison.cache, temporary / "split.csv")
        else:
            write_split(comparison.split, comparison.cache, temporary / "split.csv")
        write_atomically(temporary / "suspects.csv", suspects_csv(label_errors(comparison)[1]))
        for result in comparison.results:
            rows = ([name, *counts] for name, counts in zip(names, result.scores["confusion"], strict=True))
            path = temporary / f"confusion-{stems[result.name]}.csv"
            write_atomically(path, as_csv(["true \\ predicted", *names], rows))
        begin = time.perf_counter()
        drawn: dict[str, str] | None = None if figures == "report" else {}
        notes: list[str] = []
        if figures == "all":
            drawn, notes = _save_figures(comparison, temporary, stems)
        drawn_at = time.perf_counter()
        notes += notes_on_pairs(comparison)
        comparison.notes += [note for note in notes if note not in comparison.notes]
        results = comparison_results(comparison)
        try:
            write_report(comparison, temporary / "report.html", maps=maps, drawn=drawn, results=results)
        except EmbedonceError:
            raise
        except Exception as error:  # as of a figure
            comparison.notes.append(f"report.html could not be written ({type(error).__name__}: {first_line(error)})")
        comparison.timings |= {"figures": drawn_at - begin, "report": time.perf_counter() - drawn_at}
        files = sorted({*os.listdir(temporary), RESULTS})
        latest = {"notes": comparison.notes, "phase_seconds": comparison.timings}
        write_atomically(temporary / RESULTS, as_json(results | latest | {"files": files}))
    return [folder / name for name in files]


def _save_figures(
    comparison: ComparisonData, folder: Path, stems: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """Write all figures as PNG and SVG; return those of the page, and notes."""
    from ..shared import confusion_figure, history_figure, try_figure
    from .figures import best_of, drawn_names, figures
    from .inline_images import missing_figure, svg_of_page

    names = comparison.cache.class_names
    matrices = {result.name: result.scores["confusion"] for result in comparison.table}
    drawn = {name: matrices[name] for name in drawn_names(comparison)}
    subtitles = {result.name: _subtitle(result) for result in comparison.results}
    of_page = figures(comparison)
    draw_all = functools.partial(confusion_figure, drawn, names, subtitles, best_of(comparison))
    drawing = {"confusion": draw_all} | of_page
    for result in comparison.results:
        name, stem = result.name, stems[result.name]
        drawing[f"confusion-{stem}"] = functools.partial(confusion_figure, {name: matrices[name]}, names, subtitles)
        if result.history:
            drawing.setdefault(f"curves-{stem}", functools.partial(history_figure, {name: result.history}))
    svgs, notes = {}, []
    for name, draw in drawing.items():
        path = folder / f"{name}.svg"
        failure = try_figure(draw, path.with_suffix(".png"), path)
        notes += failure
        if name in of_page:
            svgs[name] = missing_figure(failure[0]) if failure else svg_of_page(path.read_text("utf-8"), name)
    return svgs, notes + _numbered_names(comparison)


def _numbered_names(comparison: ComparisonData) -> list[str]:
    """Return a note on names that figures of pixels replace by numbers, because no font here has their characters."""
    numbers = number_names(comparison.cache.class_names, "class")
    numbers |= number_names([result.name for result in comparison.results], "head")
    if not numbers:
        return []
    legend = ", ".join(f"{label} is {display(name)}" for name, label in numbers.items())
    return [f"no font of this machine has the characters of these names, so that PNG files have numbers: {legend}"]


def finished_results(folder: Path) -> dict[str, Any] | None:
    """Return the content of the results.json of a folder; None if there is none, a file is missing or a head failed."""
    names = _listed(folder / RESULTS)
    if not names or not all((folder / name).exists() for name in names):
        return None
    results: dict[str, Any] = json.loads(read_regular(folder / RESULTS))
    return None if results.get("failed") else results


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
    numbers = ",%.6g" * len(names)  # as_csv would look at each of them, of which there may be millions

    def lines() -> Iterator[bytes]:
        for result in comparison.results:
            for position, row in enumerate(rows):
                true, predicted = names[cache.labels[row]], names[result.predicted[position]]
                yield as_csv([result.name, cache.paths[row], true, predicted], ())[:-1]
                if result.probabilities is None:
                    yield b"," * len(names)
                else:
                    yield (numbers % tuple(result.probabilities[position].tolist())).encode()
                yield b"\n" if groups is None else b"," + as_csv([groups.names[row]], ())

    group = [] if groups is None else ["group"]
    header = as_csv(["head", "path", "true", "predicted", *(f"p_{name}" for name in names), *group], ())
    return b"".join([header, *lines()])
