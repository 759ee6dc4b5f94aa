"""Augmented views in training and testing; the views of an image are on the same side of the split as the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache, Features, RowSource, display
from ...errors import CacheError, ParameterError, describe
from ...extract import VIEWS, require_same_fingerprint, view_path

USES = ("train", "average", "both")
"""Uses of views: further training rows, probabilities that are averaged over them in testing, or both."""

Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Views:
    """Augmented views of a cache: their names, their caches, and for each view the row of every image, shape (n,)."""

    names: tuple[str, ...]
    caches: tuple[FeatureCache, ...]
    rows: tuple[Rows, ...]
    train: bool
    average: bool

    @property
    def note(self) -> str:
        """Note on results with them."""
        uses = ["heads were trained on every training image and its views"] * self.train
        uses += ["probabilities are the mean over every image and its views"] * self.average
        return f"{' and '.join(uses)} ({', '.join(self.names)})"


def open_views(cache: FeatureCache, use: str | None) -> Views | None:
    """Open all views of a cache, or none when ``use`` is None; missing or outdated views are a CacheError."""
    if use is None:
        return None
    if not isinstance(use, str) or use not in USES:
        raise ParameterError(f"parameter views must be one of {', '.join(USES)}, or None, got {describe(use)}")
    paths = {} if cache.source is None else {name: view_path(cache.source, name) for name in VIEWS["dihedral"]}
    names = tuple(name for name, path in paths.items() if path.exists())
    if not names:
        raise CacheError(
            f"{cache.display_path} has no augmented views. Embed them with embedonce extract and --views flips "
            "or dihedral"
        )
    caches = tuple(FeatureCache.open(paths[name]) for name in names)
    rows = tuple(_aligned(cache, view, name) for view, name in zip(caches, names, strict=True))
    return Views(names, caches, rows, use != "average", use != "train")


def _aligned(cache: FeatureCache, view: FeatureCache, name: str) -> Rows:
    described = f"the view {name} of {cache.display_path}"
    require_same_fingerprint(view.fingerprint, cache.fingerprint | {"view": name}, described)
    row_of = {path: row for row, path in enumerate(view.paths)}
    rows = np.array([row_of.get(path, -1) for path in cache.paths], np.intp)
    stale = rows < 0
    stale[~stale] = (view.files.hashes[rows[~stale]] != cache.files.hashes[~stale]).any(axis=1)
    if stale.any():
        first = cache.paths[int(np.flatnonzero(stale)[0])]
        raise CacheError(
            f"{described} lacks {int(stale.sum()):,} of its images, or has earlier ones, such as {display(first)}. "
            "Update it with embedonce extract and --views"
        )
    return rows


class StackedRows:
    """Rows of several sources, one source after the other: a `RowSource`."""

    def __init__(self, sources: Sequence[Features | RowSource]) -> None:
        self._sources = sources
        self._ends = np.cumsum([source.shape[0] for source in sources])
        self.shape = (int(self._ends[-1]), sources[0].shape[1])

    def read_rows(self, start: int, end: int) -> Features:
        """Return the rows from ``start`` to ``end``."""
        parts = []
        for source, last in zip(self._sources, self._ends.tolist(), strict=True):
            first = last - source.shape[0]
            begin, stop = max(start, first) - first, min(end, last) - first
            if begin < stop:
                parts.append(source[begin:stop] if isinstance(source, np.ndarray) else source.read_rows(begin, stop))
        return np.concatenate(parts) if parts else np.empty((0, self.shape[1]), np.float32)
