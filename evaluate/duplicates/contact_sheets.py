"""Contact sheets: the images of groups side by side."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache
from ...errors import ImageError
from ...extract import decoder_of
from ..shared import INK, default_style, image_folder, read_unchanged, short, try_figure, use_fonts
from .pairs import Rows
from .result import NearDuplicates, labels_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHEETS = ("largest.png", "labels.png", "doubtful.png")
_SHOWN_GROUPS = 12
_SHOWN_IMAGES = 10
_SHOWN_PAIRS = 24
_PIXELS = 112
_WIDTH, _HEIGHT, _TITLE, _SIDE = 1.15, 1.6, 0.22, 1.06  # inches of an image with its texts, of the title, of the image
_CHARACTERS = 24  # of a line under an image
_MISSING = np.full((_PIXELS, _PIXELS, 3), 230, np.uint8)


def save_group_sheets(near_duplicates: NearDuplicates, folder: Path, images: Path | str | None = None) -> list[str]:
    """Draw the largest groups, the label conflicts and the doubtful pairs; return notes on pictures that failed."""
    # a missing or changed image is a gray square
    cache, verdict = near_duplicates.cache, {True: "near-duplicates", False: "different"}
    groups = [(_count(rows), rows) for rows in near_duplicates.members[:_SHOWN_GROUPS]]
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
            draw = functools.partial(sheet, lines, columns, blocks, labels=lines is labels)
            notes += try_figure(draw, folder / name)
    return notes


def _count(rows: Rows) -> str:
    more = f", {_SHOWN_IMAGES} of them" if len(rows) > _SHOWN_IMAGES else ""
    return f"{len(rows):,} images{more}"


@default_style()
def _sheet(
    cache: FeatureCache, root: Path, lines: Sequence[tuple[str, Rows]], columns: int, blocks: int, labels: bool
) -> Figure:
    """Draw lines of images over their file names, each under its title, in one or more blocks side by side."""
    from matplotlib.figure import Figure

    height = -(-len(lines) // blocks)
    wide = min(columns, max(len(rows) for _, rows in lines))
    captions = [[_caption(cache, row, labels) for row in rows[:wide].tolist()] for _, rows in lines]
    use_fonts((title for title, _ in lines), (caption for of_line in captions for caption in of_line))
    figure = Figure(figsize=(_WIDTH * wide * blocks, _HEIGHT * height), dpi=100)
    for number, (title, rows) in enumerate(lines):
        down, block = divmod(number, blocks)
        for index, row in enumerate(rows[:wide].tolist()):
            left = (block * wide + index + 0.04) / (blocks * wide)
            bottom = 1 - (down + (_TITLE + _SIDE) / _HEIGHT) / height
            ax = figure.add_axes((left, bottom, _SIDE / _WIDTH / (blocks * wide), _SIDE / _HEIGHT / height))
            ax.imshow(_thumbnail(cache, root, row), interpolation="nearest")
            ax.set_axis_off()
            below: dict[str, Any] = {"transform": ax.transAxes, "va": "top", "fontsize": 5.5, "linespacing": 1.1}
            ax.text(0, -0.03, captions[number][index], color=INK, **below)
            if index == 0:
                ax.set_title(title, loc="left", fontsize=9, color=INK, pad=3)
    return figure


def _caption(cache: FeatureCache, row: int, labels: bool) -> str:
    """Return the name of an image's file, and below its label or else its folder."""
    folder, _, name = cache.paths[row].rpartition("/")
    second = str(cache.label_names[row]) or "without label" if labels else folder
    return "\n".join(short(text, _CHARACTERS) for text in (name, second) if text)


def _thumbnail(cache: FeatureCache, root: Path, row: int) -> npt.NDArray[np.uint8]:
    decoder = decoder_of(cache.fingerprint)
    try:
        pixels = decoder.resize(decoder(read_unchanged(cache, root, row), 2 * _PIXELS), 2 * _PIXELS)
    except ImageError:
        return _MISSING
    halved: npt.NDArray[np.uint8] = np.rint(pixels.reshape(_PIXELS, 2, _PIXELS, 2, 3).mean((1, 3))).astype(np.uint8)
    return halved
