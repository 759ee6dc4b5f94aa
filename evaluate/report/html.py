"""The report of a comparison: one HTML page that needs nothing else."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache import display, make_folder, write_atomically
from ...errors import SplitError
from ..metrics import METRICS, coverage, probability_scores, shown_metrics
from ..scoring import ComparisonData, HeadResult
from ..shared import evenly_spaced_indices, first_of_each, history_figure, percent
from .activation_maps import MapRequest, RenderedMaps, class_maps
from .figures import figures
from .inline_images import as_svg, pictures
from .label_errors import label_errors
from .results_json import comparison_results

_PAIRS = 6
_SHOWN = 12  # images on each side of a pair
_SUSPECTS = 24
_MOST_CLASSES = 25  # up to which confusion matrices are shown cell by cell
_SURE = 0.99


def write_report(comparison: ComparisonData, path: Path | str, *, thumbnails: bool = True, maps: bool = False) -> Path:
    """Write a comparison as one HTML page, with everything inside.

    Parameters
    ----------
    comparison : ComparisonData
    path : path-like
        Replaced when it is there.
    thumbnails : bool
        Show images on which heads differ, and those with suspect labels, as far as they still stand where they were
        embedded.
    maps : bool
        Show under these images which places spoke for the class that the head that is wrong saw, or for the one that is
        suggested as label, if it is a head that :func:`embedonce.explain` takes. It needs the backbone's weights.

    Returns
    -------
    Path

    Raises
    ------
    SplitError
        If nothing was tested.
    OutputError
        When the page cannot be written.
    """
    if not len(comparison.split.test):
        raise SplitError("a report needs test images, got a comparison on a split without any")
    path = Path(path)
    make_folder(path.parent, "the report")
    page = _template().render(**page_content(comparison, thumbnails=thumbnails, maps=maps))
    write_atomically(path, page.encode("utf-8", "replace"))
    return path


def page_content(comparison: ComparisonData, *, thumbnails: bool = True, maps: bool = False) -> dict[str, Any]:
    """Return what the page shows, for the template."""
    results = comparison_results(comparison)
    judge, suspected = label_errors(comparison)
    suspects = _suspects(comparison, suspected)
    pairs = _pairs(comparison)
    shown = [entry["row"] for pair in pairs for side in pair["sides"] for entry in side["images"]]
    images = pictures(comparison.cache, shown + [entry["row"] for entry in suspects]) if thumbnails else {}
    suspects = [one | {"map": MapRequest(str(judge), one["row"], one["suggested"])} for one in suspects]
    wanted = [entry["map"] for pair in pairs for side in pair["sides"] for entry in side["images"]]
    drawn_maps = class_maps(comparison, wanted + [one["map"] for one in suspects]) if maps else RenderedMaps({}, "")
    histories = {result.name: result.history for result in comparison.results if result.history}
    drawn = figures(comparison)
    if histories:
        drawn["curves"] = history_figure(histories)
    return {
        "title": display(comparison.cache.path.name),
        "results": results,
        "summary": summary(comparison),
        "notes": [_sentence(note, comparison) for note in comparison.notes],
        "table": comparison.table,
        "metrics": shown_metrics(comparison.ranked_by),
        "best": comparison.table[0]["head"],
        "confusions": _confusions(comparison),
        "class_names": [display(name) for name in comparison.cache.class_names],
        "pairs": pairs,
        "gap": comparison.leak_gap,
        "random": comparison.random,
        "probabilities": _probabilities(comparison),
        "judge": judge,
        "suspects": suspects,
        "suspected": len(suspected),
        "images": images,
        "maps": drawn_maps.pictures,
        "without_maps": drawn_maps.reason,
        "missing_images": thumbnails and bool(shown or suspects) and not images,
        "figures": {name: as_svg(figure, name) for name, figure in drawn.items()},
        "command": as_typed(results["made"]["command"]),
        "counts": comparison.cache.class_counts,
        "tested": len(comparison.split.test),
        "split": results["split"],
        "display": display,
    }


def as_typed(words: list[str]) -> str:
    """Return a command as it is typed, without the folder in which the program is installed."""
    program = Path(words[0])
    first = [program.name or "python"]
    if program.name == "__main__.py":
        # the folder of a checkout may have any name
        own = program.parent == Path(__file__).parents[2]
        first = ["python", "-m", "embedonce" if own else program.parent.name]
    return shlex.join([*first, *words[1:]])


def summary(comparison: ComparisonData) -> list[str]:
    """Return what the comparison found, in sentences."""
    table = comparison.table
    best = table[0]
    tested = len(comparison.split.test)
    measure = comparison.ranked_by
    scored = f"{percent(best[measure])} {METRICS[measure].title} on {tested:,} test images"
    interval = comparison.result(best["head"]).intervals.get(measure)
    if interval is not None:
        scored += f" (95 % interval {percent(interval[0])} to {percent(interval[1])})"
    first = f"{display(best['head'])} reaches {scored}"
    sentences = [f"{first}, the highest of {len(table)} heads." if len(table) > 1 else f"{first}."]
    if comparison.skewed:
        sentences.append("The classes differ much in size, so balanced accuracy comes first.")
    told = [row["text"] for row in comparison.differences if best["head"] in (row["a"], row["b"])]
    sentences += [_sentence(text, comparison) for text in told]
    sentences += _on_leaks(comparison)
    result = comparison.result(best["head"])
    if result.probabilities is not None:
        sentences += _on_probabilities(comparison, result)
    return sentences


def _on_leaks(comparison: ComparisonData) -> list[str]:
    groups = comparison.split.groups
    if comparison.random is not None:
        gaps = comparison.leak_gap
        worst = max(gaps, key=lambda row: row["gap"])
        share = (comparison.random.split.groups or {}).get("leak_share", 0.0)
        instead = f"({display(worst['head'])}: {percent(worst['random'])} instead of {percent(worst['grouped'])})"
        promise = f"promised up to {100 * worst['gap']:.1f} points more {instead}"
        if worst["gap"] <= 0:
            promise = f"promised no head more {instead}"
        text = (
            f"A random split would have {promise}: there, {percent(share)} of the test images have a copy of their "
            "original in training. Here no copy crosses the split."
        )
        promised = max(gaps, key=lambda row: row["random"])["head"]
        kept = max(gaps, key=lambda row: row["grouped"])["head"]
        if promised != kept:
            text += f" It would also have named another winner, {display(promised)}."
        return [text]
    if groups is not None and groups.get("crossing") == 0 and comparison.split.method == "grouped":
        return ["Images of one group stand on one side of the split only."]
    return []


def _on_probabilities(comparison: ComparisonData, result: HeadResult) -> list[str]:
    true = comparison.cache.labels[comparison.split.test].astype(np.intp)
    assert result.probabilities is not None
    error = probability_scores(true, result.probabilities)["ece"]
    text = f"Its probabilities are off by {100 * error:.1f} points on average"
    target = next(one for one in coverage(true, result.probabilities)["targets"] if one["target"] == _SURE)["at"]
    if target is not None and target["coverage"] < 1:
        text += (
            f"; deciding only where it is at least {percent(target['threshold'])} sure, it is right on "
            f"{percent(_SURE)} of the {percent(target['coverage'])} of images that are left"
        )
    return [text + "."]


def _confusions(comparison: ComparisonData) -> list[dict[str, Any]]:
    if len(comparison.cache.class_names) > _MOST_CLASSES:
        return []
    found = []
    for row in comparison.table:
        matrix = np.array(comparison.result(row["head"]).scores["confusion"])
        shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        cells = [
            [{"count": int(count), "share": float(share)} for count, share in zip(*line, strict=True)]
            for line in zip(matrix.tolist(), shares.tolist(), strict=True)
        ]
        found.append({"head": row["head"], "cells": cells, "accuracy": row["accuracy"]})
    return found


def _pairs(comparison: ComparisonData) -> list[dict[str, Any]]:
    """Return, for the first pairs of heads, test images that one classifies rightly and the other does not."""
    cache, rows = comparison.cache, comparison.split.test
    true = cache.labels[rows]
    pairs = []
    for difference in comparison.differences[:_PAIRS]:
        results = comparison.result(difference["a"]), comparison.result(difference["b"])
        sides = []
        for right, wrong in (results, results[::-1]):
            places = np.flatnonzero((right.predicted == true) & (wrong.predicted != true))
            firsts, counts = first_of_each(_units(comparison, rows[places]))
            shown = evenly_spaced_indices(len(firsts), _SHOWN)
            images = [
                _image(comparison, int(places[first]), (right, wrong)) | {"alike": int(alike)}
                for first, alike in zip(firsts[shown], counts[shown], strict=True)
            ]
            side = {"right": right.name, "wrong": wrong.name, "count": len(places), "groups": len(firsts)}
            sides.append(side | {"images": images})
        pairs.append(difference | {"sides": sides})
    return pairs


def _image(comparison: ComparisonData, place: int, results: tuple[HeadResult, ...]) -> dict[str, Any]:
    """Return what is shown of a test image that the first head gets right and the second wrong."""
    cache, row = comparison.cache, int(comparison.split.test[place])
    said = []
    for result in results:
        predicted = int(result.predicted[place])
        sure = "" if result.probabilities is None else f" ({percent(float(result.probabilities[place, predicted]))})"
        said.append(f"{display(result.name)}: {display(cache.class_names[predicted])}{sure}")
    return {
        "row": row,
        "map": MapRequest(results[1].name, row, cache.class_names[results[1].predicted[place]]),
        "path": display(cache.paths[row]),
        "caption": f"{display(cache.class_names[cache.labels[row]])}; {', '.join(said)}",
    }


def _suspects(comparison: ComparisonData, suspected: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the most suspect image of each group, and how many of it are suspect."""
    if not suspected:
        return []
    firsts, counts = first_of_each(_units(comparison, np.array([one["row"] for one in suspected])))
    found = zip(firsts.tolist(), counts.tolist(), strict=True)
    return [suspected[first] | {"alike": count} for first, count in list(found)[:_SUSPECTS]]


def _units(comparison: ComparisonData, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Return the group of each row, or the row where no groups are known: of copies, one is enough to look at."""
    return rows if comparison.groups is None else comparison.groups.ids[rows]


def _probabilities(comparison: ComparisonData) -> list[dict[str, Any]]:
    true = comparison.cache.labels[comparison.split.test].astype(np.intp)
    found = []
    for row in comparison.table:
        result = comparison.result(row["head"])
        if result.probabilities is not None:
            scores: Mapping[str, Any] = probability_scores(true, result.probabilities)
            targets = coverage(true, result.probabilities)["targets"]
            found.append({"head": row["head"], "log_loss": row["log_loss"], "targets": targets} | dict(scores))
    return found


def seconds(value: float) -> str:
    """Return a time; rounding never turns it into none, and none is a dash."""
    if value == 0:
        return "-"
    return f"{value:.2f} s" if value >= 0.005 else "< 0.01 s"


def _sentence(text: str, comparison: ComparisonData) -> str:
    """Return a text with a capital letter and a full stop; a head's name stays as it is written."""
    first = text.split(" ", 1)[0].rstrip(",:")
    if first in {display(row["head"]) for row in comparison.table}:
        return f"{text}."
    return f"{text[0].upper()}{text[1:]}."


def _template() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    environment.filters["number"] = lambda value, digits=4: "-" if value is None else f"{value:.{digits}f}"
    environment.filters["seconds"] = seconds
    environment.filters["points"] = lambda value: "-" if value is None else f"{100 * value:+.1f}"
    environment.filters["p"] = lambda value: "< 0.001" if value < 0.001 else f"{value:.2g}"
    return environment.get_template("report.html.j2")
