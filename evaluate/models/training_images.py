"""Which images a model was trained on, known again by content, whatever they are called by then."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache

SEEN_BYTES = 8
"""How much of a training image's content hash a model keeps: enough to know it again, little to carry."""


def trained_on(metadata: dict[str, Any]) -> list[bytes]:
    """Return the first bytes of the content hash of every image that a model was trained on."""
    data = bytes.fromhex(metadata.get("trained_on", ""))
    return [data[start : start + SEEN_BYTES] for start in range(0, len(data), SEEN_BYTES)]


def training_mask(cache: FeatureCache, metadata: dict[str, Any]) -> npt.NDArray[np.bool_]:
    """Return which rows of a cache a model was trained on: bool, shape (n,)."""
    seen = set(trained_on(metadata))
    return np.array([digest in seen for digest in short_hashes(cache)], np.bool_)


def short_hashes(cache: FeatureCache) -> list[bytes]:
    """Return the first bytes of the content hash of every row of a cache."""
    return [digest.tobytes() for digest in cache.files.hashes[:, :SEEN_BYTES]]
