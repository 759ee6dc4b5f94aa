"""The extraction run: bring a cache up to date with a folder of images, at the price of what changed."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..cache import (
    CacheLocation,
    FeatureCache,
    Inspection,
    Manifest,
    PartialRun,
    Shard,
    Table,
    display,
    finish_publication,
    inspect_cache,
    make_folder,
    publish_file,
    publish_shards,
    quarantine,
    remove_uncommitted,
    writer_lock,
)
from ..errors import CacheError, ImageFolderError, WeightsError
from .assemble import Assembler
from .cluster import Job, SliceResult, connected, embed_on_cluster
from .embed import EmbedResult, embed_images
from .engines import Engine, is_quick, known_hashes, make_engine, note_engine
from .options import ComputeOptions, check_options
from .plan import Inventory, Plan, StoredImage, make_plan
from .progress import Progress, make_progress
from .recipe import HASHES, Recipe, make_recipe, require_same_fingerprint
from .report import ExtractionReport, notes_on_damage, notes_on_scan, strict_error
from .scan import ImageFile, Scan, scan
from .views import IDENTITY, view_names, view_path

SHARD_ROWS = 65_536
"""Images of a full shard: 387 MB of 1280 features and a signature each; it is what an update of one image rewrites."""


def extract_features(
    images: Path | str,
    cache: Path | str,
    *,
    weights: str | Path = "imagenet",
    alpha: float = 1.0,
    image_size: int = 224,
    engine: str = "auto",
    workers: int | None = None,
    strict: bool = False,
    follow_links: bool = False,
    progress: bool | None = None,
    dask: Any = None,
    precision: str = "float32",
    decoding: str = "exact",
    threads: int | None = None,
    views: str = "none",
) -> FeatureCache:
    """Embed every image of a folder once, or bring an existing cache up to date with it.

    Parameters
    ----------
    images : path-like
        Folder with one folder of images per class.
    cache : path-like
        The cache to write: a file, such as ``lung.h5``, or a folder of shards, such as ``lung.cache/`` (the
        slash at the end or the ending ``.cache`` ask for one). When it exists, only what is new, changed or
        damaged is embedded.
    weights : str or path-like
        ``imagenet``, a Keras weights file or saved model, or ``random:SEED``.
    alpha : float
        Width multiplier of MobileNetV2.
    image_size : int
        Height and width, in pixels, that images are resized to.
    engine : {"auto", "native", "litert", "keras"}
        What computes. The features agree within 1e-3. ``auto`` is the fastest that there is: kernels of our own on
        processors with AVX2 and no AVX-512, otherwise LiteRT; Keras for precisions of a GPU.
    workers : int, optional
        Number of threads; by default what suits the engine and the processor. With ``dask``, threads of each task,
        by default 1, since every thread of a Dask worker takes a slice of its own.
    strict : bool
        Raise when an image cannot be embedded, instead of listing it in ``cache.rejects``.
    follow_links : bool
        Enter links to folders.
    progress : bool, optional
        Show progress on standard error; by default only on a terminal.
    dask : str, path-like or distributed.Client, optional
        Embed on a Dask cluster: the scheduler's address, the path of its scheduler file (``.json``), or a client. Every
        worker needs embedonce and, under the same paths, the image folder and the cache's folder.
    precision : {"float32", "int8", "float16", "bfloat16"}
        Of the backbone's arithmetic; the features are float32 whatever it is. ``int8`` needs LiteRT and is faster
        where the processor multiplies bytes (AVX-512 VNNI). ``float16`` and ``bfloat16`` (of activations; weights stay
        float32) are for GPUs, need Keras and are slower than float32 on processors. Heads must be trained and used on
        features of one precision.
    decoding : {"exact", "reduced"}
        ``exact`` gives the pixels of ``image_dataset_from_directory``. ``reduced`` decodes JPEG files of at least twice
        ``image_size`` at a half, a quarter or an eighth, which is faster and gives other features.
    threads : int, optional
        Threads inside each interpreter, by default 1, for machines with little memory for their processors; there are
        fewer ``workers`` then. With Keras, the threads of TensorFlow, by default all. They change no feature.
    views : {"none", "flips", "dihedral"}
        Embed views of every image too: mirrored (three views), or mirrored and in quarter turns (seven). Each view has
        a cache of its own in the folder ``NAME.views`` beside the cache, brought up to date as this one is.

    Returns
    -------
    FeatureCache

    Raises
    ------
    ImageFolderError
        The folder does not hold images in at least two class folders.
    FingerprintError
        The existing cache was made with other weights, alpha, image size, precision or decoding.
    CacheError
        What stands at ``cache`` is no feature cache; it is left as it is.
    WeightsError, EngineError, ClusterError, LockedError, OutputError, ImageError
        As their names say; no committed work is lost.
    """
    return update_cache(
        images,
        cache,
        weights=weights,
        alpha=alpha,
        image_size=image_size,
        engine=engine,
        workers=workers,
        strict=strict,
        follow_links=follow_links,
        progress=make_progress(progress),
        dask=dask,
        precision=precision,
        decoding=decoding,
        threads=threads,
        views=views,
    ).cache


def update_cache(
    images: Path | str,
    cache: Path | str,
    *,
    weights: str | Path,
    alpha: float,
    image_size: int,
    engine: str,
    workers: int | None,
    strict: bool,
    follow_links: bool,
    progress: Progress,
    dask: Any = None,
    precision: str = "float32",
    decoding: str = "exact",
    threads: int | None = None,
    views: str = "none",
) -> ExtractionReport:
    """Do what :func:`extract_features` does and report what was done."""
    means = ComputeOptions(engine, workers, threads)
    check_options(means, precision, decoding)
    names = view_names(views)
    place = CacheLocation.of(cache)
    with connected(dask) as client:  # first, since a scan can take minutes
        found = scan(images, follow_links=follow_links)

        def update(place: CacheLocation, view: str) -> ExtractionReport:
            make_folder(place.path if place.sharded else place.path.parent, "the cache")
            with writer_lock(place):
                try:
                    recipe = make_recipe(weights, alpha, image_size, precision, decoding, view)
                except WeightsError as error:
                    raise WeightsError(f"{error}{_earlier_weights(place)}") from error
                return _Run(found, place, recipe, means, strict, progress, client).run()

        report = update(place, IDENTITY)
        for name in names:
            report.views[name] = update(CacheLocation.of(view_path(place.path, name)), name)
    return report


def _earlier_weights(place: CacheLocation) -> str:
    """Return, as the end of an error, which weights a cache was made with; empty when that is unknown."""
    try:
        with FeatureCache.open(place.path) as cache:
            path = cache.provenance.get("weights_path")
    except CacheError:
        return ""
    return f"; {display(str(place.path))} was made with --weights {display(path)}" if path else ""


class _Run:
    """One run under the writer's lock."""

    def __init__(
        self,
        found: Scan,
        place: CacheLocation,
        recipe: Recipe,
        means: ComputeOptions,
        strict: bool,
        progress: Progress,
        client: Any = None,
    ) -> None:
        self.found = found
        self.place = place
        self.recipe = recipe
        self.means = means
        self.strict = strict
        self.progress = progress
        self.client = client
        self.partial = PartialRun(place)
        self.inventory = Inventory()
        self.engine: Engine | None = None
        self.earlier_engines: dict[str, dict[str, str]] = {}
        self.fingerprint: dict[str, Any] = {}
        self.embedded = self.copied = 0
        self.aside: list[Path] = []
        self.versions = {name: version(name) for name in ("embedonce", "numpy", "simplejpeg", "pillow")}

    def run(self) -> ExtractionReport:
        remove_uncommitted(self.place)
        old = inspect_cache(self.place.path) if self.place.exists() else None
        segments, dropped = self.partial.recover()
        self._set_fingerprint(old, segments)
        published: list[int] = []  # the sources of the readable shards
        damaged: set[bytes] = set()
        for state in old.shards if old is not None else ():
            if state.shard is not None:
                published.append(self.inventory.add_shard(state.shard, state.damaged_rows.tolist()))
                self._remember_engines(state.shard)
                damaged.update(state.damaged_paths)
        before = dict(self.inventory.by_path)
        for segment in segments:
            self.inventory.add_segment(segment.path, segment.table)
            self._remember_engines(segment)
        plan = make_plan(self.found, self.inventory)
        if old is not None and not segments and not dropped and self._is_up_to_date(plan, old):
            finish_publication(self.place, old.manifest)
            cache = old.cache()
            if self.strict and cache.rejects:
                raise strict_error(cache.rejects)
            report = ExtractionReport(cache, unchanged=len(self.found.images), rejected=len(cache.rejects))
        else:
            try:
                report = self._update(plan, old, published)
            finally:
                self.inventory.close()
            report.count_changes(self.found, before, self.inventory, damaged)
            report.resumed = sum(item.source >= len(published) for item in plan.unchanged)
        report.notes = notes_on_damage(old.problems if old is not None else [], self.aside, dropped)
        report.notes += notes_on_scan(self.found)
        return report

    def _remember_engines(self, shard: Shard) -> None:
        for name, versions in shard.table.provenance.get("engines", {}).items():
            note_engine(self.earlier_engines, name, versions)

    def _set_fingerprint(self, old: Inspection | None, segments: list[Shard]) -> None:
        shown = f"the cache {display(str(self.place.path))}"
        stored: list[tuple[Table | Manifest, str]] = [(shard.table, shown) for shard in old.readable] if old else []
        if old is not None and old.manifest is not None:
            stored.append((old.manifest, shown))
        for about, what in stored[:1]:  # all but the weights can be compared before they are loaded
            hashes = {name: about.fingerprint[name] for name in HASHES if name in about.fingerprint}
            require_same_fingerprint(about.fingerprint, self.recipe.fingerprint({}) | hashes, what)
        self.fingerprint = self.recipe.fingerprint(known_hashes(self.recipe) or self._get_engine().hashes)
        unfinished = f"the unfinished run {display(str(self.partial.folder))}"
        for about, what in (*stored, *((segment.table, unfinished) for segment in segments)):
            require_same_fingerprint(about.fingerprint, self.fingerprint, what, about.provenance)

    def _get_engine(self) -> Engine:
        if self.engine is None:
            text = f"preparing MobileNetV2 for the weights {self.recipe.weights.label}, once …"
            quick = is_quick(self.means, self.recipe)
            with contextlib.nullcontext() if quick else self.progress.working(text, "prepared"):
                self.engine = make_engine(self.means.engine, self.recipe, self.means.threads)
        return self.engine

    def _is_up_to_date(self, plan: Plan, old: Inspection) -> bool:
        about = old.about
        same_root = about is not None and about.provenance.get("image_root") == str(self.found.root)
        return old.intact and same_root and not plan.todo and not plan.gone

    def _update(self, plan: Plan, old: Inspection | None, published: list[int]) -> ExtractionReport:
        seconds = self._embed(plan) if plan.todo else 0.0
        items = [self.inventory.by_path[image.path] for image in self.found.images]
        rejects = [(os.fsdecode(item.image.path), item.reason) for item in items if item.row < 0]
        if len(rejects) == len(items):
            path, reason = rejects[0]
            raise ImageFolderError(
                f"none of the {len(items)} images can be embedded; the first: {display(path)}: {reason}"
            )
        if self.strict and rejects:  # before publishing: what was embedded stays committed
            raise strict_error(rejects)
        self._publish(items, old, published)
        self.inventory.close()
        self.partial.discard()
        return ExtractionReport(
            FeatureCache.open(self.place.path),
            embedded=self.embedded,
            copied=self.copied,
            rejected=len(rejects),
            seconds=seconds,
            published=True,
        )

    def _embed(self, plan: Plan) -> float:
        def commit(part: list[EmbedResult]) -> None:
            table = self._assembler().of_done(part)
            self.inventory.add_segment(self.partial.commit(table), table)
            self.embedded += sum(item.features is not None for item in part)
            self.copied += sum(item.copy_of is not None for item in part)

        engine = self._get_engine() if self.client is None else None
        self.progress.start(len(plan.todo))
        begin = time.monotonic()
        try:
            if engine is None:
                self._embed_on_cluster(plan.todo, commit)
            else:
                embed_images(
                    self.found.root,
                    plan.todo,
                    self.inventory.by_digest,
                    self.recipe,
                    engine,
                    self.means.workers or engine.default_workers(),
                    commit,
                    self.progress.advance,
                )
        finally:
            self.progress.close()
        return time.monotonic() - begin

    def _embed_on_cluster(self, images: list[ImageFile], commit: Callable[[list[EmbedResult]], None]) -> None:
        def finished(result: SliceResult) -> None:
            self.embedded += result.embedded
            note_engine(self.earlier_engines, result.engine, result.versions)

        job = Job(self.found.root, self.recipe, self.means, self.fingerprint, self._provenance())
        embed_on_cluster(self.client, job, images, self.inventory, self.partial, commit, finished, self.progress)

    def _publish(self, items: list[StoredImage], old: Inspection | None, published: list[int]) -> None:
        assembler = self._assembler()
        for state in old.shards if old is not None else ():
            if state.shard is None and state.path.exists():
                self.aside.append(quarantine(state.path))
        if not self.place.sharded:
            publish_file(self.place, assembler.of_known(items))
            return
        kept = self._kept(items, old, published)
        rest = [item for item in items if item.source not in kept]
        chunks = (rest[start : start + SHARD_ROWS] for start in range(0, len(rest), SHARD_ROWS))
        tables = (assembler.of_known(chunk) for chunk in chunks)
        publish_shards(self.place, list(kept.values()), tables, assembler.about())

    def _kept(self, items: list[StoredImage], old: Inspection | None, published: list[int]) -> dict[int, str]:
        """Return the source and digest of every shard that goes into the new generation as it is.

        That is one of which every row is still wanted. A small one is merged with new rows where there are
        some, so that many small updates do not leave many small shards.
        """
        wanted = Counter(item.source for item in items)
        whole = {
            source: shard
            for source, shard in zip(published, old.readable if old is not None else (), strict=True)
            if wanted[source] == len(shard) + len(shard.table.rejects)
        }
        if len(items) > sum(wanted[source] for source in whole):
            whole = {source: shard for source, shard in whole.items() if wanted[source] * 2 >= SHARD_ROWS}
        return {source: shard.digest for source, shard in whole.items()}

    def _assembler(self) -> Assembler:
        return Assembler(self.inventory, self.fingerprint, self._provenance(), self.found.class_names)

    def _provenance(self) -> dict[str, Any]:
        engines = dict(self.earlier_engines)
        if self.engine is not None and self.client is None:  # on a cluster, the workers' engines count
            note_engine(engines, self.engine.name, self.engine.versions())
        return {
            "engines": engines,
            "image_root": str(self.found.root),
            "versions": self.versions,
            "weights": self.recipe.weights.label,
            "weights_path": str(self.recipe.weights.path.resolve()) if self.recipe.weights.path else None,
        }
