"""Looking at a whole cache, damaged or not: which shards and which rows can be believed."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import DamagedCacheError
from .feature_cache import FeatureCache
from .manifest import Manifest, read_manifest, shard_name, shards_on_disk
from .names import display
from .shard import Shard, rows_of
from .shards import open_shard


@dataclass
class ShardState:
    """What is left of one cache file.

    Attributes
    ----------
    path : Path
    shard : Shard or None
        None when nothing in it can be believed.
    problem : str
        Empty when every byte that matters is as it was written.
    damaged_rows : ndarray of intp
        Rows whose features or signatures are damaged, when the rest of the shard is not.
    """

    path: Path
    shard: Shard | None
    problem: str = ""
    damaged_rows: npt.NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, np.intp))

    @property
    def damaged_paths(self) -> list[bytes]:
        """The images of the damaged rows."""
        return [] if self.shard is None else [self.shard.table.files.paths[row] for row in self.damaged_rows]


@dataclass
class Inspection:
    """What is left of a cache.

    Attributes
    ----------
    path : Path
    shards : list of ShardState
    manifest : Manifest or None
        None for a cache of one file, and when it is damaged.
    problem : str
        Of the manifest.
    """

    path: Path
    shards: list[ShardState]
    manifest: Manifest | None = None
    problem: str = ""

    @property
    def intact(self) -> bool:
        """Whether all of it is as it was written."""
        return not self.problems

    @property
    def problems(self) -> list[str]:
        """A line for everything that is damaged."""
        return [problem for problem in (self.problem, *(state.problem for state in self.shards)) if problem]

    @property
    def readable(self) -> list[Shard]:
        """The shards that can be believed, but for their damaged rows."""
        return [state.shard for state in self.shards if state.shard is not None]

    @property
    def about(self) -> Manifest | None:
        """Fingerprint, provenance and classes: the manifest's, or those of the first readable shard."""
        if self.manifest is not None or not self.readable:
            return self.manifest
        table = self.readable[0].table
        return Manifest(table.fingerprint, table.provenance, table.class_names, [])

    def cache(self) -> FeatureCache:
        """Return the cache, which must be intact."""
        return FeatureCache.of_shards(self.path, self.readable, self.manifest)


def inspect_cache(path: Path) -> Inspection:
    """Read a whole cache and check everything that has a checksum, which is everything.

    Parameters
    ----------
    path : Path
        A file or a folder of shards.

    Raises
    ------
    CacheError
        When there is no cache, no recognisable one, or one of a later version. Damage is no error here.
    """
    if not os.path.isdir(path):
        return Inspection(path, [_state(path, lambda: Shard.open(path))])
    while True:
        inspection = _inspect_folder(path)
        # A shard may be missing because a writer has published and removed it since; then look again.
        if inspection.intact or inspection.manifest is None or read_manifest(path) == inspection.manifest:
            return inspection


def _inspect_folder(folder: Path) -> Inspection:
    manifest, problem = None, ""
    try:
        manifest = read_manifest(folder)
    except DamagedCacheError as error:
        problem = str(error)
    states = []
    # Each shard vouches for itself, so without a manifest all that are there can still be used.
    for digest in shards_on_disk(folder) if manifest is None else manifest.shards:
        path = folder / shard_name(digest)
        opener = (
            partial(Shard.open, path) if manifest is None else partial(open_shard, folder, digest, manifest.fingerprint)
        )
        states.append(_state(path, opener))
    return Inspection(folder, states, manifest, problem)


def _state(path: Path, opener: Callable[[], Shard]) -> ShardState:
    try:
        shard = opener()
    except DamagedCacheError as error:
        return ShardState(path, None, str(error))
    damage = shard.damage()
    found = []
    for what, rows in damage.items():
        names = ", ".join(display(shard.table.files.paths[row]) for row in rows[:3].tolist())
        more = f" and {len(rows) - 3} more" if len(rows) > 3 else ""
        found.append(f"the {what} of {len(rows)} image(s) are damaged: {names}{more}")
    problem = f"{display(str(path))}: {'; '.join(found)}" if found else ""
    return ShardState(path, shard, problem, rows_of(damage))
