"""Small class activation maps of images of a report: where a head saw the class that it took an image for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...errors import EmbedonceError, HeadError, ImageError
from ...extract import Pixels, recipe_of, resize
from ...extract.backbone import feature_map
from ...heads import class_evidence, require_explainable
from ..models import OPACITY, FeatureSource, backbone_of, check_mean, gray, heatmap_colormap, heatmap_of
from ..scoring import ComparisonData
from ..shared import image_folder, read_unchanged
from .inline_images import PIXELS, as_data_url


class MapRequest(NamedTuple):
    """A row of the cache, and the class that a head saw in it."""

    head: str
    row: int
    class_name: str


class RenderedMaps(NamedTuple):
    """Maps as pictures, and what is missing.

    Attributes
    ----------
    pictures : dict of Wanted to str
        JPEG of at most 224 pixels a side as data URLs. Images that are gone or have changed are left out, and heads
        that have no map.
    reason : str
        Why there are none.
    """

    pictures: dict[MapRequest, str]
    reason: str


def class_maps(comparison: ComparisonData, wanted: Sequence[MapRequest]) -> RenderedMaps:
    """Draw the maps of images for the heads of a comparison that have them.

    Parameters
    ----------
    comparison : ComparisonData
    wanted : sequence of Wanted

    Returns
    -------
    Maps
        Empty, with the reason, when the backbone cannot be made, the features are not float32, or the heads that
        predicted are not kept: with folds. A report is never lost for them.
    """
    if comparison.splits:
        return RenderedMaps({}, "with folds, the heads that saw these images are not kept")
    try:
        heads = _explainable(comparison)
        chosen = sorted({one for one in wanted if one.head in heads}, key=lambda one: one.row)
        return RenderedMaps(_draw(comparison, heads, chosen) if chosen else {}, "")
    except EmbedonceError as error:
        return RenderedMaps({}, str(error))


def _explainable(comparison: ComparisonData) -> dict[str, Any]:
    """Return the heads that have maps, by name."""
    found = {}
    for result in comparison.results:
        try:
            require_explainable(result.head)
        except HeadError:
            continue
        found[result.name] = result.head
    return found


def _draw(comparison: ComparisonData, heads: dict[str, Any], wanted: Sequence[MapRequest]) -> dict[MapRequest, str]:
    """Draw maps, in the order of rows, so that no image is embedded twice."""
    cache = comparison.cache
    source = FeatureSource.of_cache(cache)
    source.require_float32("a class activation map")
    recipe, backbone = recipe_of(cache), backbone_of(source)
    root, last, drawn = image_folder(cache), -1, {}
    pixels: Pixels | None = None
    for one in wanted:
        if one.row != last:
            last = one.row
            try:
                pixels = recipe.decode(read_unchanged(cache, root, one.row))
            except ImageError:
                pixels = None
                continue
            maps = feature_map(backbone, resize(pixels, recipe.image_size))
            features = cache.features[one.row]
            check_mean(maps, features)
        if pixels is not None:
            evidence = class_evidence(heads[one.head], features)
            names = [str(name) for name in heads[one.head].classes_]
            heatmap = heatmap_of(maps, evidence, names.index(one.class_name))
            drawn[one] = as_data_url(overlay(pixels, heatmap, signed=evidence.bias is not None))
    return drawn


def overlay(pixels: Pixels, heatmap: npt.NDArray[np.float64], *, signed: bool) -> Pixels:
    """Return an image in gray under its heatmap.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (height, width, 3)
    heatmap : ndarray of float64, shape (h, w)
    signed : bool
        Whether blue speaks against the class.

    Returns
    -------
    ndarray of uint8, shape (m, n, 3)
        At most 224 pixels a side.
    """
    from PIL import Image

    picture = Image.fromarray(gray(pixels).astype(np.uint8))
    picture.thumbnail((PIXELS, PIXELS))
    norm, colours = heatmap_colormap(heatmap, signed)
    spread = Image.fromarray(heatmap.astype(np.float32)).resize(picture.size, Image.Resampling.BILINEAR)
    coloured = colours(norm(np.asarray(spread)))[..., :3] * 255
    mixed: Pixels = np.rint(OPACITY * coloured + (1 - OPACITY) * np.asarray(picture)[..., None]).astype(np.uint8)
    return mixed
