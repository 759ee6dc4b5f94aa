"""The extraction run: bring a cache up to date with a folder of images, at the price of what changed."""

from __future__ import annotations

import os
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ..cache.errors import CacheError, EngineError, ImageFolderError, OutputError
from ..cache.files import make_folder, writer_lock
from ..cache.names import display
from ..cache.partial import PartialRun
from ..cache.reader import FeatureCache
from ..cache.table import HASH_BYTES, Features, Files, Table
from ..cache.writer import write_cache
from .embed import Done, embed_images
from .engines import Engine, check_engine, make_engine
from .plan import Inventory, Known, Plan, make_plan
from .progress import Progress, make_progress
from .recipe import Recipe, make_recipe, require_same_fingerprint
from .report import Report, notes_on_scan, strict_error
from .scan import ImageFile, Scan, scan
from .store import known_weights


def extract(
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
) -> FeatureCache:
    """Embed every image of a folder once, or bring an existing cache up to date with it.

    Parameters
    ----------
    images : path-like
        Folder with one folder of images per class.
    cache : path-like
        The cache file to write, ``NAME.h5``. When it exists, only what is new or changed is embedded.
    weights : str or path-like
        ``imagenet``, a Keras weights file or saved model, or ``random:SEED``.
    alpha : float
        Width multiplier of MobileNetV2.
    image_size : int
        Height and width, in pixels, that images are resized to.
    engine : {"auto", "litert", "keras"}
        What computes. The features agree within 1e-3.
    workers : int, optional
        Number of threads; by default what suits the engine and the processor.
    strict : bool
        Raise when an image cannot be embedded, instead of listing it in ``cache.rejects``.
    follow_links : bool
        Enter links to folders.
    progress : bool, optional
        Show progress on standard error; by default only on a terminal.

    Returns
    -------
    FeatureCache

    Raises
    ------
    ImageFolderError
        The folder does not hold images in at least two class folders.
    FingerprintError
        The existing cache was made with other weights, alpha or image size.
    CacheError
        What stands at ``cache`` is no readable cache; it is left as it is.
    WeightsError, EngineError, LockedError, OutputError, ImageError
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
) -> Report:
    """Do what :func:`extract` does and report what was done."""
    cache = Path(cache)
    _check_parameters(cache, engine, workers)
    found = scan(images, follow_links=follow_links)
    make_folder(cache.parent, "the cache")
    with writer_lock(cache):
        recipe = make_recipe(weights, alpha, image_size)
        return _Run(found, cache, recipe, engine, workers, strict, progress).run()


def _check_parameters(cache: Path, engine: str, workers: int | None) -> None:
    check_engine(engine)
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise EngineError(f"parameter workers of extract must be a whole number above 0, got {workers!r}")
    if cache.is_dir():
        raise OutputError(21, f"the cache {display(str(cache))} is a folder; give the path of a file, such as lung.h5")
    if not cache.name:
        raise CacheError("the cache needs a file name, such as lung.h5")


class _Run:
    """One run under the writer's lock."""

    def __init__(
        self,
        found: Scan,
        cache: Path,
        recipe: Recipe,
        engine: str,
        workers: int | None,
        strict: bool,
        progress: Progress,
    ) -> None:
        self.found = found
        self.cache = cache
        self.recipe = recipe
        self.engine_name = engine
        self.workers = workers
        self.strict = strict
        self.progress = progress
        self.partial = PartialRun(cache)
        self.inventory = Inventory()
        self.engine: Engine | None = None
        self.earlier_engines: dict[str, dict[str, str]] = {}
        self.fingerprint: dict[str, Any] = {}

    def run(self) -> Report:
        old = FeatureCache.open(self.cache) if self.cache.exists() else None
        segments, damaged = self.partial.recover()
        self._set_fingerprint(old, segments)
        if old is not None:
            self._take_over(old)
        before = dict(self.inventory.by_path)
        for segment in segments:
            self._take_over(segment)
        plan = make_plan(self.found, self.inventory)
        if old is not None and not segments and not damaged and self._is_up_to_date(plan, old):
            if self.strict and old.rejects:
                raise strict_error(old.rejects)
            report = Report(old, unchanged=len(self.found.images), rejected=len(old.rejects))
        else:
            report = self._update(plan, before, old)
        report.notes = notes_on_scan(self.found, damaged)
        return report

    def _take_over(self, cache: FeatureCache) -> None:
        self.inventory.add_cache(cache)
        self.earlier_engines |= cache.provenance.get("engines", {})

    def _set_fingerprint(self, old: FeatureCache | None, segments: list[FeatureCache]) -> None:
        if old is not None:  # all but the weights can be compared before they are loaded
            self.fingerprint = self.recipe.fingerprint(old.fingerprint.get("weights_sha256", ""))
            require_same_fingerprint(old.fingerprint, self.fingerprint, f"the cache {display(str(self.cache))}")
        weights = known_weights(self.recipe)
        if weights is None:
            weights = self._get_engine().weights_sha256
        self.fingerprint = self.recipe.fingerprint(weights)
        if old is not None:
            require_same_fingerprint(old.fingerprint, self.fingerprint, f"the cache {display(str(self.cache))}")
        for segment in segments:
            what = f"the unfinished run {display(str(self.partial.folder))}"
            require_same_fingerprint(segment.fingerprint, self.fingerprint, what)

    def _get_engine(self) -> Engine:
        if self.engine is None:
            if known_weights(self.recipe) is None:
                self.progress.say(f"preparing MobileNetV2 for the weights {self.recipe.weights.label}, once …")
            self.engine = make_engine(self.engine_name, self.recipe)
        return self.engine

    def _is_up_to_date(self, plan: Plan, old: FeatureCache) -> bool:
        same_root = old.provenance.get("image_root") == str(self.found.root)
        return same_root and not plan.todo and not plan.gone

    def _update(self, plan: Plan, before: dict[bytes, Known], old: FeatureCache | None) -> Report:
        done: list[Done] = []
        seconds = 0.0
        if plan.todo:
            seconds = self._embed(plan, done)
        table = self._table()
        if not len(table.files):
            raise ImageFolderError(
                f"none of the {len(self.found.images)} images can be embedded; the first: "
                f"{display(table.rejects.paths[0])}: {table.reasons[0]}"
            )
        if self.strict and table.reasons:  # before publishing: what was embedded stays committed
            raise strict_error(list(zip(map(os.fsdecode, table.rejects.paths), table.reasons, strict=True)))
        write_cache(table, self.cache)
        self.partial.discard()
        report = Report(FeatureCache.open(self.cache), rejected=len(table.reasons), seconds=seconds, published=True)
        report.count_changes(self.found, before, self.inventory)
        report.count_work(done)
        first_segment = 0 if old is None else 1
        report.resumed = sum(item.source >= first_segment for item in plan.unchanged)
        return report

    def _embed(self, plan: Plan, done: list[Done]) -> float:
        engine = self._get_engine()

        def commit(part: list[Done]) -> None:
            table = self._segment(part)
            self.partial.commit(table)
            self.inventory.add_rows(table.files, table.features, table.rejects, table.reasons)
            done.extend(part)

        self.progress.start(len(plan.todo))
        begin = time.monotonic()
        try:
            embed_images(
                self.found.root,
                plan.todo,
                self.inventory,
                engine,
                self.workers or engine.default_workers(),
                commit,
                self.progress.advance,
            )
        finally:
            self.progress.close()
        return time.monotonic() - begin

    def _segment(self, part: list[Done]) -> Table:
        rows = [item for item in part if not item.reason]
        rejects = [item for item in part if item.reason]
        features = [self._features_of(item) for item in rows]
        return self._make_table(
            _files([(item.image, item.digest) for item in rows]),
            np.stack(features) if features else np.zeros((0, 0), np.float32),
            _files([(item.image, item.digest) for item in rejects]),
            [item.reason for item in rejects],
        )

    def _features_of(self, item: Done) -> Features:
        if item.copy_of is not None:
            row: Features = self.inventory.features_of(item.copy_of.source)[item.copy_of.row]
            return row
        assert item.features is not None
        return item.features

    def _table(self) -> Table:
        """Gather the rows of the whole folder, sorted by path."""
        known = [self.inventory.by_path[image.path] for image in self.found.images]
        rows = [item for item in known if item.row >= 0]
        rejects = [item for item in known if item.row < 0]
        width = self.inventory.features_of(rows[0].source).shape[1] if rows else 0
        features = np.empty((len(rows), width), np.float32)
        sources = np.array([item.source for item in rows], np.intp)
        places = np.array([item.row for item in rows], np.intp)
        for source in np.unique(sources):
            mine = np.flatnonzero(sources == source)
            features[mine] = self.inventory.features_of(int(source))[places[mine]]
        return self._make_table(
            _files([(item.image, item.digest) for item in rows]),
            features,
            _files([(item.image, item.digest) for item in rejects]),
            [item.reason for item in rejects],
        )

    def _make_table(self, files: Files, features: Features, rejects: Files, reasons: list[str]) -> Table:
        index = {name: number for number, name in enumerate(self.found.class_names)}
        labels = np.array([index[path.partition(b"/")[0]] for path in files.paths], np.int32)
        return Table(
            self.fingerprint, self._provenance(), self.found.class_names, files, labels, features, rejects, reasons
        )

    def _provenance(self) -> dict[str, Any]:
        engines = dict(self.earlier_engines)
        if self.engine is not None:
            engines[self.engine.name] = self.engine.versions()
        packages = ("embedonce", "numpy", "simplejpeg", "pillow")
        return {
            "engines": engines,
            "image_root": str(self.found.root),
            "versions": {name: version(name) for name in packages},
            "weights": self.recipe.weights.label,
            "weights_path": str(self.recipe.weights.path.resolve()) if self.recipe.weights.path else None,
        }


def _files(items: list[tuple[ImageFile, bytes]]) -> Files:
    hashes = np.frombuffer(b"".join(digest for _, digest in items), np.uint8).reshape(-1, HASH_BYTES)
    return Files(
        [image.path for image, _ in items],
        np.array([image.size for image, _ in items], np.int64),
        np.array([image.mtime for image, _ in items], np.int64),
        hashes,
    )
