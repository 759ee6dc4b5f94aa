"""Packing a folder of shards into one file."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from ..errors import CacheError, OutputError
from .feature_cache import FeatureCache
from .files import make_folder, sync_folder
from .lock import writer_lock
from .names import display
from .place import CacheLocation
from .publish import publish_file, remove_uncommitted


def pack(source: Path | str, target: Path | str) -> FeatureCache:
    """Write the cache of a folder of shards as one file, which is easy to send and to archive.

    The file has the very bytes that ``embedonce extract`` into a file would have given.

    Parameters
    ----------
    source : path-like
        The folder; it stays as it is.
    target : path-like
        The file to write, such as ``lung.h5``. It must not exist.

    Returns
    -------
    FeatureCache
        The new one.

    Raises
    ------
    CacheError
        When the source is no folder of shards, or is damaged.
    OutputError
        When the target exists or cannot be written.
    LockedError
        When another process is writing the target.
    """
    shown = display(os.fspath(target))
    with FeatureCache.open(source) as cache:
        if not os.path.isdir(source):
            raise CacheError(f"{display(os.fspath(source))} is one file already; copy it")
        place = CacheLocation.of(target)
        if place.sharded:
            raise OutputError(errno.EISDIR, f"the target {shown} is a folder; give the path of a file, such as lung.h5")
        make_folder(place.path.parent, "the cache")
        with writer_lock(place):
            remove_uncommitted(place)
            if place.exists():
                sync_folder(place.path.parent)  # it may be the work of one who was killed before this
                raise OutputError(errno.EEXIST, f"the target {shown} exists; choose another name, or remove it first")
            publish_file(place, cache.table)
    return FeatureCache.open(place.path)
