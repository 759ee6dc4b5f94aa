"""Small class activation maps of images of a report."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache
from ...errors import EmbedonceError, HeadError, ImageError
from ...extract import Pixels, recipe_of
from ...extract.backbone import feature_map
from ...heads import class_evidence, require_explainable
from ..models import OPACITY, FeatureSource, backbone_of, check_mean, gray, heatmap_colormap, heatmap_of
from ..scoring import ComparisonData
from ..shared import image_folder, read_unchanged
from .inline_images import PIXELS, as_data_url


class MapRequest(NamedTuple):
    """A head, a row of the cache, and the class whose map is drawn."""

    head: str
    row: int
    class_name: str


class RenderedMaps(NamedTuple):
    """Maps as data URLs of JPEG images; or the reason why there are none."""

    pictures: dict[MapRequest, str]
    reason: str


def class_maps(comparison: ComparisonData, requests: Sequence[MapRequest]) -> RenderedMaps:
    """Draw the maps of images, for heads that have maps; missing and changed images are left out."""
    if comparison.folds:
        return RenderedMaps({}, "with folds, the heads that made these predictions are not kept")
    heads = {result.name: result.head for result in comparison.results if _is_explainable(result.head)}
    chosen = {request for request in requests if request.head in heads}
    pictures: dict[MapRequest, str] = {}
    reason = ""
    caches = {name: comparison.cache_of(name) for name in heads}
    for cache in {id(one): one for one in caches.values()}.values():
        of_cache = sorted((one for one in chosen if caches[one.head] is cache), key=lambda request: request.row)
        try:
            pictures |= _draw(cache, heads, of_cache) if of_cache else {}
        except EmbedonceError as error:
            reason = reason or str(error)
    return RenderedMaps(pictures, reason)


def _is_explainable(head: Any) -> bool:
    try:
        require_explainable(head)
    except HeadError:
        return False
    return True


def _draw(cache: FeatureCache, heads: dict[str, Any], requests: Sequence[MapRequest]) -> dict[MapRequest, str]:
    """Draw maps of heads on a cache; requests are in the order of rows, so that each image is embedded once."""
    source = FeatureSource.of_cache(cache)
    source.require_float32("a class activation map")
    recipe, backbone = recipe_of(cache), backbone_of(source)
    root, drawn = image_folder(cache), {}
    for row, of_row in itertools.groupby(requests, key=lambda request: request.row):
        try:
            pixels = recipe.decode(read_unchanged(cache, root, row))
        except ImageError:
            continue
        maps = feature_map(backbone, recipe.decoder.resize(pixels))
        features, shown = cache[row], recipe.decoder.framed(pixels)
        check_mean(maps, features)
        for request in of_row:
            head = heads[request.head]
            evidence = class_evidence(head, features)
            heatmap = heatmap_of(maps, evidence, [str(name) for name in head.classes_].index(request.class_name))
            drawn[request] = as_data_url(overlay(shown, heatmap, signed=evidence.bias is not None))
    return drawn


def overlay(pixels: Pixels, heatmap: npt.NDArray[np.float64], *, signed: bool) -> Pixels:
    """Return an image in gray under its heatmap, at most 224 pixels a side; with ``signed``, blue is below 0."""
    from PIL import Image

    picture = Image.fromarray(gray(pixels).astype(np.uint8))
    picture.thumbnail((PIXELS, PIXELS))
    norm, colours = heatmap_colormap(heatmap, signed)
    scaled = Image.fromarray(heatmap.astype(np.float32)).resize(picture.size, Image.Resampling.BILINEAR)
    coloured = colours(norm(np.asarray(scaled)))[..., :3] * 255
    mixed: Pixels = np.rint(OPACITY * coloured + (1 - OPACITY) * np.asarray(picture)[..., None]).astype(np.uint8)
    return mixed
