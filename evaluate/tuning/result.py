"""Result of a parameter search."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...cache import FeatureCache, display, make_folder, write_atomically
from ...errors import is_number
from ...heads import Range, Space
from ..metrics import METRICS, PairedTest
from ..scoring import HeadResult
from ..shared import INK, as_csv, as_json, describe_cache, how_it_was_made, save_figure
from ..splits import Split

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass
class Tuning:
    """What a search found, and what that is worth.

    Attributes
    ----------
    cache : FeatureCache
    head : str
    metric : str
        As :func:`tune` takes it.
    space : mapping of str to Range or Choice
        What was searched.
    best_parameters : dict
        Value of every parameter of the space; the defaults when nothing was better.
    default_parameters : dict
    table : list of dict
        One per candidate and rung: ``trial`` (0 is the default), ``rung``, ``images`` (mean number that a fit had),
        ``parameters``, ``score`` and ``sd`` (mean and sample standard deviation over the folds; NaN for what failed or
        was not finished), ``fit_seconds`` (mean), ``note``.
    inner_score, inner_default : float
        Mean score over the folds of the best and of the default parameters, in the same rung.
    result, default : HeadResult
        Of both on the test part, fitted on the whole training part; ``default`` is None when it cannot be fitted.
    difference : PairedTest or None
        Accuracy of both on the test part compared image by image; None when there is nothing to compare.
    split : Split
        Training part, which was searched on, and test part.
    folds : list of Split
        Of the search; rows of the cache, all from the training part.
    seed : int
    notes : list of str
    seconds : float
        Wall-clock time of everything.
    trials : int
        Candidates, with the default, of which something was finished.
    """

    cache: FeatureCache
    head: str
    metric: str
    space: Space
    best_parameters: dict[str, Any]
    default_parameters: dict[str, Any]
    table: list[dict[str, Any]]
    inner_score: float
    inner_default: float
    result: HeadResult
    default: HeadResult | None
    split: Split
    folds: list[Split]
    seed: int
    difference: PairedTest | None = None
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    trials: int = 0

    @property
    def outer_score(self) -> float:
        """The best parameters' score on the test part, the number to report; NaN when there is none of it."""
        return self._score_of(self.result)

    @property
    def outer_default(self) -> float:
        """The default parameters' score on the test part; NaN also when they cannot be fitted."""
        return self._score_of(self.default)

    def _score_of(self, result: HeadResult | None) -> float:
        score = None if result is None else result.scores[self.metric]
        return math.nan if score is None else float(score)

    @property
    def gain(self) -> float:
        """By how much the best parameters are better than the defaults on the test part; below 0 if worse."""
        return METRICS[self.metric].sign * (self.outer_score - self.outer_default)

    @property
    def optimism(self) -> float:
        """By how much the search's score is better than the one on the test part.

        Training images are fewer in the search, which lowers its score: optimism can be below 0.
        """
        return METRICS[self.metric].sign * (self.inner_score - self.outer_score)

    @property
    def options(self) -> list[str]:
        """The best parameters as ``embedonce compare -p`` takes them, such as ``svm.C=0.1``."""
        return [f"{self.head}.{name}={_as_option(value)}" for name, value in self.best_parameters.items()]

    def save(self, folder: Path | str) -> list[Path]:
        """Write ``tune.json``, ``trials.csv``, ``tune.png`` and ``tune.svg`` into a folder; return their paths.

        Raises
        ------
        OutputError
            When the folder or a file cannot be written.
        """
        return save_tuning(self, folder)

    def __str__(self) -> str:
        lines = [f"{'':<10}{'search':>10}{'test':>10}"]
        lines.append(f"{'best':<10}{self.inner_score:>10.4f}{self.outer_score:>10.4f}")
        lines.append(f"{'default':<10}{self.inner_default:>10.4f}{self.outer_default:>10.4f}")
        return "\n".join([" ".join(map(display, self.options)), *lines, *self.notes])


def _as_option(value: Any) -> str:
    """Return a value as the command line reads it: JSON, or text that is no JSON."""
    if isinstance(value, str):
        try:
            json.loads(value)
        except ValueError:
            return value
    return json.dumps(value, default=str)


FORMAT = "embedonce-tuning"


FORMAT_VERSION = 1


_RUNGS = ["#a9c9e3", "#5d9dcb", "#174a73"]  # light to dark: from few images to all


_BEST = "#d1603d"


_WIDE = 20.0  # ratio of the largest to the smallest number from which an axis is logarithmic


_DECADES = 100.0  # the same ratio, up to which such an axis has ticks between powers of ten


def save_tuning(tuning: Tuning, folder: Path | str) -> list[Path]:
    """Write a search into a folder; files of the same names are replaced.

    ``tune.json`` has every number, ``trials.csv`` one row per candidate and rung; ``tune.png`` and ``tune.svg`` show
    them.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    OutputError
        When the folder or a file cannot be written.
    """
    folder = make_folder(folder, "results")
    written = [folder / name for name in ("tune.json", "trials.csv", "tune.png", "tune.svg")]
    write_atomically(written[0], as_json(tuning_results(tuning)))
    write_atomically(written[1], _trials_csv(tuning))
    figure = tuning_figure(tuning)
    for path in written[2:]:
        save_figure(figure, path)
    return written


def tuning_results(tuning: Tuning) -> dict[str, Any]:
    """Return everything that was measured, JSON-serialisable; what is NaN in the table is None."""
    default = tuning.default
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "made": how_it_was_made(),
        "cache": describe_cache(tuning.cache),
        "head": tuning.head,
        "metric": tuning.metric,
        "seed": tuning.seed,
        "split": tuning.split.to_dict(),
        "folds": [fold.to_dict() for fold in tuning.folds],
        "space": {
            name: _plain(vars(values) if isinstance(values, Range) else values.values)
            for name, values in tuning.space.items()
        },
        "best_parameters": _plain(tuning.best_parameters),
        "default_parameters": _plain(tuning.default_parameters),
        "options": tuning.options,
        "inner": {"best": _plain(tuning.inner_score), "default": _plain(tuning.inner_default)},
        "outer": {"best": tuning.result.scores, "default": None if default is None else default.scores},
        "gain": _plain(tuning.gain),
        "optimism": _plain(tuning.optimism),
        "difference": None if tuning.difference is None else tuning.difference.to_dict(),
        "trials": tuning.trials,
        "seconds": tuning.seconds,
        "notes": tuning.notes,
        "table": _plain(tuning.table),
    }


def tuning_figure(tuning: Tuning) -> Figure:
    """Draw the score of every candidate against each parameter that was searched.

    Returns
    -------
    matplotlib.figure.Figure
        One panel per parameter. The darker a dot, the more images its fits had; the bars of the last rung are one
        standard deviation over the folds to either side.
    """
    from matplotlib.figure import Figure

    names = list(tuning.space)
    columns = min(len(names), 2)
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(5.2 * columns + 0.6, 3.7 * rows + 0.9), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for ax, name in zip(axes, names, strict=False):
        _draw_parameter(ax, tuning, name)
        ax.set_ylabel(f"{_metric(tuning)} in the search", color=INK)
    for ax in axes[len(names) :]:
        ax.set_axis_off()
    handles, labels = axes[0].get_legend_handles_labels()
    legend: dict[str, Any] = {
        "frameon": False,
        "labelcolor": INK,
        "fontsize": 9.5,
        "ncols": 3 if columns == 1 else len(labels),
    }
    figure.legend(handles, labels, loc="outside lower center", **legend)
    figure.suptitle(
        f"{display(tuning.head)}: {_metric(tuning)} on the test part {tuning.outer_score:.4f}, "
        f"with the defaults {tuning.outer_default:.4f}",
        fontsize=12, fontweight="bold", color=INK, x=0.01, ha="left",
    )  # fmt: skip
    return figure


def _draw_parameter(ax: Axes, tuning: Tuning, name: str) -> None:
    rows = [row for row in tuning.table if not math.isnan(row["score"])]
    place = _axis(ax, tuning, name, rows)
    rungs = sorted({row["rung"] for row in rows})
    colours = _RUNGS[-len(rungs) :]
    for rung, colour in zip(rungs, colours, strict=False):
        mine = [row for row in rows if row["rung"] == rung]
        x = [place(row["parameters"][name]) for row in mine]
        y = [row["score"] for row in mine]
        if rung == rungs[-1]:
            spread = np.nan_to_num([row["sd"] for row in mine])
            ax.errorbar(x, y, spread, fmt="none", ecolor=colour, elinewidth=1, alpha=0.6)
        ax.scatter(x, y, s=34, color=colour, label=f"{mine[0]['images']:,.0f} images", zorder=2 + rung)
    marks = (
        ("default", tuning.default_parameters, tuning.inner_default, INK, "s"),
        ("best", tuning.best_parameters, tuning.inner_score, _BEST, "o"),
    )
    for label, parameters, score, colour, marker in marks:
        if math.isfinite(score):
            hollow: dict[str, Any] = {"facecolors": "none", "edgecolors": colour, "linewidths": 2}
            size = 150 if marker == "s" else 100
            ax.scatter([place(parameters[name])], [score], s=size, marker=marker, label=label, zorder=9, **hollow)
    ax.set_title(display(name), fontsize=12, fontweight="bold", color=INK, loc="left")
    ax.grid(axis="y", color="#e3e8ec")
    ax.set_axisbelow(True)
    ax.tick_params(length=0, colors=INK, which="both", labelleft=True)
    ax.spines[["top", "right", "left"]].set_visible(False)


def _axis(ax: Axes, tuning: Tuning, name: str, rows: list[dict[str, Any]]) -> Any:
    """Prepare the axis of a parameter and return the function from its values to places on it."""
    used = [row["parameters"][name] for row in rows]
    space = tuning.space[name]
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
        if max(numbers) / min(numbers) < _DECADES:  # powers of ten alone would be one tick or two
            ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            ax.xaxis.set_minor_formatter(NullFormatter())
    aside = _aside(min(numbers), max(numbers), log)
    for word in {str(value) for value in values if not is_number(value)}:  # such as gamma="scale"
        below: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "xytext": (0, 3), "textcoords": "offset points"}
        ax.annotate(display(word), (aside, 0), ha="center", va="bottom", fontsize=9, color=INK, **below)
        ax.axvline(aside, color="#e3e8ec", zorder=0)
    return lambda value: float(value) if is_number(value) else aside


def _aside(low: float, high: float, log: bool) -> float:
    """Return a place to the right of all numbers of an axis, for a value that is none."""
    return high * max(high / low, 2.0) ** 0.12 if log else high + 0.12 * max(high - low, 1e-9)


def _metric(tuning: Tuning) -> str:
    return METRICS[tuning.metric].title


def _trials_csv(tuning: Tuning) -> bytes:
    names = list(tuning.space)
    header = ["trial", "rung", "images", *names, "score", "sd", "fit_seconds", "note"]
    rows = (
        [row["trial"], row["rung"], f"{row['images']:.1f}", *(row["parameters"][name] for name in names)]
        + ["" if math.isnan(row[column]) else row[column] for column in ("score", "sd", "fit_seconds")]
        + [display(row["note"])]
        for row in tuning.table
    )
    return as_csv(header, rows)


def _plain(value: Any) -> Any:
    """Return a value without NaN, which strict JSON has not."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
