"""The report of a comparison: one HTML page that needs no other file."""

from __future__ import annotations

import functools
import itertools
import re
import shlex
from collections.abc import Callable, Sequence
from html import escape
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...cache import display, format_examples, make_folder, write_atomically
from ...errors import SplitError, first_line
from ...heads import CalibratedHead
from ..metrics import METRICS, probability_scores
from ..scoring import ComparisonData, HeadResult
from ..shared import (
    MATRIX_CLASSES,
    confused_pairs,
    evenly_spaced_indices,
    first_of_each,
    format_interval,
    format_number,
    format_points,
    history_figure,
    percent,
)
from .activation_maps import MapRequest, RenderedMaps, class_maps
from .confusions import confusion_content, pictured_rows
from .figures import drawn_histories, figures, true_labels
from .follow_up import next_command
from .inline_images import as_svg, pictures
from .label_errors import SuspectedError, label_errors
from .results_json import comparison_results
from .verdicts import best_head_verdicts, verdict_matrix

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PAIRS = 6
_IMAGES = 12  # on each side of a pair
_SUSPECTED = 24
_CHARACTERS = 60  # of the names of classes below the title
_MOST_ROWS = 300  # of the tables of classes of the other heads
_OPEN = 3  # pairs of classes that are not folded
_FEW_IMAGES = 4  # of a pair that is folded


class Entry(NamedTuple):
    """An image of the page; ``alike`` counts the images of its group that it represents."""

    row: int
    map: MapRequest
    path: str
    caption: str
    alike: int


def write_report(comparison: ComparisonData, path: Path | str, *, thumbnails: bool = True, maps: bool = False) -> Path:
    """Write a comparison as one HTML page, with images on which heads differ and suspected label errors."""
    if not len(comparison.split.test):
        raise SplitError("a report needs test images, got a comparison on a split without any")
    path = Path(path)
    make_folder(path.parent, "the report")
    page = _template().render(**page_content(comparison, thumbnails=thumbnails, maps=maps))
    write_atomically(path, page.encode("utf-8", "replace"))
    return path


def page_content(comparison: ComparisonData, *, thumbnails: bool = True, maps: bool = False) -> dict[str, Any]:
    """Return the variables of the template."""
    results = comparison_results(comparison)
    judge, errors = label_errors(comparison)
    suspected = _suspected(comparison, str(judge), errors)
    pairs, confused = _pairs(comparison), _confused(comparison)
    entries = [entry for pair in pairs for side in pair["sides"] for entry in side["images"]] + suspected
    entries += [entry for pair in confused for entry in pair["images"]]
    confusions = confusion_content(comparison)
    rows = [entry.row for entry in entries] + pictured_rows(confusions)
    images = pictures(comparison.cache, rows) if thumbnails else {}
    drawn_maps = class_maps(comparison, [entry.map for entry in entries]) if maps else RenderedMaps({}, "")
    drawing = figures(comparison)
    histories = drawn_histories(comparison)
    if histories:
        drawing["curves"] = functools.partial(history_figure, histories)
    return {
        "title": "features in memory" if comparison.cache.path is None else display(comparison.cache.path.name),
        "results": results,
        "best": _best(comparison),
        "next": _next(comparison),
        "calibrated": isinstance(comparison.table[0].head, CalibratedHead),
        "leakage": _leakage(comparison),
        "summary": summary(comparison),
        "notes": [_sentence(note, comparison) for note in comparison.notes],
        "scores": comparison.score_table(page=True),
        "measure": METRICS[comparison.ranked_by].title,
        "ranked_by": comparison.ranked_by,
        "confusions": confusions,
        "verdicts": verdict_matrix(comparison),
        "confused": confused,
        "open": _OPEN,
        "some_classes": _some_classes(comparison.cache.class_names),
        "incorrect": int((comparison.table[0].predicted != true_labels(comparison)).sum()),
        "classes": _classes(comparison, results),
        "class_names": [display(name) for name in comparison.cache.class_names],
        "pairs": pairs,
        "learning": comparison.learning_table(),
        "outlook": comparison.learning_outlook,
        "gap": comparison.gap_table(page=True),
        "leaky_name": comparison.leaky_name,
        "probabilities": _probabilities(comparison, results),
        "judge": display(str(judge)),
        "suspected": suspected,
        "suspected_count": len(errors),
        "contradicted": any(error.reason == "near-duplicates" for error in errors),
        "images": images,
        "maps": drawn_maps.pictures,
        "without_maps": drawn_maps.reason,
        "missing_images": thumbnails and bool(entries) and not images,
        "figures": {name: _svg(draw, name) for name, draw in drawing.items()},
        "command": as_typed(results["made"]["command"]),
        "counts": comparison.cache.class_counts,
        "split": results["split"],
        "display": display,
    }


def _some_classes(names: Sequence[str]) -> str:
    """Return the first names of classes, in about a line."""
    ends = itertools.accumulate(len(name) + 2 for name in names[:6])
    return format_examples(names, max(1, sum(end <= _CHARACTERS for end in ends)))


def _svg(draw: Callable[[], Figure], name: str) -> str:
    """Return a figure as SVG, or a paragraph that says why there is none."""
    try:
        return as_svg(draw(), name)
    except Exception as error:  # a figure that fails must not cost the page
        reason = escape(f"{type(error).__name__}: {first_line(error)}")
        return f"<p>This figure could not be drawn ({reason}).</p>"


def as_typed(words: list[str]) -> str:
    """Return a command as it is typed, without the folder in which the program is installed."""
    program = Path(words[0])
    first = [program.name or "python"]
    if program.name == "__main__.py":  # the folder of a checkout may have any name
        package = program.parent == Path(__file__).parents[2]
        first = ["python", "-m", "embedonce" if package else program.parent.name]
    return shlex.join([*first, *words[1:]])


def summary(comparison: ComparisonData) -> list[str]:
    """Return the main results in sentences."""
    best, measure = comparison.table[0], comparison.ranked_by
    text = f"{display(best.name)} reaches {percent(best.scores[measure])} {METRICS[measure].title} "
    text += f"on {_images(len(comparison.split.test), 'test ')}"
    if measure in best.intervals:
        low, high = best.intervals[measure]
        text += f" (95 % interval {percent(low)} to {percent(high)})"
    count = len(comparison.results)
    sentences = [f"{text}, the highest of {count} heads." if count > 1 else f"{text}."]
    corrected = comparison.best()
    if corrected is not None and corrected.heads > 1:
        sentences.append(
            f"The highest of {corrected.heads} scores is too high by chance: corrected for the choice, "
            f"{percent(corrected.expected)} is expected on other images "
            f"(95 % interval {percent(corrected.low)} to {percent(corrected.high)})."
        )
    if comparison.skewed:
        sentences.append("The classes differ much in size, so balanced accuracy orders the heads.")
    sentences += [_sentence(text, comparison) for text in best_head_verdicts(comparison)]
    sentences += _on_leakage(comparison)
    if best.probabilities is not None:
        sentences.append(_on_probabilities(comparison, best.name, best.probabilities))
    return sentences


def _images(count: int, kind: str = "") -> str:
    return f"{count:,} {kind}image{'s' if count != 1 else ''}"


def _on_leakage(comparison: ComparisonData) -> list[str]:
    groups = comparison.split.groups
    if comparison.both_splits is None:
        separate = groups is not None and groups.get("crossing") == 0 and comparison.split.method == "grouped"
        if comparison.split.has_near_duplicates:
            return []  # a note says it
        return ["No group has images on both sides of the split."] if separate else []
    gaps = comparison.leakage_gap
    if not gaps:
        return []
    worst = max(gaps, key=lambda row: row.gap)
    leaky, name = comparison.both_splits[0].split, comparison.leaky_name
    leaked = (leaky.groups or {}).get("leak_share", 0.0)
    related = "a near-duplicate" if leaky.has_near_duplicates else "an image of their group"
    title = METRICS[comparison.ranked_by].title
    text = f"overstates the {title} by up to {100 * worst.gap:.1f} points"
    if worst.gap <= 0:
        text = f"does not overstate the {title}"
    text = (
        f"{'A' if name == 'random' else 'The'} {name} split {text} ({display(worst.head)}: {percent(worst.leaky)} "
        f"instead of {percent(worst.grouped)} on the grouped split). On the {name} split, {percent(leaked)} of the "
        f"test images have {related} in training; on the grouped split, none."
    )
    best = {kind: max(gaps, key=attrgetter(kind)).head for kind in ("leaky", "grouped")}
    if best["leaky"] != best["grouped"]:
        other = "leaky" if comparison.leaky is not None else "grouped"
        text += f" On the {name if other == 'leaky' else 'grouped'} split, the best head is {display(best[other])}."
    return [text]


def _leakage(comparison: ComparisonData) -> dict[str, str]:
    """Return the leakage gap of the best head, ``gap``, and what it is; ``only`` is all that there is to say."""
    split, groups, best = comparison.split, comparison.groups, comparison.table[0].name
    gaps = comparison.leakage_gap
    if gaps:
        own = next((row for row in gaps if row.head == best), gaps[0])
        gap = f"{100 * own.gap:+.1f} points"
        text = f"{display(own.head)}: {percent(own.leaky)} on the {comparison.leaky_name} split"
        text += f", {percent(own.grouped)} on the grouped split"
        same = all(abs(row.gap) < 0.0005 for row in gaps)
        only = f"The {comparison.leaky_name} split overstates no score: every gap is 0.0 points." if same else ""
        return {"gap": gap, "text": text, "only": only}
    found = groups is None or groups.source == "found"
    if split.method == "model":
        return _on_overlap(comparison)
    if groups is None:
        text = "groups of images that belong together are not known"
    elif len(groups) == len(groups.paths):
        alone = "no image has a near-duplicate" if found else "no two images are of one group"
        return {"gap": "none", "text": alone, "only": f"There is no leakage: {alone}."}
    else:
        leaked = (split.groups or {}).get("leak_share", 0.0)
        images = f"{percent(leaked)} of the test images have" if leaked else "no test image has"
        related = "a near-duplicate" if found else "an image of their group"
        text = f"only one split was tested; {images} {related} in training"
    return {"gap": "not measured", "text": text, "only": f"The leakage gap was not measured: {text}."}


def _on_overlap(comparison: ComparisonData) -> dict[str, str]:
    """Return the leakage gap of a trained model: its score on all images and on those that are not like training."""
    overlap, measure, (result,) = comparison.overlap, comparison.ranked_by, comparison.results
    if overlap is None:
        text = "it is not known which test images are like training images"
        return {"gap": "not measured", "text": text, "only": f"The leakage gap was not measured: {text}."}
    if not overlap.images:
        text = f"no test image has {overlap.relation} in training"
        return {"gap": "none", "text": text, "only": f"There is no leakage gap: {text}."}
    if overlap.independent is None:
        text = f"every test image has {overlap.relation} in training"
        return {"gap": "not measured", "text": text, "only": f"The leakage gap was not measured: {text}."}
    scores = [one.scores[measure] for one in (result, overlap.independent)]
    text = f"{percent(scores[0])} on all test images, {percent(scores[1])} on the "
    text += f"{len(overlap.independent.predicted):,} without {overlap.relation} in training"
    gap = f"{100 * (scores[0] - scores[1]):+.1f} points"
    if measure in overlap.independent.intervals:
        text += f" (95 % interval {format_interval(*overlap.independent.intervals[measure], as_percent=True)})"
    return {"gap": gap, "text": text, "only": f"The leakage gap of the {METRICS[measure].title} is {gap}: {text}."}


def _best(comparison: ComparisonData) -> dict[str, str]:
    """Return the best head, its score and intervals as texts."""
    result, measure, corrected = comparison.table[0], comparison.ranked_by, comparison.best()
    best = {"head": display(result.name), "score": percent(result.scores[measure]), "interval": "", "corrected": ""}
    if measure in result.intervals:
        best["interval"] = format_interval(*result.intervals[measure], as_percent=True)
    if corrected is not None and corrected.heads > 1:
        ends = format_interval(corrected.low, corrected.high, as_percent=True)
        best["corrected"] = f"{percent(corrected.expected)} ({ends})"
    return best


def _next(comparison: ComparisonData) -> str:
    """Return what to do next: a command, or a line of Python."""
    words = comparison.next_command or next_command(comparison)
    if words:
        return shlex.join(["embedonce", *words])
    return f"comparison.result({comparison.table[0].name!r}).save_model('best.joblib')"


def _on_probabilities(comparison: ComparisonData, name: str, probabilities: npt.NDArray[np.float64]) -> str:
    found = probability_scores(true_labels(comparison), probabilities, comparison.test_groups)
    error, low, high = (100 * found[each] for each in ("ece", "ece_low", "ece_high"))
    text = (
        f"The probabilities of {display(name)} differ from the observed accuracy by {error:.1f} points on average; "
        f"those of a perfectly calibrated head would by {low:.1f} to {high:.1f} points, by chance"
    )
    slope = found["calibration_slope"]
    if error <= high or slope is None:
        return f"{text}."
    return f"{text}, so they are too {'confident' if slope < 1 else 'cautious'}."


def _classes(comparison: ComparisonData, results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the scores of every class, the best head first; of many classes and heads those of the best head only.

    ``lowest`` are the classes with the lowest F1, if there are many.
    """
    by_name = {entry["head"]: entry["per_class"] for entry in results["heads"]}
    heads = []
    for result in comparison.table:
        rows = by_name[result.name]
        lowest = sorted((row for row in rows if row["support"]), key=lambda row: row["f1"])[:10]
        heads.append(
            {"head": display(result.name), "rows": rows, "lowest": lowest if len(rows) > MATRIX_CLASSES else []}
        )
        if len(rows) * len(comparison.results) > _MOST_ROWS:
            break
    return heads


def _confused(comparison: ComparisonData) -> list[dict[str, Any]]:
    """Return the pairs of classes that the best head confuses most often, with images."""
    result, test, true = comparison.table[0], comparison.split.test, true_labels(comparison)
    names = [display(name) for name in comparison.cache.class_names]
    matrix = comparison.confusion(result.name)
    pairs = []
    for number, pair in enumerate(confused_pairs(matrix)):
        positions = np.flatnonzero((true == pair.true) & (result.predicted == pair.predicted))
        firsts, alike = first_of_each(_groups_of(comparison, test[positions]))
        chosen = evenly_spaced_indices(len(firsts), _IMAGES if number < _OPEN else _FEW_IMAGES)
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


def _prediction(comparison: ComparisonData, position: int, result: HeadResult) -> str:
    index = int(result.predicted[position])
    given = "" if result.probabilities is None else f" ({percent(float(result.probabilities[position, index]))})"
    return f"{display(result.name)}: {display(comparison.cache.class_names[index])}{given}"


def _pairs(comparison: ComparisonData) -> list[dict[str, Any]]:
    """Return, for the first pairs of heads, test images that only one of them classifies correctly."""
    rows, true = comparison.split.test, true_labels(comparison)
    pairs = []
    for difference in comparison.differences[:_PAIRS]:
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


def _suspected(comparison: ComparisonData, judge: str, errors: Sequence[SuspectedError]) -> list[Entry]:
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


def _in_brackets(probability: float | None) -> str:
    return "" if probability is None else f" ({percent(probability)})"


def _among(alike: int) -> str:
    return f"; one of {alike} such images of its group" if alike > 1 else ""


def _groups_of(comparison: ComparisonData, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Return the group of each row, or the rows where groups are not known."""
    return rows if comparison.groups is None else comparison.groups.ids[rows]


def _probabilities(comparison: ComparisonData, results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the scores of probabilities that the results have, the best head first."""
    by_name = {entry["head"]: entry for entry in results["heads"]}
    able = [result.name for result in comparison.table if result.probabilities is not None]
    return [by_name[name] | {"head": display(name)} for name in able]


def _sentence(text: str, comparison: ComparisonData) -> str:
    """Return a text with a capital letter and a full stop; a head's name stays as it is written."""
    if text.startswith(tuple(display(result.name) + end for result in comparison.results for end in " ,:")):
        return f"{text}."
    return f"{text[0].upper()}{text[1:]}."


def _unbroken(text: str) -> str:
    """Return a text as HTML in which no line ends inside a percentage or an option of a command."""
    from markupsafe import Markup

    return Markup(re.sub(r"[\d.,]+ %|--[\w-]+", r'<span class="unbroken">\g<0></span>', str(escape(text))))


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
    environment.filters["number"] = format_number
    environment.filters["interval"] = lambda ends: format_interval(*ends, as_percent=True)
    environment.filters["points"] = format_points
    environment.filters["unbroken"] = _unbroken
    environment.filters["p"] = lambda value: "< 0.001" if value < 0.001 else f"{value:.2g}"
    return environment.get_template("report.html.j2")
