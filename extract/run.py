"""The extraction run: bring a cache up to date with a folder of images, at the cost of the changes."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
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
    kind_of_path,
    make_folder,
    publish_file,
    publish_shards,
    quarantine,
    refuse_input_as_output,
    remove_uncommitted,
    writer_lock,
)
from ..errors import (
    CacheError,
    EngineError,
    ImageFolderError,
    MissingPackageError,
    ParameterError,
    WeightsError,
    check_flag,
)
from .archives import reading_order
from .assemble import Assembler
from .cluster import Job, SliceResult, connected, embed_on_cluster
from .embed import EmbedResult, embed_images
from .engines import Engine, is_quick, known_hashes, make_engine, note_engine, preferred_engine
from .labels import LabelOptions, Labels, LabelsLike
from .options import (
    AUTO,
    ComputeOptions,
    Decoding,
    EngineName,
    ImageOptions,
    Layout,
    Orientation,
    Precision,
    Resize,
    ValueRange,
    Views,
    check_options,
    engines_for,
)
from .other_formats import decoder_versions
from .plan import Inventory, Plan, StoredImage, make_plan
from .progress import Progress, make_progress
from .recipe import HASHES, Recipe, make_recipe, require_same_fingerprint
from .report import (
    ExtractionReport,
    PixelCounts,
    count_changes,
    notes_on_classes,
    notes_on_damage,
    notes_on_scan,
    notes_on_size,
    strict_error,
)
from .scan import ImageFile, Scan, scan_folder
from .views import IDENTITY, view_names, view_path

_LOGGER = logging.getLogger(__name__)
SHARD_ROWS = 65_536
"""Images of a full shard: 387 MB of 1280 features and a signature each, which an update of one image rewrites."""


def extract_features(
    images: Path | str,
    cache: Path | str,
    *,
    weights: str | Path = "imagenet",
    alpha: float = 1.0,
    image_size: int = 224,
    engine: EngineName = "auto",
    workers: int | None = None,
    strict: bool = False,
    follow_links: bool = False,
    labels: LabelsLike | None = None,
    path_column: str | None = None,
    label_column: str | None = None,
    label_pattern: str | None = None,
    layout: Layout = "auto",
    progress: bool | Progress | None = None,
    dask: Any = None,
    precision: Precision = "float32",
    decoding: Decoding = "exact",
    orientation: Orientation = "stored",
    resize: Resize = "stretch",
    antialias: bool = False,
    value_range: ValueRange = "stored",
    threads: int | None = None,
    views: Views = "none",
) -> FeatureCache:
    r"""Embed every image of a folder once, or bring an existing cache up to date with the folder.

    Parameters
    ----------
    images : path-like
        Folder, or ``.zip``, ``.tar``, ``.tar.gz`` or ``.tgz`` archive, with one folder of images per class. An archive
        is not unpacked to disk. The deepest folder that holds all its images is taken as the image folder.
    cache : path-like
        The cache to write: a file, such as ``lung.h5``, or a folder of shards, such as ``lung.cache/`` (a slash at the
        end or the ending ``.cache``). If it exists, only new, changed and damaged images are embedded.
    weights : str or path-like, default="imagenet"
        ``imagenet``, a file of Keras with a MobileNetV2 (``.h5``, ``.weights.h5`` or ``.keras``), or ``random:SEED``.
    alpha : float, default=1.0
        Width multiplier of MobileNetV2.
    image_size : int, default=224
        Height and width, in pixels, that images are resized to.
    engine : {"auto", "native", "litert", "keras"}, default="auto"
        Inference engine. The features of all engines agree within 1e-3. ``auto`` continues with the engine of the
        cache. For a new cache, it is the faster one of ``native`` and ``litert``, which are measured when they are
        first used on a processor, and ``keras`` for the precisions of GPUs. If TensorFlow cannot be imported and is
        needed, ``auto`` is ``native``.
    workers : int, default=None
        Number of threads; None for the default of the engine. With ``dask``, threads of each task; None for 1, because
        every thread of a Dask worker takes a slice.
    strict : bool, default=False
        Raise when an image cannot be embedded, instead of listing it in ``cache.rejects``.
    follow_links : bool, default=False
        Enter links to folders inside class folders. Class folders that are links are always read.
    progress : bool, default=None
        Show progress on standard error; None for terminals only.
    dask : str, path-like or distributed.Client, default=None
        Embed on a Dask cluster: the scheduler's address, the path of its scheduler file (``.json``), or a client. Every
        worker needs embedonce and, under the same paths, the image folder and the cache's folder.
    precision : {"float32", "int8", "float16", "bfloat16"}, default="float32"
        Precision of the backbone's arithmetic; features are always float32. ``int8`` needs LiteRT and is faster on
        processors with AVX-512 VNNI. ``float16`` and ``bfloat16`` (activations only) need Keras and a GPU to be fast.
        Train and use heads on features of one precision.
    decoding : {"exact", "reduced"}, default="exact"
        ``exact`` gives the pixels of ``image_dataset_from_directory``. ``reduced`` decodes JPEG files of at least twice
        ``image_size`` at a half, a quarter or an eighth, which gives other features, and is faster below 5 megapixels.
    labels : path-like, data frame or mapping, default=None
        Labels of the images: a CSV, TSV or Parquet file, a frame of pandas or polars, or a mapping from path to label.
        Rows match images by their path relative to the folder, then by file name, then without suffix. All other
        columns are stored as ``metadata``. By default the first folder of each path is its label; images that are all
        directly in the folder have no labels.
    path_column, label_column : str, default=None
        Columns of paths and labels. By default the one with a usual name, such as ``id`` and ``label``.
    label_pattern : str, default=None
        Regular expression with the group ``label``, which takes labels from file names: ``(?P<label>[a-z]+)_\d+``. A
        pattern with a slash is searched in the relative path.
    layout : {"auto", "classes"}, default="auto"
        ``auto`` takes folders named train, val (valid, validation) and test, with the same class folders in them, for
        a split, which is stored as the metadata ``split`` and is the default of `compare` and `train`. ``classes``
        takes them for classes.
    orientation : {"stored", "exif"}, default="stored"
        ``stored`` takes pixels as the file has them, as ``image_dataset_from_directory`` does. ``exif`` turns images
        upright by the EXIF orientation that cameras and phones write.
    resize : {"stretch", "crop", "pad"}, default="stretch"
        How images become square. ``stretch`` changes their proportions, ``crop`` takes the central square, and ``pad``
        adds black bars. They give the pixels of ``image_dataset_from_directory``, the last two with
        ``crop_to_aspect_ratio`` and ``pad_to_aspect_ratio``.
    antialias : bool, default=False
        Average all pixels of an image that is reduced, as ``tf.image.resize(antialias=True)`` does. Without it, most
        pixels of a large image are left out.
    value_range : {"stored", "stretch"}, default="stored"
        ``stored`` takes the high byte of images of 16 bits, as ``image_dataset_from_directory`` does. ``stretch`` makes
        the smallest and the largest value of each of them 0 and 255. Images of 8 bits stay as they are.
    threads : int, default=None
        Threads inside each interpreter, for machines with little memory per processor; None for 1. With Keras, the
        threads of TensorFlow; None for all. They change no feature.
    views : {"none", "flips", "dihedral"}, default="none"
        Also embed augmented views of every image: mirrored (three views), or mirrored and rotated (seven). Each view
        has its own cache in the folder ``NAME.views`` next to the cache.

    Returns
    -------
    FeatureCache
        The cache, open. Its ``report`` counts what was embedded, and lists rejects and notices.

    Raises
    ------
    ImageFolderError
        The folder holds no images.
    LabelsError
        The table of labels cannot be read or does not fit the images.
    FingerprintError
        The existing cache was made with other weights, alpha, image size, precision or image options.
    CacheError
        The file or folder at ``cache`` is not a feature cache; it is not changed.
    ParameterError, WeightsError, EngineError, ClusterError, LockedError, OutputError, ImageError
        See their names; committed work is never lost.

    See Also
    --------
    verify : Compare a cache with its images.
    FeatureCache.open : Open an existing cache.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from embedonce import extract_features
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("ash", "birch"):
    ...     (folder / "images" / name).mkdir(parents=True)
    ...     Image.new("RGB", (40, 40), "green").save(folder / "images" / name / "1.png")
    >>> tiny = {"weights": "random:0", "alpha": 0.35, "image_size": 32}
    >>> cache = extract_features(folder / "images", folder / "trees.h5", **tiny)
    >>> cache.features.shape, cache.class_names, cache.report.added
    ((2, 1280), ['ash', 'birch'], 2)
    """
    options = ComputeOptions(engine, workers, threads)
    image_options = ImageOptions(decoding, orientation, resize, antialias, value_range)
    check_options(options, precision, image_options)
    for name, flag in (("strict", strict), ("follow_links", follow_links)):
        check_flag(name, "extract_features", flag)
    label_options = LabelOptions(labels, path_column, label_column, label_pattern, layout)
    label_options.check("extract_features")
    names = view_names(views)
    _check_order(images, cache)
    location = CacheLocation.of(cache)
    refuse_input_as_output(location.path, images, weights)
    bar = make_progress(progress)
    with connected(dask) as client:  # first, since a scan can take minutes
        scan = scan_folder(images, follow_links=follow_links)
        labelled: list[Labels] = []  # once, for the images; their augmented views have the same

        def update(location: CacheLocation, view: str) -> FeatureCache:
            make_folder(location.path if location.sharded else location.path.parent, "the cache")
            with writer_lock(location):
                try:
                    recipe = make_recipe(weights, alpha, image_size, precision, image_options, view)
                except WeightsError as error:
                    raise WeightsError(f"{error}{_earlier_weights(location)}") from error
                return _Run(scan, location, recipe, options, label_options, labelled, strict, bar, client).run()

        updated = update(location, IDENTITY)
        reports = {}
        for name in names:
            with update(CacheLocation.of(view_path(location.path, name)), name) as view:
                reports[name] = view.report
    updated.report = replace(updated.report, views=reports)
    return updated


def _check_order(images: Any, cache: Any) -> None:
    """Raise ParameterError if the images have the name of a cache, and the cache is a folder or archive."""

    def names_cache(path: Any) -> bool:
        return isinstance(path, str | os.PathLike) and Path(path).suffix.lower() in (".h5", ".hdf5", ".cache")

    is_path = isinstance(cache, str | os.PathLike)
    if names_cache(images) and is_path and not names_cache(cache) and kind_of_path(cache) in ("a folder", "an archive"):
        raise ParameterError(
            f"parameter cache of extract_features must be a cache to write, such as photos.h5, got "
            f"{display(str(cache))}. The images are given as {display(str(images))}: did you swap IMAGES and CACHE?"
        )


def _earlier_weights(location: CacheLocation) -> str:
    """Return, as the end of an error, the weights file that a cache was made with; empty if it is unknown."""
    try:
        with FeatureCache.open(location.path) as cache:
            path = cache.provenance.get("weights_path")
    except CacheError:
        return ""
    return f". {display(str(location.path))} was made with --weights {display(path)}" if path else ""


@dataclass
class _Run:
    """One run under the writer's lock."""

    scan: Scan
    location: CacheLocation
    recipe: Recipe
    options: ComputeOptions
    label_options: LabelOptions
    labelled: list[Labels]  # empty in the first run
    strict: bool
    progress: Progress
    client: Any

    def __post_init__(self) -> None:
        self.partial = PartialRun(self.location)
        self.engine: Engine | None = None
        self.earlier_engines: dict[str, dict[str, str]] = {}
        self.fingerprint: dict[str, Any] = {}
        self.embedded = self.copied = 0
        self.quarantined: list[Path] = []
        self.pixels = PixelCounts()
        self.versions = {name: version(name) for name in ("embedonce", "numpy", "simplejpeg", "pillow")}
        self.versions |= decoder_versions()
        self.inventory = Inventory(self.versions)

    def run(self) -> FeatureCache:
        remove_uncommitted(self.location)
        old = inspect_cache(self.location.path) if self.location.exists() else None
        segments, dropped = self.partial.recover()
        for shard in (*(old.readable if old is not None else ()), *segments):
            for name, versions in shard.table.provenance.get("engines", {}).items():
                note_engine(self.earlier_engines, name, versions)
        self._set_fingerprint(old, segments)
        published: list[int] = []  # the sources of the readable shards
        damaged: set[bytes] = set()
        for state in old.shards if old is not None else ():
            if state.shard is not None:
                published.append(self.inventory.add(state.shard, state.shard.table, state.damaged_rows.tolist()))
                damaged.update(state.damaged_paths)
        self._set_labels(old)
        before = dict(self.inventory.by_path)
        for segment in segments:
            self.inventory.add(segment.path, segment.table)
        plan = make_plan(self.scan, self.inventory)
        if old is not None and not segments and not dropped and self._is_up_to_date(plan, old):
            finish_publication(self.location, old.manifest)
            cache = old.cache()
            if self.strict and cache.rejects:
                raise strict_error(cache.rejects)
            report = ExtractionReport(unchanged=len(self.scan.images))
        else:
            try:
                cache, seconds = self._update(plan, old, published)
            finally:
                self.inventory.close()
            report = count_changes(self.scan, before, self.inventory, damaged)
            resumed = sum(item.source >= len(published) for item in plan.unchanged)
            report = replace(report, embedded=self.embedded, copied=self.copied, resumed=resumed)
            report = replace(report, seconds=seconds, published=True)
        notes = notes_on_damage(old.problems if old is not None else [], self.quarantined, dropped)
        cache.report = replace(
            report,
            rejects=cache.rejects,
            notes=notes
            + self.labels.notes
            + notes_on_scan(self.scan)
            + notes_on_classes(cache.class_counts)
            + self.pixels.notes(),
        )
        return cache

    def _set_labels(self, old: Inspection | None) -> None:
        if not self.labelled:
            about = old.about.provenance.get("labels", {}) if old is not None and old.about is not None else {}
            tables = [shard.table for shard in old.readable] if old is not None else []
            self.labelled.append(self.label_options.of_scan(self.scan, about, tables))
            for note in self.labelled[0].notes + notes_on_classes(self.labelled[0].counts):
                self.progress.say(f"Note: {note}.")  # before the work, not after it
        self.labels = self.labelled[0]

    def _set_fingerprint(self, old: Inspection | None, segments: list[Shard]) -> None:
        name = f"the cache {display(str(self.location.path))}"
        stored: list[tuple[Table | Manifest, str]] = [(shard.table, name) for shard in old.readable] if old else []
        if old is not None and old.manifest is not None:
            stored.append((old.manifest, name))
        for metadata, what in stored[:1]:  # everything but the weights can be compared before they are loaded
            hashes = {name: metadata.fingerprint[name] for name in HASHES if name in metadata.fingerprint}
            require_same_fingerprint(metadata.fingerprint, self.recipe.fingerprint({}) | hashes, what)
        self.fingerprint = self.recipe.fingerprint(known_hashes(self.recipe) or self._get_engine().hashes)
        unfinished = f"the unfinished run {display(str(self.partial.folder))}"
        for metadata, what in (*stored, *((segment.table, unfinished) for segment in segments)):
            require_same_fingerprint(metadata.fingerprint, self.fingerprint, what, metadata.provenance)

    def _get_engine(self) -> Engine:
        if self.engine is None:
            names = self._engines_of_cache()
            text = f"preparing MobileNetV2 for the weights {self.recipe.weights.label}, once …"
            options = replace(self.options, engine=names[0]) if names else self.options
            quick = is_quick(options, self.recipe)
            with contextlib.nullcontext() if quick else self.progress.working(text, "prepared"):
                self.engine = self._make_engine(names)
            if names and self.engine.name not in names:
                written = " and ".join(names)
                text = f"the cache was written with engine {written}, which cannot run here"
                self.progress.say(f"Note: {text}. New images get engine {self.engine.name}, which agrees within 0.001.")
        return self.engine

    def _engines_of_cache(self) -> list[str]:
        """Return the engines that ``auto`` continues with, so that all features of a cache are from one engine."""
        if self.options.engine != AUTO or preferred_engine():
            return []
        earlier = {name.partition(" (")[0] for name in self.earlier_engines}
        return [name for name in engines_for(self.recipe.precision) if name in earlier]

    def _make_engine(self, names: list[str]) -> Engine:
        for name in names:
            # it cannot run here, or not with --threads
            with contextlib.suppress(EngineError, MissingPackageError, ParameterError):
                return make_engine(name, self.recipe, self.options.threads)
        return make_engine(self.options.engine, self.recipe, self.options.threads)

    def _is_up_to_date(self, plan: Plan, old: Inspection) -> bool:
        metadata = old.about
        same_root = metadata is not None and metadata.provenance.get("image_root") == str(self.scan.root)
        if not (old.intact and same_root and not plan.todo and not plan.removed):
            return False
        return all(self.labels.are_those_of(shard.table) for shard in old.readable)

    def _update(self, plan: Plan, old: Inspection | None, published: list[int]) -> tuple[FeatureCache, float]:
        """Embed and publish; return the new cache and the seconds that embedding took."""
        seconds = self._embed(plan) if plan.todo else 0.0
        items = [self.inventory.by_path[image.path] for image in self.scan.images]
        rejects = [(os.fsdecode(item.image.path), item.reason) for item in items if item.row < 0]
        if len(rejects) == len(items):
            path, reason = rejects[0]
            raise ImageFolderError(
                f"none of the {len(items)} images can be embedded; the first: {display(path)}: {reason}"
            )
        if self.strict and rejects:  # before publishing: the embedded images stay committed
            raise strict_error(rejects)
        self._publish(items, old, published)
        self.inventory.close()
        self.partial.discard()
        return FeatureCache.open(self.location.path), seconds

    def _embed(self, plan: Plan) -> float:
        def commit(results: list[EmbedResult]) -> None:
            self.pixels.add(results)
            table = self._assembler().table_of_results(results)
            self.inventory.add(self.partial.commit(table), table)
            self.embedded += sum(item.features is not None for item in results)
            self.copied += sum(item.copy_of is not None for item in results)

        engine = self._get_engine() if self.client is None else None
        todo = sorted(plan.todo, key=lambda image: reading_order(self.scan.root, image.path))
        for note in notes_on_size(self.scan.root, todo):
            self.progress.say(f"Note: {note}.")
        self.progress.start(len(todo))
        begin = time.monotonic()
        try:
            if engine is None:
                self._embed_on_cluster(todo, commit)
            else:
                root, content = self.scan.root, self.inventory.by_digest
                workers = self.options.workers or engine.default_workers()
                _LOGGER.debug("engine %s, %d workers, %s", engine.name, workers, self.versions)
                embed_images(root, todo, content, self.recipe, engine, workers, commit, self.progress.advance)
        finally:
            self.progress.close()
        return time.monotonic() - begin

    def _embed_on_cluster(self, images: list[ImageFile], commit: Callable[[list[EmbedResult]], None]) -> None:
        def finished(result: SliceResult) -> None:
            self.embedded += result.embedded
            self.pixels.merge(result.pixels)
            note_engine(self.earlier_engines, result.engine, result.versions)

        job = Job(self.scan.root, self.recipe, self.options, self.fingerprint, self._provenance())
        embed_on_cluster(self.client, job, images, self.inventory, self.partial, commit, finished, self.progress)

    def _publish(self, items: list[StoredImage], old: Inspection | None, published: list[int]) -> None:
        assembler = self._assembler()
        for state in old.shards if old is not None else ():
            if state.shard is None and state.path.exists():
                self.quarantined.append(quarantine(state.path))
        if not self.location.sharded:
            publish_file(self.location, assembler.table_of_stored(items))
            return
        reused = self._reusable_shards(items, old, published)
        rest = [item for item in items if item.source not in reused]
        chunks = (rest[start : start + SHARD_ROWS] for start in range(0, len(rest), SHARD_ROWS))
        tables = (assembler.table_of_stored(chunk) for chunk in chunks)
        manifest = Manifest(self.fingerprint, assembler.provenance, assembler.class_names, [])
        publish_shards(self.location, list(reused.values()), tables, manifest)

    def _reusable_shards(
        self, items: list[StoredImage], old: Inspection | None, published: list[int]
    ) -> dict[int, str]:
        """Return source and digest of every shard that the new generation takes unchanged."""
        # new rows are merged with small shards, so that many small updates do not leave many small shards
        needed = Counter(item.source for item in items)
        whole = {
            source: shard
            for source, shard in zip(published, old.readable if old is not None else (), strict=True)
            if needed[source] == len(shard) + len(shard.table.rejects) and self.labels.are_those_of(shard.table)
        }
        if len(items) > sum(needed[source] for source in whole):
            whole = {source: shard for source, shard in whole.items() if needed[source] * 2 >= SHARD_ROWS}
        return {source: shard.digest for source, shard in whole.items()}

    def _assembler(self) -> Assembler:
        return Assembler(self.inventory, self.fingerprint, self._provenance(), self.labels)

    def _provenance(self) -> dict[str, Any]:
        engines = dict(self.earlier_engines)
        if self.engine is not None and self.client is None:  # on a cluster, the workers' engines count
            note_engine(engines, self.engine.name, self.engine.versions())
        return {
            "engines": engines,
            "image_root": str(self.scan.root),
            **({"labels": self.labels.source} if self.labels.source else {}),
            "versions": self.versions,
            "weights": self.recipe.weights.label,
            "weights_path": str(self.recipe.weights.path.resolve()) if self.recipe.weights.path else None,
        }
