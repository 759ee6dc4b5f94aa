"""What a worker of a Dask cluster does: embed one slice of the images and commit it to the shared folder.

Everything here runs in the worker's process. Only paths and counts go back through the scheduler; the features
stand in the segment, which is durable before the task ends.
"""

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
from ..scan import ImageFile

PATIENCE = 5.0
"""Seconds that a network file system may take to show what another machine has just made."""

_engines: dict[tuple[str, int | None, Recipe], Engine] = {}
_engines_lock = threading.Lock()
_digests: dict[Path, KnownDigests] = {}
_digests_lock = threading.Lock()


@dataclass(frozen=True)
class Job:
    """What all tasks of a run have in common.

    Attributes
    ----------
    root : Path
        The image folder.
    recipe : Recipe
    means : ComputeOptions
        As the user gave them; the workers are those of each task.
    fingerprint, provenance : dict
        Of the run; the engines of the provenance are the worker's own.
    digests : Path, optional
        The file of the contents that are known already, if there are any.
    """

    root: Path
    recipe: Recipe
    means: ComputeOptions
    fingerprint: dict[str, Any]
    provenance: dict[str, Any]
    digests: Path | None = None


@dataclass(frozen=True)
class SliceResult:
    """What a task returns.

    Attributes
    ----------
    worker : str
        Its address.
    segment : Path or None
        The file with the rows and rejects; None when all images were copies.
    embedded : int
        Number of forward passes.
    copies : list of (ImageFile, bytes)
        Images of known content, with their digests.
    engine : str
        What computed.
    versions : dict of str to str
        Of what computed, and of the packages that the coordinating process has in other versions.
    """

    worker: str
    segment: Path | None
    embedded: int
    copies: list[tuple[ImageFile, bytes]]
    engine: str
    versions: dict[str, str]


class KnownDigests:
    """The contents that are known already: 32 bytes each, sorted and searched where they lie.

    Parameters
    ----------
    data : bytes
        As `pack` returns it.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._rows = range(len(data) // HASH_BYTES)

    @staticmethod
    def pack(digests: list[bytes]) -> bytes:
        """Return the content of the file that workers read."""
        return b"".join(sorted(digests))

    def get(self, digest: bytes, /) -> StoredImage | None:
        """Return a sign that the content is known, as `Inventory.by_digest` does; the coordinator has the row."""
        row = bisect_left(self._rows, digest, key=self._at)
        if row == len(self._rows) or self._at(row) != digest:
            return None
        return StoredImage(ImageFile(b"", 0, 0), digest, -1, row)

    def _at(self, row: int) -> bytes:
        return self._data[row * HASH_BYTES : (row + 1) * HASH_BYTES]


def embed_slice(job: Job, images: list[ImageFile], segment: Path) -> SliceResult:
    """Embed a slice and commit it as a segment; the task that the coordinator submits.

    Parameters
    ----------
    job : Job
    images : list of ImageFile
    segment : Path
        The name that the coordinator gave to this slice. When Dask runs the slice again, because it lost the worker,
        the new file replaces the old one.

    Raises
    ------
    ClusterError
        When this worker cannot do it; the message names the worker.
    """
    from distributed import get_worker

    address = get_worker().address
    try:
        return _embed_slice(job, images, segment, address)
    except (EmbedonceError, OSError) as error:
        raise ClusterError(f"worker {address}: {first_line(error)}") from error


def _embed_slice(job: Job, images: list[ImageFile], segment: Path, address: str) -> SliceResult:
    _require_same_version(job)
    _require_folder(job.root, "image folder", 0.0)
    _require_folder(segment.parent, "folder of unfinished work", PATIENCE)
    engine = _engine(job)
    known: KnownContent = _known(job.digests) if job.digests is not None else {}
    done: list[EmbedResult] = []
    workers = job.means.workers or 1
    embed_images(job.root, images, known, job.recipe, engine, workers, done.extend, lambda count: None)
    order = {image.path: number for number, image in enumerate(images)}
    done.sort(key=lambda item: order[item.image.path])
    versions = engine.versions() | _other_versions(job)
    rows = [item for item in done if item.copy_of is None]
    if rows:
        class_names = sorted({item.image.path.partition(b"/")[0] for item in rows})
        provenance = job.provenance | {"engines": {engine.name: versions}}
        write_cache(Assembler(Inventory(), job.fingerprint, provenance, class_names).of_done(rows), segment)
    return SliceResult(
        address,
        segment if rows else None,
        sum(item.features is not None for item in rows),
        [(item.image, item.digest) for item in done if item.copy_of is not None],
        engine.name,
        versions,
    )


def _require_same_version(job: Job) -> None:
    """Refuse another embedonce: it may decode in another way, or know another format."""
    here, there = version("embedonce"), job.provenance["versions"]["embedonce"]
    if here != there:
        raise ClusterError(f"it has embedonce {here}, the coordinating process {there}; install the same everywhere")


def _other_versions(job: Job) -> dict[str, str]:
    found = {name: version(name) for name in job.provenance["versions"]}
    return {name: here for name, here in found.items() if here != job.provenance["versions"][name]}


def _require_folder(folder: Path, what: str, patience: float) -> None:
    end = time.monotonic() + patience
    while not os.path.isdir(folder):
        if time.monotonic() >= end:
            raise ClusterError(
                f"it cannot see the {what}, {display(str(folder))}; every worker needs it under this very path, "
                "on a file system that all of them share"
            )
        time.sleep(0.1)


def _engine(job: Job) -> Engine:
    """Return the engine of a recipe, made once in this process."""
    key = (job.means.engine, job.means.threads, job.recipe)
    with _engines_lock:
        if key not in _engines:
            chosen = chosen_engine(job.means, job.recipe.precision)
            recipe = _recipe_here(job.recipe, chosen)
            ready = load_prepared(recipe, chosen) is not None
            with contextlib.nullcontext() if ready else _alone_on_this_machine():
                _engines[key] = make_engine(job.means.engine, recipe, job.means.threads)
        engine = _engines[key]
    folder = display(str(store_folder()))
    remedies = {
        "weights_sha256": "install the same Keras everywhere, and empty the folder of converted models, "
        f"{folder}, there",
        "quantized_model_sha256": "rounding to 8 bits depends on TensorFlow and processor: copy the folder of "
        f"converted models to {folder} there, or set EMBEDONCE_HOME to one folder for all",
    }
    for name, here in engine.hashes.items():
        if here != job.fingerprint[name]:
            raise WeightsError(
                f"its backbone for the weights {job.recipe.weights.label} has the hash {here}, that of the "
                f"coordinating process has {job.fingerprint[name]}; {remedies[name]}"
            )
    return engine


def _recipe_here(recipe: Recipe, engine: str) -> Recipe:
    """Return the recipe with the weights file of this machine, which may stand elsewhere but must be the same."""
    weights = recipe.weights
    if weights.path is None:
        return recipe
    if load_prepared(recipe, engine) is not None:  # the store goes by the file's hash
        return recipe
    # Keras's own file stands in every machine's own home
    name = "imagenet" if weights.label == "imagenet" and not weights.path.is_file() else weights.path
    try:
        found = resolve_weights(name, recipe.alpha, recipe.image_size)
    except WeightsError as error:
        raise WeightsError(f"{first_line(error)}; every worker needs the weights file under the same path") from error
    if found.identity != weights.identity:
        raise WeightsError(
            f"its weights file {display(str(found.path))} is not that of the coordinating process (SHA-256 "
            f"{found.identity[:16]}… there, {weights.identity[:16]}… here); copy the file, or share its folder"
        )
    return replace(recipe, weights=replace(weights, path=found.path))


@contextlib.contextmanager
def _alone_on_this_machine() -> Iterator[None]:
    """Let the processes of a machine convert the backbone one after the other: each would need a gigabyte."""
    import filelock

    try:
        lock = filelock.FileLock(str(make_folder(store_folder(), "converted models") / ".preparing.lock"))
        lock.acquire()
    except (OSError, NotImplementedError):  # a read-only home costs memory and time, nothing else
        yield
        return
    try:
        yield
    finally:
        lock.release()


def _known(path: Path) -> KnownDigests:
    """Return the known contents, read once in this process; those of earlier runs are let go."""
    with _digests_lock:
        if path not in _digests:
            _digests.clear()
            _digests[path] = KnownDigests(path.read_bytes())
        return _digests[path]
