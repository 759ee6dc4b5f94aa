"""Speed of extraction on this machine: some images of a cache are embedded again."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..cache import FeatureCache, counted, display
from ..errors import EngineError, ImageError
from .embed import EmbedResult, embed_images
from .engines import chosen_engine, is_quick, make_engine
from .options import ComputeOptions
from .recipe import recipe_of
from .scan import ImageFile

SECONDS = 0.7
_MOST_IMAGES = 512
_WARM_UP = 8  # images of each worker: the first ones are slower


@dataclass(frozen=True)
class ExtractionSpeed:
    """Time of extraction per image, from file to features, with all processors; ``images`` were measured."""

    image_seconds: float
    images: int
    engine: str
    workers: int


def measure_extraction(cache: FeatureCache, seconds: float = SECONDS) -> ExtractionSpeed:
    """Embed some images of a cache again, for about ``seconds`` after a warm-up, and forget their features.

    Raises an EmbedonceError if the images or the weights are missing, or if the engine is Keras or would have to be
    converted first, which takes longer than the measurement.
    """
    recipe, options = recipe_of(cache), ComputeOptions()
    name = chosen_engine(options, recipe.precision, recipe.alpha)
    if name == "keras" or (name != "native" and not is_quick(options, recipe)):
        raise EngineError(f"the engine {name} is not ready for a short measurement on this machine")
    engine = make_engine(name, recipe)
    workers, root = engine.default_workers(), Path(cache.provenance.get("image_root", ""))
    rows = np.unique(np.linspace(0, len(cache) - 1, _MOST_IMAGES).astype(np.intp)).tolist()
    files = cache.files
    images = [ImageFile(files.paths[row], int(files.sizes[row]), int(files.mtimes[row])) for row in rows]

    def embed(part: Sequence[ImageFile]) -> float:
        results: list[EmbedResult] = []
        begin = time.perf_counter()
        embed_images(root, list(part), {}, recipe, engine, workers, results.extend, lambda count: None)
        elapsed = time.perf_counter() - begin
        failed = {result.image.path: result.reason for result in results if result.features is None}
        if failed:
            path, reason = min(failed.items())  # the first by path, since the order of the threads varies
            example = f"{display(os.fsdecode(path))}: {reason}"
            raise ImageError(f"{counted(len(failed), 'image(s)')} in {display(root)} cannot be embedded ({example})")
        return elapsed / len(part)

    first = embed(images[:: max(1, len(images) // (_WARM_UP * workers))])
    count = min(len(images), max(_WARM_UP * workers, round(seconds / first)))
    chosen = [images[index] for index in np.linspace(0, len(images) - 1, count).astype(np.intp).tolist()]
    return ExtractionSpeed(embed(chosen), count, name, workers)
