"""Verification: whether a cache is intact, matches its images, and would be made again by this machine."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..cache import FEATURES, HASH_BYTES, Inspection, display, inspect_cache
from ..errors import ImageError
from .decoding import resize_into
from .embed import read_image
from .engines import Engine, allowed_difference, make_engine
from .plan import Inventory, StoredImage
from .processors import available_processors
from .progress import Progress, make_progress
from .recipe import Recipe, recipe_of, require_same_fingerprint
from .scan import ImageFile, scan

SAMPLE = 16
_STEP = 64  # images between two strokes of the progress bar


@dataclass
class Verification:
    """What a verification found.

    Attributes
    ----------
    cache : str
        Its path.
    rows : int
        Embedded images whose checksums were looked at.
    files : int
        Cache files: 1, or the number of shards.
    problems : list of str
        A line for everything that is damaged.
    damaged : list of str
        Images whose stored features or signatures are damaged.
    images : str or None
        The image folder that it was compared with.
    unchanged : int
        Images of the folder with the content that the cache knows, by SHA-256.
    added, changed, removed : list of str
        Paths, against the cache.
    moved : list of (str, str)
        Old and new path of content that stands elsewhere now.
    sampled : int
        Images that were embedded again.
    largest_difference : float
        Between a stored feature and the same one computed now.
    allowed_difference : float
    differing : list of str
        Images of the sample beyond what is allowed.
    identical : int
        Images of the sample with the very bits that are stored.
    """

    cache: str
    rows: int = 0
    files: int = 0
    problems: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    images: str | None = None
    unchanged: int = 0
    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    moved: list[tuple[str, str]] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    sampled: int = 0
    identical: int = 0
    largest_difference: float = 0.0
    allowed_difference: float = 0.0
    differing: list[str] = field(default_factory=list)

    @property
    def intact(self) -> bool:
        """Whether every byte that matters is as it was written."""
        return not self.problems

    @property
    def matches(self) -> bool:
        """Whether the images are those of the cache, as far as they were looked at."""
        return not (self.added or self.changed or self.moved or self.removed)

    @property
    def ok(self) -> bool:
        """Whether all that was looked at is as it should be."""
        return self.intact and self.matches and not self.differing

    def as_dict(self) -> dict[str, Any]:
        """Return all of it, JSON-serialisable."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {"ok": self.ok, "intact": self.intact, "matches": self.matches} | values


def verify(
    cache: Path | str,
    images: Path | str | None = None,
    *,
    sample: int = SAMPLE,
    seed: int = 0,
    weights: str | Path | None = None,
    engine: str = "auto",
    follow_links: bool = False,
    progress: bool | None = None,
) -> Verification:
    """Check every checksum of a cache and, with its images, whether they are still those that were embedded.

    Every image is read and compared by its SHA-256, so that a change which kept size and time is found too. Then
    a sample is embedded again, which proves that this machine and these weights still give the stored features.

    Parameters
    ----------
    cache : path-like
        A file or a folder of shards. It is only read.
    images : path-like, optional
        The image folder.
    sample : int
        How many images to embed again; 0 for none.
    seed : int
        Of the choice of the sample.
    weights : str or path-like, optional
        The backbone's weights, when they are not where the cache says.
    engine : str
        What computes: see :func:`embedonce.extract_features`.
    follow_links : bool
        Enter links to folders, as the extraction did.
    progress : bool, optional
        Show progress on standard error; by default only on a terminal.

    Returns
    -------
    Verification
        Damage and differences are findings, not errors.

    Raises
    ------
    CacheError
        There is no cache, or it is not recognisable as one.
    ImageFolderError, WeightsError, FingerprintError, EngineError
        The images, or what is needed to embed them again, are not to be had.
    """
    return verify_cache(
        Path(cache),
        images,
        sample=sample,
        seed=seed,
        weights=weights,
        engine=engine,
        follow_links=follow_links,
        progress=make_progress(progress),
    )


def verify_cache(
    cache: Path,
    images: Path | str | None,
    *,
    sample: int,
    seed: int,
    weights: str | Path | None,
    engine: str,
    follow_links: bool,
    progress: Progress,
) -> Verification:
    """Do what :func:`verify` does."""
    inspection = inspect_cache(cache)
    damaged = {path for state in inspection.shards for path in state.damaged_paths}
    done = Verification(
        str(cache),
        rows=sum(map(len, inspection.readable)),
        files=len(inspection.shards),
        problems=inspection.problems,
        damaged=sorted(map(os.fsdecode, damaged)),
    )
    inventory = Inventory()
    for state in inspection.shards:
        if state.shard is not None:
            inventory.add_shard(state.shard, state.damaged_rows.tolist())
    whole = len(inspection.readable) == len(inspection.shards) and not inspection.problem
    if images is not None and whole:  # without its tables, nobody knows which images the cache should have
        found = scan(images, follow_links=follow_links)
        done.images = str(found.root)
        matching = _compare(done, found.root, found.images, inventory, damaged, progress)
        if sample and matching:
            recipe, made = _engine_of(inspection, engine, weights)
            _embed_again(done, found.root, matching, inventory, recipe, made, sample, seed)
    inventory.close()
    return done


def _engine_of(inspection: Inspection, name: str, weights: str | Path | None) -> tuple[Recipe, Engine]:
    """Return the recipe of a cache and an engine with its backbone, or fail because that is another one."""
    about = inspection.about
    assert about is not None  # the cache is whole
    recipe = recipe_of(about, weights)
    engine = make_engine(name, recipe)
    found, what = recipe.fingerprint(engine.hashes), f"the cache {display(str(inspection.path))}"
    require_same_fingerprint(about.fingerprint, found, what, about.provenance)
    return recipe, engine


def _compare(
    done: Verification,
    root: Path,
    images: list[ImageFile],
    inventory: Inventory,
    damaged: set[bytes],
    progress: Progress,
) -> list[tuple[ImageFile, StoredImage]]:
    """Sort the images into kinds, and return those of known content with their rows."""
    digests = _digests(root, images, progress)
    present = {image.path for image in images}
    vanished: dict[bytes, list[StoredImage]] = {}
    for path, row in inventory.by_path.items():
        if path not in present:
            vanished.setdefault(row.digest, []).append(row)
    matching: list[tuple[ImageFile, StoredImage]] = []
    for image, digest in zip(images, digests, strict=True):
        known = inventory.by_path.get(image.path)
        name = os.fsdecode(image.path)
        if image.path in damaged:
            continue
        if known is not None and known.digest == digest:
            done.unchanged += 1
            matching.append((image, known))
        elif known is not None:
            done.changed.append(name)
        elif vanished.get(digest):
            origin = vanished[digest].pop()
            done.moved.append((os.fsdecode(origin.image.path), name))
            matching.append((image, origin))
        else:
            done.added.append(name)
    done.removed = sorted(os.fsdecode(row.image.path) for rest in vanished.values() for row in rest)
    done.removed += sorted(os.fsdecode(path) for path in damaged - present)
    return [(image, known) for image, known in matching if known.row >= 0]


def _digests(root: Path, images: list[ImageFile], progress: Progress) -> list[bytes]:
    """Return the SHA-256 of every image; zeros, as in a cache, for one that cannot be read."""

    def digest(image: ImageFile) -> bytes:
        try:
            return hashlib.sha256(read_image(root, image)[0]).digest()
        except ImageError:
            return bytes(HASH_BYTES)

    digests: list[bytes] = []
    progress.start(len(images), "reading")
    try:
        with ThreadPoolExecutor(available_processors()) as pool:
            for value in pool.map(digest, images):
                digests.append(value)
                if len(digests) % _STEP == 0:
                    progress.advance(_STEP)
    finally:
        progress.close()
    return digests


def _embed_again(
    done: Verification,
    root: Path,
    matching: list[tuple[ImageFile, StoredImage]],
    inventory: Inventory,
    recipe: Recipe,
    engine: Engine,
    count: int,
    seed: int,
) -> None:
    chosen = np.random.default_rng(seed).choice(len(matching), min(count, len(matching)), replace=False)
    sample = [matching[place] for place in np.sort(chosen)]
    stored = inventory.gather([known for _, known in sample], FEATURES)
    done.allowed_difference = allowed_difference(stored, recipe.precision)
    session = engine.session()
    for (image, known), expected in zip(sample, stored, strict=True):
        try:
            data, _ = read_image(root, image)
        except ImageError:
            data = b""
        if hashlib.sha256(data).digest() != known.digest:
            continue  # it has gone or changed since it was looked at, which is not the cache's fault
        resize_into(session.slot(0), recipe.decode(data))
        got = session.run(1)[0]
        difference = float(np.abs(got - expected).max())
        done.sampled += 1
        done.identical += bool((got == expected).all())
        done.largest_difference = max(done.largest_difference, difference)
        if not difference <= done.allowed_difference:  # also when it is not a number
            done.differing.append(os.fsdecode(image.path))
