"""The manifest of a folder of shards: the one small file whose replacement makes a new generation."""

from __future__ import annotations

import contextlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from ..errors import CacheError, DamagedCacheError
from .files import open_regular, write_atomically
from .format import REMEDY, canonical_json
from .names import display
from .path_kinds import kind_of_path

NAME = "manifest.json"
PARTIAL = "partial"
"""The folder of unfinished work, in a folder of shards."""
FORMAT = "embedonce-feature-shards"
FORMAT_VERSION = 1  # of the manifest; shards have their versions
_SHARD_NAME = re.compile(r"shard-([0-9a-f]{32})\.h5")
_LARGEST = 1 << 28  # bytes; a million shards need less


@dataclass(frozen=True)
class Manifest:
    """Content of a folder of shards: the fingerprint of every shard, sorted class names, digests of the shards."""

    fingerprint: dict[str, Any]
    provenance: dict[str, Any]
    class_names: list[bytes]
    shards: list[str]

    @property
    def digest(self) -> str:
        """Checksum of the whole generation, 32 hexadecimal digits."""
        return _digest(_document(self))


def shard_name(digest: str) -> str:
    """Return the file name of the shard with a digest: named by content, a shard can never overwrite another one."""
    return f"shard-{digest}.h5"


def shards_on_disk(folder: Path) -> list[str]:
    """Return the digests in the names of all shard files in a folder, of the generation or not, sorted."""
    matches = (_SHARD_NAME.fullmatch(name) for name in sorted(os.listdir(folder)))
    return [match.group(1) for match in matches if match]


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Publish a generation, which survives any crash once this function has returned."""
    document = _document(manifest)
    document["digest"] = _digest(document)
    write_atomically(folder / NAME, canonical_json(document))


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest of a folder."""
    name = display(folder / NAME)
    try:
        with open_regular(folder / NAME) as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        shards = missing and bool(shards_on_disk(folder))  # they are usable, so that the cache is damaged
        if missing and (folder / PARTIAL).is_dir():
            text = f"the extraction into {display(folder)} is not finished. Wait for it or run embedonce extract again"
            raise (DamagedCacheError if shards else CacheError)(text) from error
        if shards:
            raise DamagedCacheError(f"{name} is missing next to its shards. {REMEDY}") from error
        kind = kind_of_path(folder).removeprefix("a folder")
        what = f"is a folder{kind}, not a feature cache" if kind else "is not a feature cache"
        advice = f"{display(folder)} {what}" if missing else error.strerror
        raise CacheError(f"cannot open {name}: {advice}. Make one with: embedonce extract IMAGES CACHE") from error
    if len(data) > _LARGEST:
        raise CacheError(f"{name} is larger than any manifest")
    try:
        return _parse(data)
    except DamagedCacheError as error:
        raise DamagedCacheError(f"{name}: {error}. {REMEDY}") from error
    except CacheError as error:
        raise CacheError(f"{name}: {error}") from error


def _parse(data: bytes) -> Manifest:
    document: Any = None
    problem: Exception | None = None
    try:
        document = json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        problem = error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        kind = DamagedCacheError if FORMAT.encode() in data else CacheError
        raise kind("damaged, or not the manifest of a feature cache") from problem
    version = document.get("format_version")
    if version != FORMAT_VERSION:  # before the digest, which a later version may take in another way
        raise CacheError(f"its format version is {version!r}, this embedonce reads {FORMAT_VERSION}. Upgrade embedonce")
    intact = False
    with contextlib.suppress(ValueError, RecursionError):  # 1e999 is read as infinity, which is not written
        intact = document.pop("digest", None) == _digest(document)
    if not intact:
        raise DamagedCacheError("damaged: its checksum does not match")
    fingerprint, provenance = document.get("fingerprint"), document.get("provenance")
    names, shards = document.get("class_names"), document.get("shards")
    if not isinstance(fingerprint, dict) or not isinstance(provenance, dict):
        raise CacheError("its fingerprint and provenance must be JSON objects")
    if not (isinstance(names, list) and isinstance(shards, list) and all(isinstance(v, str) for v in names + shards)):
        raise CacheError("its class_names and shards must be lists of strings")
    for digest in shards:  # these become file names
        if not _SHARD_NAME.fullmatch(shard_name(digest)):
            raise CacheError(f"{display(digest)!r} cannot be the digest of a shard; it is a forgery")
    try:
        return Manifest(fingerprint, provenance, [os.fsencode(name) for name in names], shards)
    except UnicodeEncodeError as error:
        raise CacheError("a class name is not a file name") from error


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _document(manifest: Manifest) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "fingerprint": manifest.fingerprint,
        "provenance": manifest.provenance,
        "class_names": [os.fsdecode(name) for name in manifest.class_names],
        "shards": manifest.shards,
    }


def _digest(document: dict[str, Any]) -> str:
    return xxhash.xxh3_128_hexdigest(canonical_json(document))
