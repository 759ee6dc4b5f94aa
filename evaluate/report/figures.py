"""The figures of a comparison: scores with intervals, ROC, precision and recall, reliability, coverage."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..metrics import METRICS, average_precision, coverage, reliability, roc_area
from ..shared import (
    GRID,
    INK,
    QUIET,
    confusion_figure,
    default_style,
    drawn_heads,
    grid_figure,
    history_figure,
    in_percent,
    percent,
    set_heading,
    set_numbers,
    short,
    use_fonts,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..scoring import CacheScore, ComparisonData, HeadResult, LearningPoint, ShortcutAudit

COLOURS = ("#2a78b5", "#d1603d", "#3a9a6d", "#8b5fb0", "#b8860b", "#5c6b77")  # told apart by the colour-blind
MARKERS = ("o", "s", "D", "^", "v", "P")
_FEW = 5  # images of a bin
_MOST_CLASSES = 6
_POINTS = 300
_LISTED = 4  # classes that a text names
_INSIDE, _LONG = 6, 24  # heads, and characters of a name, up to which a legend is inside the axes
_TICK_WIDTH = 0.09  # width of a tick's text, as a fraction of the axis


def figures(comparison: ComparisonData) -> dict[str, Callable[[], Figure]]:
    """Return what draws each figure of the page, by name: of probabilities, learning curve and training if any."""
    drawing: dict[str, Callable[[], Figure]] = {"scores": functools.partial(scores_figure, comparison)}
    if len(costs_of_caches(comparison)[1]) > 1:
        drawing["cost"] = functools.partial(cost_figure, comparison)
    able = drawn_heads([result for result in comparison.table if result.probabilities is not None])
    if able and len(comparison.split.test):
        drawing["roc"] = functools.partial(_per_class, comparison, able, "roc")
        drawing["precision-recall"] = functools.partial(_per_class, comparison, able, "precision-recall")
        drawing["reliability"] = functools.partial(reliability_figure, comparison, able)
        drawing["coverage"] = functools.partial(coverage_figure, comparison, able)
    if comparison.learning_curve:
        names = [result.name for result in comparison.table]
        drawing["learning-curve"] = functools.partial(learning_curve_figure, comparison.learning_curve, names)
    if comparison.shortcuts is not None and comparison.shortcuts.scores:
        drawing["shortcuts"] = functools.partial(shortcuts_figure, comparison.shortcuts)
    for number, one in enumerate(comparison.external, 1):
        drawing[f"external-{number}"] = functools.partial(external_figure, comparison, one.results[0])
    stems = file_stems(comparison)
    histories = [(result.name, result.history) for result in comparison.table if result.history]
    for name, history in drawn_heads(histories):
        drawing[f"curves-{stems[name]}"] = functools.partial(history_figure, {name: history})
    return {name: default_style()(functools.partial(_with_names, comparison, draw)) for name, draw in drawing.items()}


def shortcuts_figure(audit: ShortcutAudit) -> Figure:
    """Draw the score of each family with its interval, the best head, the majority rate and the band of chance."""
    rows = audit.scores[::-1]
    figure = _figure(7.6, 1.7 + 0.34 * len(rows))
    ax = figure.subplots()
    ax.axvspan(*audit.chance, color=GRID, lw=0, zorder=0, label="chance (95 %)")
    ax.axvline(audit.majority, color=QUIET, linestyle=":", label="most frequent class")
    ax.axvline(audit.best, color=COLOURS[0], linestyle="--", label=f"best head: {short(audit.head)}")
    near = {row.family for row in audit.findings}
    colours = [COLOURS[1] if row.family in near else QUIET for row in rows]
    ax.barh(range(len(rows)), [row.score for row in rows], height=0.55, color=colours, zorder=2)
    for y, row in enumerate(rows):
        ax.plot([row.low, row.high], [y, y], color=INK, linewidth=1.5, zorder=3)
        ax.text(1.12, y, percent(row.score), ha="right", va="center", fontsize=8.5, color=INK)
    ax.set_yticks(range(len(rows)), [row.family for row in rows])
    ax.set_xlim(0, 1.13)
    ax.set_xticks(np.linspace(0, 1, 6))
    ax.xaxis.set_major_formatter(in_percent)
    title = METRICS[audit.scores[0].metric].title
    ax.set_xlabel(title, color=INK)
    below: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.35, -0.75 / figure.get_figheight())}
    ax.legend(frameon=False, labelcolor=INK, ncols=3, fontsize=9, **below)
    _style(ax, f"{title} from values that hold no object")
    return figure


def external_figure(comparison: ComparisonData, external: HeadResult) -> Figure:
    """Draw the confusion matrices of a head on the test part and on an external set."""
    matrices = {"test part": comparison.confusion(external.name), "external": external.scores["confusion"]}
    subtitles = {"test part": external.name, "external": external.name}
    return confusion_figure(matrices, comparison.cache.class_names, subtitles)


def _with_names(comparison: ComparisonData, draw: Callable[[], Figure]) -> Figure:
    names = comparison.cache.class_names, [result.name for result in comparison.results]
    use_fonts(*names)
    figure = draw()
    set_numbers(figure, *names)
    return figure


def drawn_names(comparison: ComparisonData) -> list[str]:
    """Return the names of the heads that are drawn, the best first."""
    return [result.name for result in drawn_heads(comparison.table)]


def file_stems(comparison: ComparisonData) -> dict[str, str]:
    """Return a name for the files of each head; no two are equal, not even where upper and lower case are."""
    stems: dict[str, str] = {}
    for result in comparison.results:
        stem = plain = re.sub(r"[^\w.+-]", "-", result.name)  # package.module:Class has a colon
        number = 2
        while stem.casefold() in {other.casefold() for other in stems.values()}:
            stem, number = f"{plain}-{number}", number + 1
        stems[result.name] = stem
    return stems


def best_of(comparison: ComparisonData) -> str:
    """Return a text that says which heads are drawn; empty if all are."""
    return _best_of(drawn_heads(comparison.table), comparison.table)


def _best_of(drawn: Sequence[Any], heads: Sequence[Any]) -> str:
    return f"Drawn: the best {len(drawn)} of {len(heads)} heads." if len(drawn) < len(heads) else ""


def scores_figure(comparison: ComparisonData) -> Figure:
    """Draw the score that orders the heads with its 95 % interval, and the score on the other split."""
    drawn = drawn_heads(comparison.table)
    results = drawn[::-1]
    measure = comparison.ranked_by
    figure = _figure(7.6, 1.1 + 0.6 * len(results))
    ax = figure.subplots()
    other = comparison.leaky or comparison.grouped
    on_other = {result.name: result.scores[measure] for result in (other.results if other is not None else ())}
    number: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "fontsize": 8.5, "color": INK}
    for y, result in enumerate(results):
        score, interval = result.scores[measure], result.intervals.get(measure)
        if result.name in on_other:
            ax.plot([score, on_other[result.name]], [y, y], color=GRID, linewidth=6, zorder=1)
            ax.plot(on_other[result.name], y, "o", color=COLOURS[1], markerfacecolor="none", markersize=8, zorder=3)
            ax.annotate(percent(on_other[result.name]), (on_other[result.name], y), (0, -7), va="top", **number)
        if interval is not None:
            ax.plot(interval, [y, y], color=COLOURS[0], linewidth=2.5, solid_capstyle="round", zorder=2)
        ax.plot(score, y, "o", color=COLOURS[0], markersize=8, zorder=4)
        ax.annotate(percent(score), (score, y), (0, 6), va="bottom", **number)
    ax.set_yticks(range(len(results)), [short(result.name) for result in results])
    ax.set_ylim(-0.6, len(results) - 0.4)
    ax.xaxis.set_major_formatter(in_percent)
    ax.set_xlabel(METRICS[measure].title, color=INK)
    ax.grid(axis="x", color=GRID)
    _style(ax, f"{METRICS[measure].title} and its 95 % interval")
    set_heading(figure, best_of(comparison))
    if other is not None:
        ax.plot([], [], "o", color=COLOURS[0], label=f"{comparison.split.method} split")
        ax.plot([], [], "o", color=COLOURS[1], markerfacecolor="none", label=f"{other.split.method} split")
        above: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1, 1)}
        ax.legend(frameon=False, labelcolor=INK, ncols=2, fontsize=9, **above)
    return figure


def costs_of_caches(comparison: ComparisonData) -> tuple[str, list[tuple[CacheScore, float]]]:
    """Return what the cost of features is measured in, and that of each cache that has one, the cheapest first."""
    caches = comparison.caches
    timed = [(one, 1 / one.image_seconds) for one in caches if one.image_seconds is not None]
    counted = [(one, one.multiply_accumulates / 1e6) for one in caches if one.multiply_accumulates is not None]
    if len(timed) >= len(counted):
        return "images/s", sorted(timed, key=lambda pair: -pair[1])
    return "MMACs", sorted(counted, key=lambda pair: pair[1])


def cost_figure(comparison: ComparisonData) -> Figure:
    """Draw the score of the best head on each cache with its interval against the cost of the features."""
    unit, costs = costs_of_caches(comparison)
    figure = _figure(7.6, 4.2 + 0.12 * len(costs))
    ax = figure.subplots()
    best = -np.inf
    front: list[tuple[float, float]] = []
    for one, cost in costs:
        if one.score > best:
            best, front = one.score, [*front, (cost, one.score)]
    ax.plot(*zip(*front, strict=True), color=GRID, linewidth=6, solid_capstyle="round", zorder=1)
    above: dict[str, Any] = {"textcoords": "offset points", "ha": "left", "va": "bottom", "fontsize": 9, "color": INK}
    for one, cost in costs:
        colour, marker = head_style([other.name for other in comparison.caches].index(one.name))
        if one.low is not None and one.high is not None:
            ax.plot([cost, cost], [one.low, one.high], color=colour, linewidth=2.5, solid_capstyle="round", zorder=2)
        label = f"{short(one.name)}, {short(one.best_head)}"
        ax.plot(cost, one.score, marker, color=colour, markersize=8, zorder=3, label=label)
        ax.annotate(percent(one.score), (cost, one.score), (6, 4), **above)
    ax.set_xscale("log")
    ax.margins(x=0.12)
    ticks: list[float] = []
    for _, cost in costs:  # texts must not overlap
        if all(abs(np.log(cost / tick)) > _TICK_WIDTH * abs(np.log(costs[0][1] / costs[-1][1])) for tick in ticks):
            ticks.append(cost)
    ax.set_xticks(ticks, [f"{float(f'{tick:.2g}'):,g}" for tick in ticks])
    ax.minorticks_off()
    title = METRICS[comparison.ranked_by].title
    what = "images/s of extraction on this machine" if unit == "images/s" else "million multiply-accumulates per image"
    ax.set_xlabel(f"{what} (logarithmic axis)", color=INK)
    ax.set_ylabel(title, color=INK)
    ax.yaxis.set_major_formatter(in_percent)
    ax.grid(color=GRID)
    ax.legend(frameon=False, labelcolor=INK, fontsize=9, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.16))
    _style(ax, f"{title} of the best head on each cache and its 95 % interval")
    return figure


def reliability_figure(comparison: ComparisonData, able: Sequence[HeadResult]) -> Figure:
    """Draw the fraction of correct predictions against the probability of the predicted class.

    Bins of few images are hollow and not on the line; those of one image are left out.
    """
    figure = _figure(5.2, 4.8 + _room_for_legend(_names(able)))
    ax = figure.subplots()
    true = true_labels(comparison)
    ax.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle="--")
    lowest = 1.0
    for number, result in _numbered(comparison, able):
        # few images say little about an accuracy, so a line does not go through them
        bins = reliability(true, result.probabilities, comparison.test_groups)  # type: ignore[arg-type]
        few = [one for one in bins if 1 < one["count"] < _FEW]
        bins = [one for one in bins if one["count"] >= _FEW]
        x, y = [one["confidence"] for one in bins], [one["accuracy"] for one in bins]
        error = [[one["accuracy"] - one["low"] for one in bins], [one["high"] - one["accuracy"] for one in bins]]
        colour, marker = head_style(number)
        ax.errorbar(
            x, y, np.maximum(error, 0), color=colour, marker=marker, markersize=5, elinewidth=1, alpha=0.9,
            label=short(result.name),
        )  # fmt: skip
        ax.plot(
            [one["confidence"] for one in few], [one["accuracy"] for one in few], color=colour, marker=marker,
            markersize=4, markerfacecolor="none", linestyle="none", alpha=0.8,
        )  # fmt: skip
        lowest = min(lowest, *x, *(one["confidence"] for one in few), 1.0)
    ax.set(xlim=(max(0, min(lowest - 0.05, 0.5)), 1.02), ylim=(0, 1.03))
    ax.xaxis.set_major_formatter(in_percent)
    ax.yaxis.set_major_formatter(in_percent)
    ax.set_xlabel(
        f"probability of the predicted class\n(hollow: 2 to {_FEW - 1} images; single images are left out)", color=INK
    )
    ax.set_ylabel("predictions that are correct", color=INK)
    _finish(ax, "reliability of the probabilities", _names(able))
    set_heading(figure, _best_of_able(comparison, able))
    return figure


def coverage_figure(comparison: ComparisonData, able: Sequence[HeadResult]) -> Figure:
    """Draw the accuracy among the most confident predictions against their fraction."""
    figure = _figure(5.2, 4.8 + _room_for_legend(_names(able)))
    ax = figure.subplots()
    true, lowest = true_labels(comparison), 0.98
    for number, result in _numbered(comparison, able):
        curve = coverage(true, result.probabilities)  # type: ignore[arg-type]
        colour, marker = head_style(number)
        x, y = [one["coverage"] for one in curve], [one["accuracy"] for one in curve]
        style: dict[str, Any] = {"linestyle": head_linestyle(number)} if len(x) > 1 else {"marker": marker}
        ax.plot(x, y, color=colour, linewidth=2, label=short(result.name), **style)
        lowest = min(lowest, *y)
    ax.set(xlim=(0, 1.02), ylim=(lowest - 0.08 * (1 - lowest), 1 + 0.05 * (1 - lowest)))
    ax.xaxis.set_major_formatter(in_percent)
    ax.yaxis.set_major_formatter(in_percent)
    ax.set_xlabel("images that the head decides, the most confident first\n(a person decides the others)", color=INK)
    ax.set_ylabel("accuracy on these images", color=INK)
    _finish(ax, "accuracy on the most confident predictions", _names(able))
    set_heading(figure, _best_of_able(comparison, able))
    return figure


def _best_of_able(comparison: ComparisonData, able: Sequence[HeadResult]) -> str:
    return _best_of(able, [result for result in comparison.results if result.probabilities is not None])


def _numbered(comparison: ComparisonData, results: Sequence[HeadResult]) -> list[tuple[int, HeadResult]]:
    """Return results with their places in the table, from 0, which decide colours and markers."""
    names = [result.name for result in comparison.table]
    return [(names.index(result.name), result) for result in results]


def _per_class(comparison: ComparisonData, able: Sequence[HeadResult], kind: str) -> Figure:
    """Draw a curve per head and an axis per class, the class with the smallest mean area under the curve first."""
    from sklearn.metrics import precision_recall_curve, roc_curve

    true, names = true_labels(comparison), comparison.cache.class_names
    present = [index for index in np.unique(true).tolist() if (true != index).any()]
    area = roc_area if kind == "roc" else average_precision
    areas = {
        index: [area(true == index, result.probabilities[:, index]) for result in able]  # type: ignore[index]
        for index in present
    }
    perfect = [index for index in present if {f"{value:.3f}" for value in areas[index]} == {"1.000"}]
    imperfect = sorted(set(present) - set(perfect), key=lambda index: np.mean(areas[index]))
    panels = imperfect[:_MOST_CLASSES]
    height = 3.7 + _room_for_legend(_names(able))
    figure, axes = grid_figure(len(panels), 3.4, height) if panels else (_figure(7.6, 0.9), [])
    lines = [_which_classes(kind, len(panels), len(imperfect), len(present)), *_all_perfect(names, perfect)]
    set_heading(figure, "\n".join([*lines, _best_of_able(comparison, able)]).strip())
    near = panels and min(min(areas[index]) for index in panels) > 0.97
    for ax, index in zip(axes, panels, strict=True):
        for (number, result), value in zip(_numbered(comparison, able), areas[index], strict=True):
            scores = result.probabilities[:, index]  # type: ignore[index]
            if kind == "roc":
                x, y, _ = roc_curve(true == index, scores)
            else:
                y, x, _ = precision_recall_curve(true == index, scores)
            keep = np.unique(np.linspace(0, len(x) - 1, _POINTS).round().astype(int))
            label = f"{short(result.name)} {value:.3f}"
            style: dict[str, Any] = {
                "linestyle": head_linestyle(number),
                "drawstyle": "steps-post" if kind != "roc" else "default",
            }
            ax.plot(x[keep], y[keep], color=head_style(number)[0], linewidth=1.8, label=label, **style)
        if kind == "roc":
            ax.set(xlim=(-0.005, 0.25) if near else (-0.02, 1.02), ylim=(0.75, 1.005) if near else (-0.02, 1.02))
            ax.set_xlabel("false positive rate", color=INK)
            ax.set_ylabel("true positive rate", color=INK)
        else:
            ax.set(xlim=(0.5, 1.01) if near else (-0.02, 1.02), ylim=(0.5, 1.01) if near else (-0.02, 1.02))
            ax.set_xlabel("recall", color=INK)
            ax.set_ylabel("precision", color=INK)
        ax.grid(color=GRID)
        _legend(ax, 8, _names(able), "area" if kind == "roc" else "average precision")
        _style(ax, short(names[index]))
    return figure


def _which_classes(kind: str, drawn: int, imperfect: int, classes: int) -> str:
    title, area = ("ROC", "area under the curve") if kind == "roc" else ("Precision and recall", "average precision")
    if drawn < imperfect:
        return f"{title}: the {drawn} of {classes} classes with the smallest mean {area}."
    if drawn > 1:
        return f"{title}: the class with the smallest mean {area} first."
    return f"{title}: one class against the others." if drawn else f"{title}: {area}."


def _all_perfect(names: Sequence[str], perfect: Sequence[int]) -> list[str]:
    """Return a line on the classes whose areas are all 1.000, which are not drawn."""
    if not perfect:
        return []
    listed = [short(names[index]) for index in perfect]
    if len(listed) > _LISTED:
        listed = [*listed[: _LISTED - 1], f"{len(listed) - _LISTED + 1:,} other classes"]
    return [f"All 1.000: {', '.join(listed[:-1])} and {listed[-1]}." if len(listed) > 1 else f"All 1.000: {listed[0]}."]


def true_labels(comparison: ComparisonData) -> npt.NDArray[np.intp]:
    """Return the classes of the test images: intp, shape (t,)."""
    return comparison.cache.labels[comparison.split.test].astype(np.intp)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _style(ax: Axes, title: str) -> None:
    ax.set_title(title, fontsize=11, fontweight="bold", color=INK, loc="left")
    ax.tick_params(length=0, colors=INK, labelsize=9)
    ax.spines[["top", "right", "left", "bottom"]].set_visible(False)


def _names(results: Sequence[HeadResult]) -> list[str]:
    return [result.name for result in results]


def _finish(ax: Axes, title: str, names: Sequence[str]) -> None:
    ax.grid(color=GRID)
    _legend(ax, 10, names)
    _style(ax, title)


def _room_for_legend(names: Sequence[str]) -> float:
    columns = _legend_columns(names)
    return 0.24 * -(-len(names) // columns) if columns else 0.0


def _legend_columns(names: Sequence[str]) -> int:
    """Return the number of columns of a legend below the axes; 0 for one inside."""
    long = max(map(len, names), default=0) > _LONG
    return 1 if long else 2 if len(names) > _INSIDE else 0


def _legend(ax: Axes, size: float, names: Sequence[str], title: str = "") -> None:
    """Add a legend where it covers least, or below the axes if there are many heads or long names."""
    columns = _legend_columns(names)
    below: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2), "ncols": columns}
    placed = below if columns else {"loc": "best"}
    legend = ax.legend(frameon=False, labelcolor=INK, fontsize=size, title=title, title_fontsize=size, **placed)
    legend.get_title().set_color(INK)


def head_style(number: int) -> tuple[str, str]:
    """Return the colour and the marker of the n-th head; no two of the first twelve are equal."""
    return COLOURS[number % len(COLOURS)], MARKERS[(number + number // len(COLOURS)) % len(MARKERS)]


def head_linestyle(number: int) -> str:
    """Return the line style of the n-th head."""
    return ("-", "--", "-.", ":")[number % 4]


def learning_curve_figure(curve: Sequence[LearningPoint], heads: Sequence[str] = ()) -> Figure:
    """Draw the leading score and its interval against the number of training images, of the heads in their order."""
    from matplotlib.ticker import NullLocator

    names = [name for name in heads or _names_of(curve) if name in _names_of(curve)]
    drawn = drawn_heads(names)
    figure = _figure(7.6, 4.2 + _room_for_legend(drawn))
    ax = figure.subplots()
    for name in drawn:
        number = (heads or names).index(name)
        points = [point for point in curve if point.head == name]
        x = [point.images for point in points]
        colour, marker = head_style(number)
        low, high = [point.low for point in points], [point.high for point in points]
        ax.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
        scores = [point.score for point in points]
        ax.plot(x, scores, color=colour, marker=marker, linestyle=head_linestyle(number), label=short(name))
    title = METRICS[curve[0].metric].title
    sizes = sorted({point.images for point in curve if point.head in drawn}, reverse=True)
    ax.set_xscale("log")
    ticks = sizes[:1]
    for images in sizes:
        if images * (sizes[0] / sizes[-1]) ** _TICK_WIDTH <= ticks[-1] and images < ticks[-1]:  # texts must not overlap
            ticks.append(images)
    ax.set_xticks(ticks[::-1], [f"{images:,.0f}" for images in ticks[::-1]])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(in_percent)
    ax.set_xlabel("training images (logarithmic axis)", color=INK)
    ax.set_ylabel(title, color=INK)
    _finish(ax, f"{title} against the number of labelled training images", drawn)
    set_heading(figure, _best_of(drawn, names))
    return figure


def _names_of(curve: Sequence[LearningPoint]) -> list[str]:
    return list(dict.fromkeys(point.head for point in curve))
