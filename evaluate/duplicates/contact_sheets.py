"""Contact sheets: the images of groups side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache
from ...errors import ImageError
from ...extract import decode, resize
from ..shared import INK, default_style, image_folder, read_unchanged, save_figure
from .pairs import Rows
from .result import NearDuplicates, labels_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN_GROUPS = 12
_SHOWN_IMAGES = 10
_SHOWN_PAIRS = 24
_PIXELS = 112
_MISSING = np.full((_PIXELS, _PIXELS, 3), 230, np.uint8)


def save_group_sheets(near_duplicates: NearDuplicates, folder: Path, images: Path | str | None = None) -> list[Path]:
    """Draw the largest groups, the doubtful pairs and the label conflicts, and return the paths."""
    # a missing or changed image is a gray square
    root = image_folder(near_duplicates.cache, images)
    sheets = {
        "largest.png": [(f"{len(rows):,} images", rows) for rows in near_duplicates.members[:_SHOWN_GROUPS]],
        "labels.png": [
            (labels_of(near_duplicates.cache, rows), rows) for rows in near_duplicates.label_conflicts[:_SHOWN_GROUPS]
        ],
    }
    written = []
    for name, lines in sheets.items():
        if lines:
            written.append(folder / name)
            save_figure(_sheet(near_duplicates.cache, root, lines, _SHOWN_IMAGES), written[-1])
    doubtful = near_duplicates.search.doubtful[:_SHOWN_PAIRS]
    if doubtful:
        verdict = {True: "near-duplicates", False: "different"}
        pairs = [
            (f"{pair.score:.3f}: {verdict[pair.accepted]}", np.array([pair.first, pair.second])) for pair in doubtful
        ]
        written.append(folder / "doubtful.png")
        save_figure(_sheet(near_duplicates.cache, root, pairs, 2, blocks=4), written[-1])
    return written


@default_style()
def _sheet(cache: FeatureCache, root: Path, lines: Sequence[tuple[str, Rows]], columns: int, blocks: int = 1) -> Figure:
    """Draw lines of images, each under its title, in one or more blocks side by side."""
    from matplotlib.figure import Figure

    height = -(-len(lines) // blocks)
    wide = min(columns, max(len(rows) for _, rows in lines))
    figure = Figure(figsize=(1.15 * wide * blocks, 1.45 * height), dpi=100)
    for number, (title, rows) in enumerate(lines):
        down, block = divmod(number, blocks)
        for index, row in enumerate(rows[:wide]):
            left = (block * wide + index + 0.04) / (blocks * wide)
            ax = figure.add_axes((left, 1 - (down + 0.99) / height, 0.92 / (blocks * wide), 0.8 / height))
            ax.imshow(_thumbnail(cache, root, row), interpolation="nearest")
            ax.set_axis_off()
            if index == 0:
                ax.set_title(title, loc="left", fontsize=9, color=INK, pad=2)
    return figure


def _thumbnail(cache: FeatureCache, root: Path, row: int) -> npt.NDArray[np.uint8]:
    try:
        pixels = resize(decode(read_unchanged(cache, root, row), 2 * _PIXELS), 2 * _PIXELS)
    except ImageError:
        return _MISSING
    halved: npt.NDArray[np.uint8] = np.rint(pixels.reshape(_PIXELS, 2, _PIXELS, 2, 3).mean((1, 3))).astype(np.uint8)
    return halved
