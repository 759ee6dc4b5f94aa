"""Figure of a parameter search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...cache import display
from ...errors import is_number
from ...heads import Choice, Range, Space
from ..shared import GRID, INK, default_style, grid_figure
from .successive_halving import Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_RUNGS = ["#a9c9e3", "#5d9dcb", "#174a73"]  # light to dark: from few images to all
_BEST = "#d1603d"
_WIDE = 20.0  # ratio of the largest to the smallest number from which an axis is logarithmic
_DECADES = 100.0  # up to this ratio a logarithmic axis has ticks between powers of ten


@default_style()
def tuning_figure(title: str, score: str, space: Space, table: Sequence[Trial], best: Trial, default: Trial) -> Figure:
    """Draw the score of every candidate against each parameter that was searched, one panel per parameter."""
    # darker dots are fits on more images; the bars of the last rung are one standard deviation over the folds
    names = list(space)
    scored = [row for row in table if not math.isnan(row.score)]
    figure, axes = grid_figure(len(names), 5.2, 3.9)
    for ax, name in zip(axes, names, strict=True):
        if ax is not axes[0]:
            ax.sharey(axes[0])
        _draw_parameter(ax, name, space[name], scored, best, default)
        ax.set_ylabel(f"{score} in the search", color=INK)
    handles, labels = axes[0].get_legend_handles_labels()
    legend: dict[str, Any] = {"frameon": False, "labelcolor": INK, "fontsize": 9.5}
    figure.legend(handles, labels, loc="outside lower center", ncols=3 if len(names) == 1 else len(labels), **legend)
    figure.suptitle(title, fontsize=12, fontweight="bold", color=INK, x=0.01, ha="left")
    return figure


def _draw_parameter(ax: Axes, name: str, space: Range | Choice, rows: list[Trial], best: Trial, default: Trial) -> None:
    position = _axis(ax, space, [row.parameters[name] for row in rows])
    rungs = sorted({row.rung for row in rows})
    colours = _RUNGS[-len(rungs) :]
    for rung, colour in zip(rungs, colours, strict=False):
        in_rung = [row for row in rows if row.rung == rung]
        x = [position(row.parameters[name]) for row in in_rung]
        y = [row.score for row in in_rung]
        if rung == rungs[-1]:
            deviations = np.nan_to_num([row.sd for row in in_rung])
            ax.errorbar(x, y, deviations, fmt="none", ecolor=colour, elinewidth=1, alpha=0.6)
        ax.scatter(x, y, s=34, color=colour, label=f"{in_rung[0].images:,.0f} images", zorder=2 + rung)
    for label, trial, colour, marker, size in (("default", default, INK, "s", 150), ("best", best, _BEST, "o", 100)):
        if math.isfinite(trial.score):
            style: dict[str, Any] = {"facecolors": "none", "edgecolors": colour, "linewidths": 2, "zorder": 9}
            ax.scatter([position(trial.parameters[name])], [trial.score], s=size, marker=marker, label=label, **style)
    ax.set_xlabel(display(name), fontsize=12, color=INK)
    ax.grid(axis="y", color=GRID)
    ax.set_axisbelow(True)
    ax.tick_params(length=0, colors=INK, which="both", labelleft=True)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.spines["bottom"].set_color(GRID)


def _axis(ax: Axes, space: Range | Choice, used: list[Any]) -> Any:
    """Prepare the axis of a parameter and return the function from its values to positions on it."""
    listed = [value for value in ([] if isinstance(space, Range) else space.values) if value in used]
    values = listed + [value for value in used if value not in listed]
    numbers = [float(value) for value in values if is_number(value)]
    if not isinstance(space, Range) and len(numbers) < 3:
        words: list[Any] = []
        for value in values:
            if value not in words:
                words.append(value)
        ax.set_xticks(range(len(words)), [display(str(value)) for value in words])
        ax.set_xlim(-0.5, len(words) - 0.5)
        return words.index
    log = min(numbers) > 0 and (space.log if isinstance(space, Range) else max(numbers) / min(numbers) > _WIDE)
    if log:
        from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        if max(numbers) / min(numbers) < _DECADES:  # powers of ten alone would be one tick or two
            ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    low, high = min(numbers), max(numbers)  # values that are not numbers are to the right of all numbers
    other = high * max(high / low, 2.0) ** 0.12 if log else high + 0.12 * max(high - low, 1e-9)
    for word in {str(value) for value in values if not is_number(value)}:  # such as gamma="scale"
        style: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": 9, "color": INK}
        ax.text(other, 0.015, display(word), transform=ax.get_xaxis_transform(), **style)
        ax.axvline(other, color=GRID, zorder=0)
    return lambda value: float(value) if is_number(value) else other
