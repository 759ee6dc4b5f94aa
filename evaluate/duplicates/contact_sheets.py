"""Contact sheets: the images of groups side by side."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache
from ...errors import ImageError
from ...extract import decoder_of
from ..shared import INK, default_style, image_folder, read_unchanged, try_figure, use_fonts
from .pairs import Rows
from .result import NearDuplicates, labels_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHEETS = ("largest.png", "labels.png", "doubtful.png")
_SHOWN_GROUPS = 12
_SHOWN_IMAGES = 10
_SHOWN_PAIRS = 24
_PIXELS = 112
_MISSING = np.full((_PIXELS, _PIXELS, 3), 230, np.uint8)


def save_group_sheets(near_duplicates: NearDuplicates, folder: Path, images: Path | str | None = None) -> list[str]:
    """Draw the largest groups, the label conflicts and the doubtful pairs; return notes on pictures that failed."""
    # a missing or changed image is a gray square
    cache, verdict = near_duplicates.cache, {True: "near-duplicates", False: "different"}
    groups = [(f"{len(rows):,} images", rows) for rows in near_duplicates.members[:_SHOWN_GROUPS]]
    labels = [(labels_of(cache, rows), rows) for rows in near_duplicates.label_conflicts[:_SHOWN_GROUPS]]
    pairs = [
        (f"{pair.score:.3f}: {verdict[pair.accepted]}", np.array([pair.first, pair.second]))
        for pair in near_duplicates.search.doubtful[:_SHOWN_PAIRS]
    ]
    sheet = functools.partial(_sheet, cache, image_folder(cache, images))
    notes = []
    for name, lines in zip(SHEETS, (groups, labels, pairs), strict=True):
        columns, blocks = (2, 4) if lines is pairs else (_SHOWN_IMAGES, 1)
        if lines:
            notes += try_figure(functools.partial(sheet, lines, columns, blocks), folder / name)
    return notes


@default_style()
def _sheet(cache: FeatureCache, root: Path, lines: Sequence[tuple[str, Rows]], columns: int, blocks: int = 1) -> Figure:
    """Draw lines of images, each under its title, in one or more blocks side by side."""
    from matplotlib.figure import Figure

    height = -(-len(lines) // blocks)
    wide = min(columns, max(len(rows) for _, rows in lines))
    use_fonts(title for title, _ in lines)
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
    decoder = decoder_of(cache.fingerprint)
    try:
        pixels = decoder.resize(decoder(read_unchanged(cache, root, row), 2 * _PIXELS), 2 * _PIXELS)
    except ImageError:
        return _MISSING
    halved: npt.NDArray[np.uint8] = np.rint(pixels.reshape(_PIXELS, 2, _PIXELS, 2, 3).mean((1, 3))).astype(np.uint8)
    return halved
