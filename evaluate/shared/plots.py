"""Figures of confusion matrices and training curves, drawn without a display and without global state."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...cache import display, write_atomically
from ...errors import first_line
from .few_of_many import MATRIX_CLASSES, SHOWN_PAIRS, confused_pairs
from .fonts import drawable, set_numbers, use_fonts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#22303c"
GRID = "#e3e8ec"
QUIET = "#9aa7b1"
_TRAINING, _VALIDATION = "#2a78b5", "#d1603d"  # distinct also in gray and for the colour-blind
_DPI = 150
_WHY_VALIDATION_IS_BETTER = (
    "Training is measured while the head learns, with dropout and augmented views if it uses them; validation is "
    "measured\nafter each epoch, without them. So validation can be better than training."
)


@contextlib.contextmanager
def default_style() -> Iterator[None]:
    """Draw with the defaults of matplotlib instead of settings from matplotlibrc, MPLBACKEND and notebooks.

    It also decorates functions. It is entered before matplotlib is imported, which fails for an unknown MPLBACKEND.
    """
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib as mpl
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams["text.parse_math"] = False  # a $ in a name is a dollar
        mpl.rcParams["axes.facecolor"] = "none"  # the ground of the figure is under the axes too
        logger = logging.getLogger("matplotlib.font_manager")
        logger.addFilter(_says_news)
        try:
            with warnings.catch_warnings():
                # pixels get other texts: see `drawable`; who reads an SVG file has other fonts
                warnings.filterwarnings("ignore", "Glyph .* missing from")
                yield
        finally:
            logger.removeFilter(_says_news)


def _says_news(record: logging.LogRecord) -> bool:
    """Return False for the note that a font of the system has one weight, as most have."""
    return "Failed to find font weight" not in str(record.msg)


@default_style()
def confusion_figure(
    matrices: dict[str, Any], class_names: list[str], subtitles: dict[str, str], heading: str = ""
) -> Figure:
    """Draw confusion matrices (title to k x k counts, rows true) side by side, with a subtitle for each title.

    Of many classes, the most confused pairs are drawn instead.
    """
    use_fonts(class_names, matrices)
    if len(class_names) <= MATRIX_CLASSES:
        side, labels = _side(len(class_names)), _label_style(class_names)
        length = _widest(class_names) * labels["fontsize"] / 72
        draw, size = draw_confusion, (side + 0.5 + length, side + 1.1 + (length if "rotation" in labels else 0))
    else:
        draw, size = _draw_pairs, (8.5, 7.0)
    figure, axes = grid_figure(len(matrices), *size)
    for ax, (title, matrix) in zip(axes, matrices.items(), strict=True):
        draw(ax, np.asarray(matrix), class_names)
        ax.set_title(short(title), fontsize=13, fontweight="bold", color=INK, loc="left", pad=24)
        below_title: dict[str, Any] = {"xycoords": "axes fraction", "xytext": (0, 6), "textcoords": "offset points"}
        ax.annotate(subtitles.get(title, ""), (0, 1), fontsize=9.5, color=INK, va="bottom", **below_title)
    set_heading(figure, heading)
    set_numbers(figure, class_names, matrices)
    return figure


def grid_figure(count: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Return a figure with this number of axes of a size in inches, at most 3 in a row and no empty place."""
    from matplotlib.figure import Figure

    rows = [len(row) for row in np.array_split(np.arange(count), -(-count // 3))]
    figure = Figure(figsize=(width * max(rows), height * len(rows)), layout="constrained")
    grid = figure.add_gridspec(len(rows), 6)
    places = [
        grid[line, 6 // columns * place : 6 // columns * (place + 1)]
        for line, columns in enumerate(rows)
        for place in range(columns)
    ]
    return figure, [figure.add_subplot(place) for place in places]


def set_heading(figure: Figure, text: str) -> None:
    """Write a text over all axes of a figure, wrapped to its width."""
    if text:
        width = int(figure.get_figwidth() * 12)  # characters of 10 points
        lines = [wrapped for line in text.split("\n") for wrapped in textwrap.wrap(line, width)]
        figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=10, color=INK)
        figure.set_layout_engine("constrained", h_pad=0.1)


def draw_confusion(ax: Axes, matrix: Any, class_names: list[str]) -> None:
    """Draw a confusion matrix on given axes: colour and fraction per row, counts in the cells."""
    totals = matrix.sum(axis=1, keepdims=True)
    fractions = matrix / np.maximum(totals, 1)
    classes = len(class_names)
    ax.imshow(fractions, cmap="Blues", vmin=0, vmax=1, aspect="equal")
    names, size = _shorten_names(class_names), _cell_font(classes)
    ax.set_xticks(range(classes), names, **_label_style(class_names))
    ax.set_yticks(range(classes), names, fontsize=size)
    ax.set_xlabel("predicted class", color=INK)
    ax.set_ylabel("true class", color=INK)
    ax.tick_params(length=0, colors=INK)
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_xticks(np.arange(1, classes) - 0.5, minor=True)
    ax.set_yticks(np.arange(1, classes) - 0.5, minor=True)
    ax.grid(which="minor", color="white", linewidth=2 if classes <= 10 else 0.5)
    ax.tick_params(which="minor", length=0)
    for row in range(classes):
        for column in range(classes):
            colour = "white" if fractions[row, column] > 0.65 else INK
            text = f"{matrix[row, column]:,}"
            if classes <= 10:
                text += f"\n{percent(fractions[row, column])}"
            if matrix[row, column] == 0:
                text, colour = "0", QUIET
            ax.text(column, row, text, ha="center", va="center", color=colour, fontsize=size)


def _cell_font(classes: int) -> float:
    """Return the font size of the cells of a confusion matrix, in points."""
    return float(np.clip(0.3 * 72 * _side(classes) / classes, 4, 10))


def _label_style(class_names: list[str]) -> dict[str, Any]:
    """Return the style of column labels, centred over their columns: horizontal if they fit, or else upright."""
    classes, size = len(class_names), _cell_font(len(class_names))
    fitting = 72 * _side(classes) / classes / _widest(class_names)
    return {"fontsize": min(size, fitting)} if fitting >= 7 else {"fontsize": size, "rotation": 90}


def _draw_pairs(ax: Axes, matrix: Any, class_names: list[str]) -> None:
    """Draw a bar for each of the most confused pairs of classes."""
    from matplotlib.ticker import MaxNLocator

    pairs = confused_pairs(matrix)
    names = _shorten_names(class_names)
    ax.set_yticks(range(len(pairs)), [f"{names[pair.true]} → {names[pair.predicted]}" for pair in pairs], fontsize=9)
    ax.barh(range(len(pairs)), [pair.images for pair in pairs], height=0.7, color=_TRAINING)
    for line, pair in enumerate(pairs):
        text = f" {pair.images:,} of {matrix[pair.true].sum():,} ({percent(pair.fraction)})"
        ax.text(pair.images, line, text, va="center", color=INK, fontsize=9)
    ax.set_ylim(SHOWN_PAIRS - 0.5, -0.5)
    ax.set_xlim(0, 1.25 * max((pair.images for pair in pairs), default=1))
    ax.set_ylabel("true class → predicted class", color=INK)
    ax.set_xlabel(
        f"images, of the {SHOWN_PAIRS} most confused pairs" if pairs else "no classes are confused", color=INK
    )
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(axis="x", color=GRID)
    ax.set_axisbelow(True)
    ax.tick_params(length=0, colors=INK)
    ax.spines[:].set_visible(False)


@default_style()
def history_figure(histories: dict[str, dict[str, list[float]]]) -> Figure:
    """Draw training curves, a row of accuracy and loss per head; the best epoch of a fine-tuning is marked."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    use_fonts(histories)
    figure = Figure(figsize=(9, 3.6 * len(histories)), layout="constrained")
    set_numbers(figure, head_names=histories)
    grid = figure.subplots(len(histories), 2, squeeze=False)
    for row, (name, history) in zip(grid, histories.items(), strict=True):
        row[0].set_title(f"training curves of {display(name)}", fontsize=12, fontweight="bold", color=INK, loc="left")
        epochs = np.asarray(history.get("epoch", range(1, len(history["loss"]) + 1)))
        for ax, key in zip(row, ("accuracy", "loss"), strict=True):
            _draw_curve(ax, epochs, history[key], "training", _TRAINING, "o")
            if f"val_{key}" in history:
                _draw_curve(ax, epochs, history[f"val_{key}"], "validation", _VALIDATION, "s")
            if "epoch" in history:
                best = int(np.argmin(history["val_loss"]))
                ax.axvline(epochs[best], color=INK, linewidth=1, linestyle=":", zorder=0)
                value = history[f"val_{key}"][best]
                ring = {"markersize": 12, "markerfacecolor": "none", "markeredgecolor": INK, "linestyle": ""}
                ax.plot(epochs[best], value, "o", label=f"best: epoch {epochs[best]:.0f}", **ring)
            ax.set_xlabel("epoch", color=INK)
            ax.set_ylabel(key, color=INK)
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
            if key == "accuracy":
                ax.yaxis.set_major_formatter(in_percent)
            ax.grid(axis="y", color=GRID)
            ax.tick_params(length=0, colors=INK)
            ax.spines[["top", "right", "left"]].set_visible(False)
            ax.spines["bottom"].set_color(GRID)
            ax.legend(frameon=False, labelcolor=INK)
    if any("val_loss" in history for history in histories.values()):
        figure.supxlabel(_WHY_VALIDATION_IS_BETTER, x=0.01, ha="left", fontsize=9, color=INK)
    return figure


def _draw_curve(ax: Axes, epochs: Any, values: Sequence[float], label: str, colour: str, marker: str) -> None:
    ax.plot(
        epochs, values, color=colour, marker=marker if len(values) <= 30 else "", markersize=5, linewidth=2, label=label
    )


def save_figure(figure: Figure, *paths: Path | str) -> None:
    """Write a figure to files, in the formats that their suffixes name."""
    forms = [Path(path).suffix.lstrip(".").lower() for path in paths]
    for path, content in zip(paths, rendered(figure, *forms), strict=True):
        write_atomically(path, content)


@default_style()
def rendered(figure: Figure, *forms: str) -> list[bytes]:
    """Return a figure in these formats; they share one layout, which takes as long as drawing."""
    import matplotlib as mpl

    contents: list[bytes] = []
    boxes: dict[bool, Any] = {}  # names have other widths than the numbers that replace them
    for form in forms:
        buffer = io.BytesIO()
        # the same figure gives the same bytes, with no date and no random names inside
        names = contextlib.nullcontext(False) if form == "svg" else drawable(figure)
        with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "embedonce"}), names as replaced:
            figure.set_dpi(_DPI)
            layout = figure.get_layout_engine()
            if layout is not None:
                if figure.axes:  # without any, the layout warns
                    layout.execute(figure)
                figure.set_layout_engine(None)
            if replaced not in boxes:
                boxes[replaced] = figure.get_tightbbox().padded(0.2)
            figure.savefig(
                buffer,
                format=form,
                dpi=_DPI,
                facecolor="white",
                bbox_inches=boxes[replaced],
                metadata={"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(form),
            )
        contents.append(buffer.getvalue())
    return contents


def try_figure(draw: Callable[[], Figure], *paths: Path) -> list[str]:
    """Draw a figure and write it to the paths; a failure removes them and is a note, so that it never costs results."""
    try:
        save_figure(draw(), *paths)
    except Exception as error:  # a font or a library that is broken, a disk that is full
        for path in paths:
            with contextlib.suppress(OSError):
                path.unlink()
        names = " and ".join(display(path.name) for path in paths)
        return [f"{names} could not be drawn ({type(error).__name__}: {first_line(error)})"]
    return []


def _side(classes: int) -> float:
    """Return the side of a confusion matrix in inches."""
    return float(np.clip(1.8 + 0.62 * classes, 3.4, 14.0))


def percent(fraction: float) -> str:
    """Return a fraction in percent; rounding never turns it into none or all."""
    return f"{100 * fraction:.0f} %" if fraction in (0, 1) else f"{100 * min(max(fraction, 0.001), 0.999):.1f} %"


def _shorten_names(names: Sequence[str], longest: int = 24) -> list[str]:
    """Return names as they are displayed, long ones without their middle, since they may differ at the end."""
    half = longest // 2
    texts = map(display, names)
    return [text if len(text) <= longest else f"{text[:half]}…{text[1 + half - longest :]}" for text in texts]


def _widest(names: Sequence[str]) -> float:
    """Return about the width of the longest name, in font sizes."""
    return 0.65 * max(sum(1 + (character > "\u2e80") for character in name) or 1 for name in _shorten_names(names))


def in_percent(value: float, _: float) -> str:
    """Return the text of a tick, in percent."""
    return f"{100 * value:.4g} %"


def short(name: str, longest: int = 28) -> str:
    """Return a name as it is displayed, or its end if it is too long for a figure."""
    text = display(name)
    return text if len(text) <= longest else "…" + text[1 - longest :]
