"""An explanation as a picture: the image beside the heatmap over it, for people who see one for the first time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..cache.errors import OutputError
from ..cache.names import display
from ..extract.decode import Pixels
from .plots import INK, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, Normalize
    from matplotlib.figure import Figure

    from .explanation import Explanation

SUFFIXES = (".png", ".svg", ".pdf")
_SIGNED, _UNSIGNED = "RdBu_r", "Reds"
OPACITY = 0.6


def require_picture(path: Path | str) -> None:
    """Refuse a file name that no picture of ours has.

    Raises
    ------
    OutputError
        When it does not end in .png, .svg or .pdf.
    """
    if Path(path).suffix.lower() not in SUFFIXES:
        raise OutputError(
            f"parameter output of explain must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}, got "
            f"{display(str(path))}"
        )


def look(heatmap: npt.NDArray[np.float64], signed: bool) -> tuple[Normalize, Colormap]:
    """Return how values become colours: around 0 when signed, otherwise from 0."""
    import matplotlib as mpl
    from matplotlib.colors import Normalize

    largest = float(np.abs(heatmap).max()) or 1.0
    return Normalize(-largest if signed else 0.0, largest), mpl.colormaps[_SIGNED if signed else _UNSIGNED]


def gray(pixels: Pixels) -> npt.NDArray[np.float64]:
    """Return the luma of an image, 0 to 255: its own colours would mix with those of a map."""
    luma: npt.NDArray[np.float64] = pixels @ np.array([0.299, 0.587, 0.114])
    return luma


def draw_overlay(ax: Axes, explanation: Explanation) -> Any:
    """Draw the heatmap, interpolated, over the image in gray.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
    explanation : Explanation

    Returns
    -------
    matplotlib.cm.ScalarMappable
        For a colour bar: symmetric around 0 for ``cam``, from 0 for ``grad-cam``.
    """
    from matplotlib.cm import ScalarMappable

    height, width = explanation.pixels.shape[:2]
    norm, colours = look(explanation.heatmap, explanation.method == "cam")
    ax.imshow(gray(explanation.pixels), cmap="gray", vmin=0, vmax=255)
    ax.imshow(
        explanation.heatmap,
        cmap=colours,
        norm=norm,
        alpha=OPACITY,
        interpolation="bilinear",
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
    )
    ax.set_axis_off()
    return ScalarMappable(norm, colours)


def explanation_figure(explanation: Explanation) -> Figure:
    """Draw the image beside the heatmap over it, with a colour bar, a title and a caption in plain words.

    Parameters
    ----------
    explanation : Explanation

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    height, width = explanation.pixels.shape[:2]
    aspect = float(np.clip(height / width, 0.4, 2.0))
    figure = Figure(figsize=(9.6, 4.1 * aspect + 0.9), layout="constrained")
    image, overlay = figure.subplots(1, 2)
    image.imshow(explanation.pixels)
    image.set_axis_off()
    mappable = explanation.draw(overlay)
    bar = figure.colorbar(mappable, ax=overlay, fraction=0.05, pad=0.02, alpha=OPACITY)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, colors=INK, labelsize=9)
    signed = explanation.method == "cam"
    bar.set_label("added to the score" if signed else "what speaks for the class", color=INK, fontsize=9.5)
    title = f"{display(explanation.class_name)}: probability {percent(explanation.probability)}"
    image.set_title(title, fontsize=13, fontweight="bold", color=INK, loc="left", pad=10, parse_math=False)
    figure.supxlabel(caption(explanation), x=0.01, ha="left", fontsize=9.5, color=INK, parse_math=False)
    return figure


def caption(explanation: Explanation) -> str:
    """Return what the picture shows, in words."""
    height, width = explanation.heatmap.shape
    name = display(explanation.class_name)
    places = f"{height} x {width} places, interpolated"
    if explanation.method == "cam":
        return (
            f"Where the evidence for {name} lies: red speaks for it, blue against it ({places}).\n"
            f"All places add {explanation.heatmap.sum():+.2f} to the {explanation.bias:+.2f} that the class has before "
            f"looking: score {explanation.score:+.2f} (0 if all classes were equally probable)."
        )
    if explanation.nowhere:
        return (
            f"Grad-CAM finds no place that speaks for {name} ({places}).\n"
            "That happens with this head; those linear in the features, such as logreg, have exact maps."
        )
    return (
        f"Where the evidence for {name} lies: the redder, the more a place speaks for it ({places}).\n"
        "Grad-CAM, an approximation: the places do not add up to the score."
    )
