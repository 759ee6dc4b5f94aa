"""Near-duplicates of the images of one cache in another one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache, Files, Table
from ...extract import Progress
from .find import find_near_duplicates
from .signatures import signatures_of


def near_duplicates_in(
    cache: FeatureCache, other: FeatureCache, progress: Progress | None = None
) -> npt.NDArray[np.bool_]:
    """Return which images of a cache have a near-duplicate among the images of another one: bool, shape (n,).

    Features, thumbnails and content are compared, not the images themselves, which may be in two folders.
    """
    parts = [cache, other]
    files = Files.join([part.files for part in parts])
    files.paths = [b"%d/%d" % (len(cache) <= row, row) for row in range(len(files))]  # two caches may share paths
    both = FeatureCache(
        Table(
            cache.fingerprint,
            {},
            [],
            files,
            np.full(len(files), -1, np.int32),
            np.concatenate([part.features for part in parts]),
            signatures=np.concatenate([signatures_of(part) for part in parts]),
        )
    )
    ids = find_near_duplicates(both, progress=progress).groups.ids
    return np.isin(ids[: len(cache)], ids[len(cache) :])
