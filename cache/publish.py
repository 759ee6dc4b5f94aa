"""Publishing a generation: one file, or new shards and then the manifest that names them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from .files import remove_leftovers, sync_folder
from .manifest import Manifest, shard_name, shards_on_disk, write_manifest
from .place import CacheLocation
from .table import Table
from .writer import write_cache, write_shard


def publish_file(place: CacheLocation, table: Table) -> None:
    """Publish a table as a cache of one file.

    Raises
    ------
    OutputError
        When it cannot be written; the old generation stays.
    """
    write_cache(table, place.path)


def publish_shards(place: CacheLocation, kept: list[str], tables: Iterable[Table], about: Manifest) -> None:
    """Publish a generation of a folder of shards.

    Parameters
    ----------
    place : CacheLocation
    kept : list of str
        Digests of shards of the old generation that belong to the new one as they are.
    tables : iterable of Table
        The rows of the new shards; each is written before the next is asked for.
    about : Manifest
        Its list of shards is left aside.

    Raises
    ------
    OutputError
        When something cannot be written; the old generation stays.
    """
    digests = list(kept)
    for table in tables:
        digests.append(write_shard(table, place.path))
    write_manifest(place.path, Manifest(about.fingerprint, about.provenance, about.class_names, digests))
    prune(place.path, digests)


def prune(folder: Path, digests: list[str]) -> None:
    """Remove the shards that are not of the generation; readers that have them open keep them."""
    for digest in set(shards_on_disk(folder)) - set(digests):
        with contextlib.suppress(OSError):  # Windows keeps what is open; the next writer tries again
            os.unlink(folder / shard_name(digest))


def finish_publication(place: CacheLocation, manifest: Manifest | None) -> None:
    """Finish what the publisher of the generation at hand may have been kept from, before anybody relies on it.

    That is to make its name durable, and to remove shards of earlier generations.
    """
    if manifest is None:
        sync_folder(place.path.parent)
    else:
        sync_folder(place.path)
        prune(place.path, manifest.shards)


def remove_uncommitted(place: CacheLocation) -> None:
    """Remove what a killed writer left and never committed; call it only under the writer's lock."""
    if place.sharded:
        remove_leftovers(place.path)
    else:
        remove_leftovers(place.path.parent, place.path.name)
