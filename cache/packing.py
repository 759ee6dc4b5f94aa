"""Pack a folder of shards into one file."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from ..errors import CacheError, OutputError, check_path
from .feature_cache import FeatureCache
from .files import make_folder, sync_folder
from .lock import writer_lock
from .names import display
from .place import CacheLocation
from .publish import publish_file, remove_uncommitted


def pack(source: Path | str, target: Path | str) -> FeatureCache:
    """Write the cache of a folder of shards as one file, which is easy to send and to archive.

    The file has the same bytes as the file that ``embedonce extract`` writes.

    Parameters
    ----------
    source : path-like
        The folder, which is not changed.
    target : path-like
        The file to write, such as ``lung.h5``. It must not exist.

    Returns
    -------
    FeatureCache
        The new cache.

    Raises
    ------
    CacheError
        If the source is not a folder of shards, or is damaged.
    OutputError
        If the target exists or cannot be written.
    LockedError
        If another process is writing the target.

    See Also
    --------
    embedonce.extract_features : Write either form.

    Examples
    --------
    >>> import embedonce
    >>> embedonce.pack("lung.cache/", "lung.h5")  # doctest: +SKIP
    <FeatureCache lung.h5: 15000 images x 1280 features, 3 classes>
    """
    check_path("source", "pack", source)
    check_path("target", "pack", target)
    name = display(target)
    with FeatureCache.open(source) as cache:
        if not os.path.isdir(source):
            raise CacheError(f"{display(source)} is one file already. Copy it")
        place = CacheLocation.of(target)
        if place.sharded:
            raise OutputError(errno.EISDIR, f"the target {name} is a folder. Give the path of a file, such as lung.h5")
        make_folder(place.path.parent, "the cache")
        with writer_lock(place):
            remove_uncommitted(place)
            if place.exists():
                sync_folder(place.path.parent)  # its writer may have been killed before this
                raise OutputError(errno.EEXIST, f"the target {name} exists. Choose another name, or remove it first")
            publish_file(place, cache.table)
    return FeatureCache.open(place.path)
