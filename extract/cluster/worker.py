"""The worker of a Dask cluster: it embeds one slice of the images and commits it to the shared folder."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ...cache import HASH_BYTES, display, make_folder, write_cache
from ...errors import ClusterError, EmbedonceError, WeightsError, first_line
from ..assemble import Assembler
from ..backbone import resolve_weights
from ..embed import EmbedResult, KnownContent, embed_images
from ..engines import Engine, chosen_engine, load_prepared, make_engine, store_folder
from ..options import ComputeOptions
from ..plan import Inventory, StoredImage
from ..recipe import Recipe
from ..report import PixelCounts
from ..scan import ImageFile

PATIENCE = 5.0
"""Seconds to wait until a network file system shows the new files of another machine."""

_engines: dict[tuple[str, int | None, Recipe], Engine] = {}
_engines_lock = threading.Lock()
_digests: dict[Path, StoredDigests] = {}
_digests_lock = threading.Lock()


@dataclass(frozen=True)
class Job:
    """Common data of all tasks of a run."""

    root: Path
    recipe: Recipe
    options: ComputeOptions
    fingerprint: dict[str, Any]
    provenance: dict[str, Any]  # without engines
    digests: Path | None = None  # file of the digests of stored images, if there are any


@dataclass(frozen=True)
class SliceResult:
    """Result of a task."""

    worker: str
    segment: Path | None  # rows and rejects; None when all images have stored content
    embedded: int
    copies: list[tuple[ImageFile, bytes]]  # images of stored content, with their digests
    engine: str
    versions: dict[str, str]  # of the engine, and of packages that differ from the coordinator's
    pixels: PixelCounts


class StoredDigests:
    """Digests of stored images: 32 bytes each, sorted, in the bytes of a file."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._rows = range(len(data) // HASH_BYTES)

    @staticmethod
    def pack(digests: list[bytes]) -> bytes:
        """Return the bytes of the file."""
        return b"".join(sorted(digests))

    def get(self, digest: bytes, /) -> StoredImage | None:
        """Return a placeholder if the content is stored; only the coordinator has the row itself."""
        row = bisect_left(self._rows, digest, key=self._at)
        if row == len(self._rows) or self._at(row) != digest:
            return None
        return StoredImage(ImageFile(b"", 0, 0), digest, -1, row)

    def _at(self, row: int) -> bytes:
        return self._data[row * HASH_BYTES : (row + 1) * HASH_BYTES]


def embed_slice(job: Job, images: list[ImageFile], segment: Path) -> SliceResult:
    """Embed a slice and commit it as a segment: the task of a worker, which Dask may run again."""
    from distributed import get_worker

    address = get_worker().address
    try:
        return _embed_slice(job, images, segment, address)
    except (EmbedonceError, OSError) as error:
        raise ClusterError(f"worker {address}: {first_line(error)}") from error


def _embed_slice(job: Job, images: list[ImageFile], segment: Path, address: str) -> SliceResult:
    here = {name: version(name) for name in job.provenance["versions"]}
    there = job.provenance["versions"]
    if here["embedonce"] != there["embedonce"]:  # it may decode differently or write another format
        raise ClusterError(
            f"it has embedonce {here['embedonce']}, the coordinating process {there['embedonce']}. Install the same "
            "everywhere"
        )
    _require_folder(job.root, "image folder", 0.0)
    _require_folder(segment.parent, "folder of unfinished work", PATIENCE)
    engine = _engine(job)
    content: KnownContent = _read_digests(job.digests) if job.digests is not None else {}
    results: list[EmbedResult] = []
    workers = job.options.workers or 1
    embed_images(job.root, images, content, job.recipe, engine, workers, results.extend, lambda count: None)
    order = {image.path: number for number, image in enumerate(images)}
    results.sort(key=lambda item: order[item.image.path])
    versions = engine.versions() | {name: here[name] for name in here if here[name] != there[name]}
    rows = [item for item in results if item.copy_of is None]
    if rows:
        provenance = job.provenance | {"engines": {engine.name: versions}}
        write_cache(Assembler(Inventory(), job.fingerprint, provenance).table_of_results(rows), segment)
    embedded = sum(item.features is not None for item in rows)
    copies = [(item.image, item.digest) for item in results if item.copy_of is not None]
    pixels = PixelCounts()
    pixels.add(rows)
    return SliceResult(address, segment if rows else None, embedded, copies, engine.name, versions, pixels)


def _require_folder(folder: Path, what: str, patience: float) -> None:
    end = time.monotonic() + patience
    while not os.path.exists(folder):  # images may be in an archive
        if time.monotonic() >= end:
            raise ClusterError(
                f"it cannot see the {what}, {display(str(folder))}. Every worker needs it under this path, on a "
                "shared file system"
            )
        time.sleep(0.1)


def _engine(job: Job) -> Engine:
    """Return the engine of a recipe, made once in this process."""
    key = (job.options.engine, job.options.threads, job.recipe)
    with _engines_lock:
        if key not in _engines:
            chosen = chosen_engine(job.options, job.recipe.precision, job.recipe.alpha)
            recipe = _recipe_here(job.recipe, chosen)
            ready = load_prepared(recipe, chosen) is not None
            with contextlib.nullcontext() if ready else _conversion_lock():
                _engines[key] = make_engine(job.options.engine, recipe, job.options.threads)
        engine = _engines[key]
    folder = display(str(store_folder()))
    remedies = {
        "weights_sha256": "Install the same Keras everywhere, and empty the folder of converted models, "
        f"{folder}, there",
        "quantized_model_sha256": "Rounding to 8 bits depends on TensorFlow and processor. Copy the folder of "
        f"converted models to {folder} there, or set EMBEDONCE_HOME to one folder for all",
    }
    for name, here in engine.hashes.items():
        if here != job.fingerprint[name]:
            raise WeightsError(
                f"its backbone for the weights {job.recipe.weights.label} has the hash {here}, that of the "
                f"coordinating process has {job.fingerprint[name]}. {remedies[name]}"
            )
    return engine


def _recipe_here(recipe: Recipe, engine: str) -> Recipe:
    """Return the recipe with the weights file of this machine, which must have the same content."""
    weights = recipe.weights
    if weights.path is None:
        return recipe
    if load_prepared(recipe, engine) is not None:  # the store's key is the file's hash
        return recipe
    # Keras's file is in the home folder of each machine
    name = "imagenet" if weights.label == "imagenet" and not weights.path.is_file() else weights.path
    try:
        source = resolve_weights(name, recipe.alpha, recipe.image_size)
    except WeightsError as error:
        raise WeightsError(f"{first_line(error)}. Every worker needs the weights file under the same path") from error
    if source.identity != weights.identity:
        raise WeightsError(
            f"its weights file {display(str(source.path))} is not that of the coordinating process (SHA-256 "
            f"{source.identity[:16]}… there, {weights.identity[:16]}… here). Copy the file, or share its folder"
        )
    return replace(recipe, weights=replace(weights, path=source.path))


@contextlib.contextmanager
def _conversion_lock() -> Iterator[None]:
    """Let the processes of a machine convert the backbone in turn, because each needs a gigabyte."""
    import filelock

    try:
        lock = filelock.FileLock(str(make_folder(store_folder(), "converted models") / ".preparing.lock"))
        lock.acquire()
    except (OSError, NotImplementedError):  # a read-only home only costs memory and time
        yield
        return
    try:
        yield
    finally:
        lock.release()


def _read_digests(path: Path) -> StoredDigests:
    """Return the digests of stored images, read once in this process; those of earlier runs are dropped."""
    with _digests_lock:
        if path not in _digests:
            _digests.clear()
            _digests[path] = StoredDigests(path.read_bytes())
        return _digests[path]
