"""The signatures of a cache's images: stored next to the features, or made from the images."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache, display, format_examples
from ...errors import GroupsError, ImageError
from ...extract import SIGNATURE_SIZE, cpu_count, decoder_of, signature
from ..shared import image_folder, read_unchanged


def signatures_of(cache: FeatureCache, images: Path | str | None = None) -> npt.NDArray[np.uint8]:
    """Return the signatures of a cache's images, stored or made from the images: uint8, shape (n, 784)."""
    stored = cache.signatures
    if stored is not None:
        return stored
    if "image_size" not in cache.fingerprint:
        raise GroupsError(
            f"the cache {cache.display_path} holds arrays without signatures, so near-duplicates cannot be found. Give "
            "the groups, or use split='random'"
        )
    root = image_folder(cache, images)
    decoder = decoder_of(cache.fingerprint)
    signatures = np.zeros((len(cache), SIGNATURE_SIZE**2), np.uint8)
    unusable: list[str] = []

    def make(rows: npt.NDArray[np.intp]) -> None:
        for row in rows.tolist():
            try:
                signatures[row] = signature(decoder.resize(decoder(read_unchanged(cache, root, row))))
            except ImageError:
                unusable.append(cache.paths[row])

    with ThreadPoolExecutor(cpu_count()) as pool:
        list(pool.map(make, np.array_split(np.arange(len(cache)), max(1, len(cache) // 64))))
    if unusable:
        raise GroupsError(
            f"the cache {cache.display_path} has no signatures, and {len(unusable):,} of its {len(cache):,} "
            f"images are gone from {display(str(root))} or have changed: {format_examples(sorted(unusable))}. Give "
            "their folder with --images, or run embedonce extract again"
        )
    return signatures
