"""Verification: whether a cache is intact, matches its images, and is reproduced by this machine."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..cache import FEATURES, HASH_BYTES, Inspection, display, inspect_cache
from ..errors import ImageError, check_choice, check_flag, check_int, check_path
from .archives import reading_order
from .embed import read_image
from .engines import allowed_difference, make_engine
from .labels import folder_labels
from .options import AUTO, ENGINES, EngineName
from .plan import Inventory, StoredImage
from .processors import cpu_count
from .progress import Progress, make_progress
from .recipe import recipe_of, require_same_fingerprint
from .scan import ImageFile, Scan, scan_folder

_STEP = 64  # images between two updates of the progress bar

Matching = list[tuple[ImageFile, StoredImage]]


@dataclass(frozen=True)
class Verification:
    """Result of a verification.

    Attributes
    ----------
    cache : str
        Path of the cache.
    rows : int
        Embedded images whose checksums were compared.
    files : int
        Cache files: 1, or the number of shards.
    problems : list of str
        A line for every damaged part.
    damaged : list of str
        Images whose stored features or signatures are damaged.
    images : str or None
        The image folder that the cache was compared with.
    unchanged : int
        Images of the folder with the stored content, by SHA-256.
    added, changed, removed : list of str
        Paths that differ from the cache.
    moved : list of (str, str)
        Old and new path of images that were moved.
    sampled : int
        Images that were embedded again.
    identical : int
        Images of the sample with exactly the stored features.
    largest_difference, allowed_difference : float
        Largest difference between a stored and a new feature, and its limit.
    differing : list of str
        Images of the sample beyond the limit.
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
        """True if all checksums match."""
        return not self.problems

    @property
    def matches(self) -> bool:
        """True if the compared images are those of the cache."""
        return not (self.added or self.changed or self.moved or self.removed)

    @property
    def ok(self) -> bool:
        """True if no damage and no difference was found."""
        return self.intact and self.matches and not self.differing

    def to_dict(self) -> dict[str, Any]:
        """Return all values, JSON-serialisable."""
        return {"ok": self.ok, "intact": self.intact, "matches": self.matches} | asdict(self)


def verify(
    cache: Path | str,
    images: Path | str | None = None,
    *,
    sample: int = 16,
    seed: int = 0,
    weights: str | Path | None = None,
    engine: EngineName = "auto",
    follow_links: bool = False,
    progress: bool | Progress | None = None,
) -> Verification:
    """Check every checksum of a cache and, with its images, whether these are still the embedded ones.

    Every image is read and compared by its SHA-256, which also finds changes that kept size and time. Then a sample is
    embedded again, to check that this machine and these weights still give the stored features.

    Parameters
    ----------
    cache : path-like
        A file or a folder of shards. It is only read.
    images : path-like, default=None
        The image folder or archive. Without it, only checksums are checked.
    sample : int, default=16
        Number of images to embed again; 0 for none.
    seed : int, default=0
        Random seed of the sample.
    weights : str or path-like, default=None
        Weights of the backbone; None for those that the cache names.
    engine : {"auto", "native", "litert", "keras"}, default="auto"
        Inference engine; see `extract_features`.
    follow_links : bool, default=False
        Enter links to folders, as in the extraction.
    progress : bool, default=None
        Show progress on standard error; None for terminals only.

    Returns
    -------
    Verification
        Damage and differences are results, not errors.

    Raises
    ------
    CacheError
        There is no cache, or it is not recognisable as one.
    ImageFolderError, WeightsError, FingerprintError, EngineError
        The images cannot be read, or cannot be embedded as for the cache.

    See Also
    --------
    extract_features : Make a cache, repair it, or bring it up to date.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from embedonce import extract_features, verify
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("ash", "birch"):
    ...     (folder / "images" / name).mkdir(parents=True)
    ...     Image.new("RGB", (40, 40), "green").save(folder / "images" / name / "1.png")
    >>> tiny = {"weights": "random:0", "alpha": 0.35, "image_size": 32}
    >>> cache = extract_features(folder / "images", folder / "trees.h5", **tiny)
    >>> (folder / "images" / "ash" / "1.png").rename(folder / "images" / "ash" / "2.png").name
    '2.png'
    >>> result = verify(folder / "trees.h5", folder / "images")
    >>> result.intact, result.unchanged, result.moved
    (True, 1, [('ash/1.png', 'ash/2.png')])
    """
    check_int("sample", "verify", sample, 0)
    check_int("seed", "verify", seed, 0)
    check_flag("follow_links", "verify", follow_links)
    check_choice("engine", "verify", engine, (AUTO, *ENGINES))
    inspection = inspect_cache(check_path("cache", "verify", cache))
    damaged = {path for state in inspection.shards for path in state.damaged_paths}
    verification = Verification(
        str(cache),
        rows=sum(map(len, inspection.readable)),
        files=len(inspection.shards),
        problems=inspection.problems,
        damaged=sorted(map(os.fsdecode, damaged)),
    )
    inventory = Inventory()
    for state in inspection.shards:
        if state.shard is not None:
            inventory.add(state.shard, state.shard.table, state.damaged_rows.tolist())
    complete = len(inspection.readable) == len(inspection.shards) and not inspection.problem
    if images is not None and complete:  # without its tables, the images of the cache are unknown
        scan = scan_folder(images, follow_links=follow_links)
        about = {} if inspection.about is None else inspection.about.provenance.get("labels", {})
        if about.get("source") not in ("table", "pattern", "none"):
            folder_labels(scan)  # leaves images outside class folders out
        digests = _digests(scan, make_progress(progress))
        verification, matching = _compare(verification, scan, digests, inventory, damaged)
        if sample and matching:
            chosen = np.random.default_rng(seed).choice(len(matching), min(sample, len(matching)), replace=False)
            sampled = [matching[index] for index in np.sort(chosen)]
            verification = _embed_again(verification, scan, sampled, inventory, inspection, engine, weights)
    inventory.close()
    return verification


def _digests(scan: Scan, progress: Progress) -> list[bytes]:
    """Return the SHA-256 of every image; zeros, as in a cache, for one that cannot be read."""

    def digest(index: int) -> bytes:
        try:
            return hashlib.sha256(read_image(scan.root, scan.images[index])[0]).digest()
        except ImageError:
            return bytes(HASH_BYTES)

    order = sorted(range(len(scan.images)), key=lambda index: reading_order(scan.root, scan.images[index].path))
    digests: dict[int, bytes] = {}
    progress.start(len(scan.images), "reading")
    try:
        with ThreadPoolExecutor(cpu_count()) as pool:
            for index, value in zip(order, pool.map(digest, order), strict=True):
                digests[index] = value
                if len(digests) % _STEP == 0:
                    progress.advance(_STEP)
    finally:
        progress.close()
    return [digests[index] for index in range(len(digests))]


def _compare(
    verification: Verification, scan: Scan, digests: list[bytes], inventory: Inventory, damaged: set[bytes]
) -> tuple[Verification, Matching]:
    """Compare the images with the cache; return the differences, and the embedded images of stored content."""
    present = {image.path for image in scan.images}
    vanished: dict[bytes, list[StoredImage]] = {}
    for path, stored in inventory.by_path.items():
        if path not in present:
            vanished.setdefault(stored.digest, []).append(stored)
    unchanged, matching = 0, []
    added, changed, moved = [], [], []
    for image, digest in zip(scan.images, digests, strict=True):
        before = inventory.by_path.get(image.path)
        name = os.fsdecode(image.path)
        if image.path in damaged:
            continue
        if before is not None and before.digest == digest:
            unchanged += 1
            matching.append((image, before))
        elif before is not None:
            changed.append(name)
        elif vanished.get(digest):
            origin = vanished[digest].pop()
            moved.append((os.fsdecode(origin.image.path), name))
            matching.append((image, origin))
        else:
            added.append(name)
    removed = sorted(os.fsdecode(stored.image.path) for rest in vanished.values() for stored in rest)
    removed += sorted(os.fsdecode(path) for path in damaged - present)
    differences: dict[str, Any] = {"added": added, "changed": changed, "moved": moved, "removed": removed}
    verification = replace(verification, images=str(scan.root), unchanged=unchanged, **differences)
    return verification, [(image, stored) for image, stored in matching if stored.row >= 0]


def _embed_again(
    verification: Verification,
    scan: Scan,
    sample: Matching,
    inventory: Inventory,
    inspection: Inspection,
    engine_name: str,
    weights: str | Path | None,
) -> Verification:
    """Compare stored features with new ones; raise FingerprintError when this machine would make another cache."""
    metadata = inspection.about
    assert metadata is not None  # the cache is complete
    recipe = recipe_of(metadata, weights)
    engine = make_engine(engine_name, recipe)
    name = f"the cache {display(str(inspection.path))}"
    require_same_fingerprint(metadata.fingerprint, recipe.fingerprint(engine.hashes), name, metadata.provenance)
    stored = inventory.gather([item for _, item in sample], FEATURES)
    allowed = allowed_difference(stored, recipe.precision)
    session = engine.session()
    differences: dict[str, float] = {}
    identical = 0
    for (image, item), expected in zip(sample, stored, strict=True):
        try:
            data, _ = read_image(scan.root, image)
        except ImageError:
            data = b""
        if hashlib.sha256(data).digest() != item.digest:
            continue  # it was removed or changed since its digest was computed
        recipe.decode_into(session.slot(0), data)
        features = session.run(1)[0]
        differences[os.fsdecode(image.path)] = float(np.abs(features - expected).max())
        identical += bool((features == expected).all())
    return replace(
        verification,
        sampled=len(differences),
        identical=identical,
        largest_difference=max(differences.values(), default=0.0),
        allowed_difference=allowed,
        differing=[path for path, value in differences.items() if not value <= allowed],  # also NaN
    )
