"""The report of a comparison: one HTML page that needs no other file."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...cache import display, format_examples, make_folder, write_atomically
from ...errors import SplitError, first_line
from ...heads import CalibratedHead
from ..metrics import METRICS, probability_scores
from ..scoring import (
    ComparisonData,
    about_own_metric,
    cache_sentences,
    cache_table,
    cache_table_legend,
    own_metric_table,
    seed_table,
    subgroup_sentence,
    subgroup_table,
)
from ..shared import (
    MATRIX_CLASSES,
    as_typed,
    has_many_heads,
    percent,
)
from .activation_maps import RenderedMaps, class_maps
from .confusions import confusion_content, pictured_rows
from .figures import figures, true_labels
from .first_screen import best_head, leakage, next_step
from .galleries import OPEN, differing_images, incorrect_predictions, suspected_images
from .inline_images import as_svg, missing_figure, pictures
from .label_errors import label_errors
from .page_template import brief, page_template
from .results_json import comparison_results
from .verdicts import best_head_verdicts, differences_by, subgroups_of_best, verdict_matrix

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CHARACTERS = 60  # of the names of classes below the title
_MOST_ROWS = 300  # of the tables of classes of the other heads


def write_report(
    comparison: ComparisonData,
    path: Path | str,
    *,
    thumbnails: bool = True,
    maps: bool = False,
    drawn: Mapping[str, str] | None = None,
    results: dict[str, Any] | None = None,
) -> Path:
    """Write a comparison as one HTML page, with images on which heads differ and suspected label errors.

    ``drawn`` are figures as `svg_of_page` returns them, by name; None draws all. ``results`` are those of
    `comparison_results`, if they exist.
    """
    if not len(comparison.split.test):
        raise SplitError("a report needs test images, got a comparison on a split without any")
    path = Path(path)
    make_folder(path.parent, "the report")
    content = page_content(comparison, thumbnails=thumbnails, maps=maps, drawn=drawn, results=results)
    page = page_template().render(**content)
    write_atomically(path, page.encode("utf-8", "replace"))
    return path


def page_content(
    comparison: ComparisonData,
    *,
    thumbnails: bool = True,
    maps: bool = False,
    drawn: Mapping[str, str] | None = None,
    results: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the variables of the template."""
    results = comparison_results(comparison) if results is None else results
    judge, errors = label_errors(comparison)
    suspected = suspected_images(comparison, str(judge), errors)
    pairs, confused = differing_images(comparison), incorrect_predictions(comparison)
    entries = [entry for pair in pairs for side in pair["sides"] for entry in side["images"]] + suspected
    entries += [entry for pair in confused for entry in pair["images"]]
    confusions = confusion_content(comparison)
    rows = [entry.row for entry in entries] + pictured_rows(confusions)
    images = pictures(comparison.cache, rows) if thumbnails else {}
    drawn_maps = class_maps(comparison, [entry.map for entry in entries]) if maps else RenderedMaps({}, "")
    if drawn is None:
        drawn = {name: _svg(draw, name) for name, draw in figures(comparison).items()}
    return {
        "title": _title(comparison),
        "results": results,
        "best": best_head(comparison),
        "next": next_step(comparison),
        "calibrated": isinstance(comparison.table[0].head, CalibratedHead),
        "leakage": leakage(comparison),
        "summary": summary(comparison),
        "notes": [_sentence(note, comparison) for note in comparison.notes],
        "scores": comparison.score_table(page=True),
        "measure": METRICS[comparison.ranked_by].title,
        "ranked_by": comparison.ranked_by,
        "confusions": confusions,
        "verdicts": verdict_matrix(comparison),
        "some_drawn": has_many_heads(comparison.results),
        "confused": confused,
        "open": OPEN,
        "some_classes": _some_classes(comparison.cache.class_names),
        "incorrect": int((comparison.table[0].predicted != true_labels(comparison)).sum()),
        "classes": _classes(comparison, results),
        "class_names": [display(name) for name in comparison.cache.class_names],
        "pairs": pairs,
        "learning": comparison.learning_table(),
        "outlook": comparison.learning_outlook,
        "gap": comparison.gap_table(page=True),
        "leaky_name": comparison.leaky_name,
        "own_metrics": [
            (
                about_own_metric(own.metric),
                own_metric_table(comparison.table, own.metric),
                differences_by(comparison, own),
            )
            for own in comparison.own_metrics.values()
        ],
        "seed_table": seed_table(comparison.head_seeds, page=True) if comparison.head_seeds else None,
        "seed_texts": [row.text for row in comparison.head_seeds],
        "subgroups": [
            (subgroup_sentence(rows), subgroup_table(rows, page=True)) for rows in subgroups_of_best(comparison)
        ],
        "caches": cache_table(comparison, page=True),
        "on_caches": cache_sentences(comparison),
        "legend_of_caches": cache_table_legend(comparison),
        "shortcuts": comparison.shortcuts,
        "shortcut": _on_shortcuts(comparison),
        "external": [(one, one.table(page=True)) for one in comparison.external],
        "probabilities": _probabilities(comparison, results),
        "judge": display(str(judge)),
        "suspected": suspected,
        "suspected_count": len(errors),
        "contradicted": any(error.reason == "near-duplicates" for error in errors),
        "images": images,
        "maps": drawn_maps.pictures,
        "without_maps": drawn_maps.reason,
        "missing_images": thumbnails and bool(entries) and not images,
        "figures": drawn,
        "curves": [svg for name, svg in drawn.items() if name.startswith("curves-")],
        "command": as_typed(results["made"]["command"]),
        "counts": comparison.cache.class_counts,
        "split": results["split"],
        "display": display,
    }


def _title(comparison: ComparisonData) -> str:
    files = dict.fromkeys(file for one in comparison.caches for file in one.files)
    if files:
        return format_examples([Path(file).name for file in files])
    return "features in memory" if comparison.cache.source is None else display(comparison.cache.source.name)


def _some_classes(names: Sequence[str]) -> str:
    """Return the first names of classes, in about a line."""
    names = [brief(name) for name in names]
    ends = itertools.accumulate(len(name) + 2 for name in names[:6])
    return format_examples(names, max(1, sum(end <= _CHARACTERS for end in ends)))


def _svg(draw: Callable[[], Figure], name: str) -> str:
    """Return a figure as SVG, or a paragraph that says why there is none."""
    try:
        return as_svg(draw(), name)
    except Exception as error:  # a figure that fails must not cost the page
        return missing_figure(f"this figure could not be drawn ({type(error).__name__}: {first_line(error)})")


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
    sentences += cache_sentences(comparison, of_best=True)[:1]
    sentences += [text for one in comparison.external for text in one.sentences[:1]]
    if comparison.earlier is not None and comparison.earlier.text:
        sentences.append(comparison.earlier.text)
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


def _on_shortcuts(comparison: ComparisonData) -> str:
    audit = comparison.shortcuts
    if audit is None or not audit.scores:
        return ""
    return _sentence(audit.sentence or "no family of values that hold no object comes near the best head", comparison)


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
