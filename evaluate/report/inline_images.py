"""Pictures inside a page: images of the cache as data, figures as SVG that follows the page's colours."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from ...cache import FeatureCache
from ...errors import ImageError
from ...extract import Pixels, cpu_count, decoder_of
from ..shared import GRID, INK, QUIET, image_folder, read_unchanged, rendered

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PIXELS = 224
_QUALITY = 80
_FOLLOWING = {INK: "currentColor", GRID: "var(--line)", QUIET: "var(--quiet)"}


def pictures(cache: FeatureCache, rows: Iterable[int]) -> dict[int, str]:
    """Return images of a cache as data URLs, by row; images that are missing or have changed are left out."""
    root = image_folder(cache)
    chosen = sorted(set(rows))
    with ThreadPoolExecutor(cpu_count()) as pool:
        urls = pool.map(lambda row: _picture(cache, root, row), chosen)
        return {row: url for row, url in zip(chosen, urls, strict=True) if url is not None}


def _picture(cache: FeatureCache, root: Path, row: int) -> str | None:
    try:
        decoder = decoder_of(cache.fingerprint)
        return as_data_url(decoder.framed(decoder(read_unchanged(cache, root, row), PIXELS)))
    except ImageError:
        return None


def as_data_url(pixels: Pixels) -> str:
    """Return pixels, uint8 of shape (height, width, 3), as JPEG of at most 224 pixels a side in a data URL."""
    from PIL import Image

    picture = Image.fromarray(pixels)
    picture.thumbnail((PIXELS, PIXELS))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def as_svg(figure: Figure, name: str) -> str:
    """Return a figure as an SVG element of the page: see `svg_of_page`."""
    return svg_of_page(rendered(figure, "svg")[0].decode(), name)


def missing_figure(note: str) -> str:
    """Return a paragraph in the place of a figure that could not be drawn."""
    return f"<p>{escape(note[0].upper() + note[1:])}.</p>"


def svg_of_page(text: str, name: str) -> str:
    """Return the text of an SVG file as an element in the colours of the page; its identifiers begin with ``name``."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = text.replace("fill: #ffffff", "fill: none", 1)  # the ground
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = text.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    for colour, following in _FOLLOWING.items():
        text = text.replace(colour, following)
    # the font of the page
    text = re.sub(r"font: ([^;\"]*?)('[^;\"]*)(?=[;\"])", r"font: \1system-ui, sans-serif", text)
    width, height = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', text).groups()  # type: ignore[union-attr]
    limit = f'style="width:100%;max-width:{round(float(width) * 1.25)}px;height:auto"'
    return text.replace(f'width="{width}pt" height="{height}pt"', limit, 1)
