"""Publish a generation: one file, or new shards and then the manifest that names them."""

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
    """Publish a table as a cache of one file."""
    write_cache(table, place.path)


def publish_shards(place: CacheLocation, old: list[str], tables: Iterable[Table], about: Manifest) -> None:
    """Publish a generation: shards of the old one, by digest, and new ones, each written before the next is read."""
    digests = list(old)
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
    """Make the name of a generation durable and remove old shards, in case its publisher was killed before that."""
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
