"""Inspection of a whole cache: the intact and the damaged shards and rows."""

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
from .names import counted, display
from .shard import Shard, rows_of
from .shards import open_shard


@dataclass
class ShardState:
    """State of one cache file: no `shard` if it cannot be read, no `problem` if it is intact."""

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
    """State of a cache: `problem` is that of the manifest, which is None if damaged or for a cache of one file."""

    path: Path
    shards: list[ShardState]
    manifest: Manifest | None = None
    problem: str = ""

    @property
    def intact(self) -> bool:
        """True if everything is as it was written."""
        return not self.problems

    @property
    def problems(self) -> list[str]:
        """A line for everything that is damaged."""
        return [problem for problem in (self.problem, *(state.problem for state in self.shards)) if problem]

    @property
    def readable(self) -> list[Shard]:
        """The shards that can be read, apart from damaged rows."""
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
    """Read a whole cache and check every checksum; damage is reported, not raised."""
    if not os.path.isdir(path):
        return Inspection(path, [_state(path, lambda: Shard.open(path))])
    while True:
        inspection = _inspect_folder(path)
        # A writer may have published a new generation and removed a shard in the meantime. Then inspect again.
        if inspection.intact or inspection.manifest is None or read_manifest(path) == inspection.manifest:
            return inspection


def _inspect_folder(folder: Path) -> Inspection:
    manifest, problem = None, ""
    try:
        manifest = read_manifest(folder)
    except DamagedCacheError as error:
        problem = str(error)
    states = []
    # Each shard has its own digest, so without a manifest all existing shards can be used.
    for digest in shards_on_disk(folder) if manifest is None else manifest.shards:
        path = folder / shard_name(digest)
        opener = (
            partial(Shard.open, path) if manifest is None else partial(open_shard, folder, digest, manifest.fingerprint)
        )
        states.append(_state(path, opener))
    return Inspection(folder, states, manifest, problem)


def _twice(opener: Callable[[], Shard]) -> Shard:
    """Open a shard, again if that fails: a disk or a network can fail once."""
    try:
        return opener()
    except DamagedCacheError:
        return opener()


def _state(path: Path, opener: Callable[[], Shard]) -> ShardState:
    try:
        shard = _twice(opener)
    except DamagedCacheError as error:
        return ShardState(path, None, str(error))
    damage = shard.damage() and shard.damage()
    messages = []
    for what, rows in damage.items():
        names = ", ".join(display(shard.table.files.paths[row]) for row in rows[:3].tolist())
        more = f" and {len(rows) - 3} more" if len(rows) > 3 else ""
        messages.append(f"the {what} of {counted(len(rows), 'image(s)')} are damaged: {names}{more}")
    problem = f"{display(path)}: {'; '.join(messages)}" if messages else ""
    return ShardState(path, shard, problem, rows_of(damage))
