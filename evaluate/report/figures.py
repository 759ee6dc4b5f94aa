"""The figures of a comparison: scores with intervals, ROC, precision and recall, reliability, coverage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...cache import display
from ..metrics import METRICS, coverage, reliability
from ..shared import GRID, INK, QUIET

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..scoring import ComparisonData, HeadResult

COLOURS = ("#2a78b5", "#d1603d", "#3a9a6d", "#8b5fb0", "#b8860b", "#5c6b77")  # told apart by the colour-blind
MARKERS = ("o", "s", "D", "^", "v", "P")
_MOST_CLASSES = 6
_POINTS = 300


def figures(comparison: ComparisonData) -> dict[str, Figure]:
    """Draw what can be drawn of a comparison.

    Parameters
    ----------
    comparison : ComparisonData

    Returns
    -------
    dict of str to matplotlib.figure.Figure
        ``scores``; and where a head gives probabilities ``roc``, ``precision-recall``, ``reliability`` and
        ``coverage``; ``label-budget`` when it was asked for.
    """
    drawn = {"scores": scores_figure(comparison)}
    able = [result for result in comparison.results if result.probabilities is not None]
    if able and len(comparison.split.test):
        drawn["roc"] = _per_class(comparison, able, "roc")
        drawn["precision-recall"] = _per_class(comparison, able, "precision-recall")
        drawn["reliability"] = reliability_figure(comparison, able)
        drawn["coverage"] = coverage_figure(comparison, able)
    if comparison.budget:
        drawn["label-budget"] = budget_figure(comparison.budget)
    return drawn


def scores_figure(comparison: ComparisonData) -> Figure:
    """Draw every head's first score with its 95 % interval, and beside it what a random split pretends.

    The first score is the one by which heads are ordered: accuracy, or balanced accuracy when classes are skewed.
    """
    rows = comparison.table[::-1]
    measure = comparison.ranked_by
    figure = _figure(7.6, 0.9 + 0.5 * len(rows))
    ax = figure.subplots()
    on_random = comparison.random.results if comparison.random is not None else []
    promises = {result.name: result.scores[measure] for result in on_random}
    for place, row in enumerate(rows):
        ends = comparison.result(row["head"]).intervals.get(measure)
        if row["head"] in promises:
            promised = promises[row["head"]]
            ax.plot([row[measure], promised], [place, place], color=GRID, linewidth=6, zorder=1)
            ax.plot(promised, place, "o", color=COLOURS[1], markerfacecolor="none", markersize=8, zorder=3)
        if ends is not None:
            ax.plot(ends, [place, place], color=COLOURS[0], linewidth=2.5, solid_capstyle="round", zorder=2)
        ax.plot(row[measure], place, "o", color=COLOURS[0], markersize=8, zorder=4)
    ax.set_yticks(range(len(rows)), [short(row["head"]) for row in rows])
    ax.set_ylim(-0.6, len(rows) - 0.4)
    ax.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g} %")
    ax.grid(axis="x", color=GRID)
    _plain(ax, f"{METRICS[measure].title} and its 95 % interval")
    if comparison.random is not None:
        handles = [
            ax.plot([], [], "o", color=COLOURS[0], label="copies kept together")[0],
            ax.plot([], [], "o", color=COLOURS[1], markerfacecolor="none", label="random split")[0],
        ]
        ax.legend(
            handles=handles,
            frameon=False,
            labelcolor=INK,
            ncols=2,
            loc="lower right",
            bbox_to_anchor=(1, 1),
            fontsize=9,
        )
    return figure


def reliability_figure(comparison: ComparisonData, able: list[HeadResult]) -> Figure:
    """Draw how often predictions are right against the probability that they claim."""
    figure = _figure(5.2, 4.4)
    ax = figure.subplots()
    true = _true(comparison)
    ax.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle="--")
    lowest = 1.0
    for number, result in enumerate(able):
        bins = reliability(true, result.probabilities)  # type: ignore[arg-type]
        x, y = [one["confidence"] for one in bins], [one["accuracy"] for one in bins]
        error = [[one["accuracy"] - one["low"] for one in bins], [one["high"] - one["accuracy"] for one in bins]]
        colour, marker = head_style(number)
        ax.errorbar(
            x, y, np.maximum(error, 0), color=colour, marker=marker, markersize=5, elinewidth=1, alpha=0.9,
            label=short(result.name),
        )  # fmt: skip
        lowest = min(lowest, *x)
    ax.set(xlim=(max(0, lowest - 0.05), 1.02), ylim=(0, 1.03))
    ax.set_xlabel("probability of the predicted class", color=INK)
    ax.set_ylabel("share that is right", color=INK)
    finish(ax, "reliability", "lower right")
    return figure


def coverage_figure(comparison: ComparisonData, able: list[HeadResult]) -> Figure:
    """Draw the accuracy among the images of which a head is surest, against their share."""
    figure = _figure(5.2, 4.4)
    ax = figure.subplots()
    true = _true(comparison)
    for number, result in enumerate(able):
        curve = coverage(true, result.probabilities)["curve"]  # type: ignore[arg-type]
        colour, _ = head_style(number)
        x, y = [one["coverage"] for one in curve], [one["accuracy"] for one in curve]
        ax.plot(x, y, color=colour, linewidth=2, linestyle=head_linestyle(number), label=short(result.name))
    ax.set_xlim(0, 1.02)
    ax.set_xlabel("share of images that are decided, the surest first", color=INK)
    ax.set_ylabel("accuracy among them", color=INK)
    finish(ax, "coverage and accuracy", "lower left")
    return figure


def _per_class(comparison: ComparisonData, able: list[HeadResult], kind: str) -> Figure:
    """Draw a curve per head, an axis per class; of many classes those that the heads know worst."""
    from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

    true, names = _true(comparison), comparison.cache.class_names
    present = [index for index in np.unique(true).tolist() if (true != index).any()]
    area = roc_auc_score if kind == "roc" else average_precision_score
    areas = {
        (index, number): float(area(true == index, result.probabilities[:, index]))  # type: ignore[index]
        for index in present
        for number, result in enumerate(able)
    }
    worst = sorted(present, key=lambda index: np.mean([areas[index, number] for number in range(len(able))]))
    shown = sorted(worst[:_MOST_CLASSES])
    columns = max(1, min(3, len(shown)))
    lines = max(1, -(-len(shown) // columns))
    figure = _figure(3.4 * columns, 3.5 * lines)
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for ax in grid[len(shown) :]:
        ax.set_axis_off()
    near = shown and min(areas[index, number] for index in shown for number in range(len(able))) > 0.97
    for ax, index in zip(grid, shown, strict=False):
        for number, result in enumerate(able):
            scores = result.probabilities[:, index]  # type: ignore[index]
            if kind == "roc":
                x, y, _ = roc_curve(true == index, scores)
            else:
                y, x, _ = precision_recall_curve(true == index, scores)
            keep = np.unique(np.linspace(0, len(x) - 1, _POINTS).round().astype(int))
            label = f"{short(result.name)} {areas[index, number]:.4f}"
            style = {
                "color": head_style(number)[0],
                "linestyle": head_linestyle(number),
                "linewidth": 1.8,
                "label": label,
            }
            ax.plot(x[keep], y[keep], drawstyle="steps-post" if kind != "roc" else "default", **style)
        if kind == "roc":
            ax.set(xlim=(-0.005, 0.25) if near else (-0.02, 1.02), ylim=(0.75, 1.005) if near else (-0.02, 1.02))
            ax.set_xlabel("false positive rate", color=INK)
            ax.set_ylabel("true positive rate", color=INK)
        else:
            ax.set(xlim=(0.5, 1.01) if near else (-0.02, 1.02), ylim=(0.5, 1.01) if near else (-0.02, 1.02))
            ax.set_xlabel("recall", color=INK)
            ax.set_ylabel("precision", color=INK)
        ax.grid(color=GRID)
        ax.legend(frameon=False, labelcolor=INK, fontsize=8, loc="lower right" if kind == "roc" else "lower left")
        _plain(ax, short(names[index]))
    return figure


def _true(comparison: ComparisonData) -> np.ndarray[Any, np.dtype[np.intp]]:
    return comparison.cache.labels[comparison.split.test].astype(np.intp)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _plain(ax: Axes, title: str) -> None:
    ax.set_title(title, fontsize=11, fontweight="bold", color=INK, loc="left")
    ax.tick_params(length=0, colors=INK, labelsize=9)
    ax.spines[["top", "right", "left", "bottom"]].set_visible(False)


def finish(ax: Axes, title: str, legend: Any) -> None:
    """Give an axis its title, grid and legend."""
    ax.grid(color=GRID)
    ax.legend(frameon=False, labelcolor=INK, loc=legend)
    _plain(ax, title)


def head_style(number: int) -> tuple[str, str]:
    """Return the colour and the marker of the n-th head."""
    return COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]


def head_linestyle(number: int) -> str:
    """Return the line style of the n-th head."""
    return ("-", "--", "-.", ":")[number % 4]


def short(name: str, longest: int = 28) -> str:
    """Return the end of a name that is too long for a figure."""
    shown = display(name)
    return shown if len(shown) <= longest else "…" + shown[1 - longest :]


def budget_figure(curve: list[dict[str, Any]]) -> Figure:
    """Draw the accuracy against the number of training images, a line per head, with the range over repeats."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.6, 4), layout="constrained")
    ax = figure.subplots()
    for number, name in enumerate(dict.fromkeys(row["head"] for row in curve)):
        rows = [row for row in curve if row["head"] == name]
        x = [row["images"] for row in rows]
        colour, marker = head_style(number)
        ax.fill_between(x, [row["low"] for row in rows], [row["high"] for row in rows], color=colour, alpha=0.15, lw=0)
        accuracy = [row["accuracy"] for row in rows]
        ax.plot(x, accuracy, color=colour, marker=marker, linestyle=head_linestyle(number), label=short(name))
    ax.set_xscale("log")
    finish(ax, "accuracy against the number of labelled training images", "lower right")
    ax.set_xlabel("training images", color=ax.title.get_color())
    return figure
