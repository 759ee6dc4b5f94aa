"""What an extraction has to do: the folder as it is, against the rows that are known already."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ..cache.reader import FeatureCache
from ..cache.table import Features, Files
from .scan import ImageFile, Scan


@dataclass(frozen=True, slots=True)
class Known:
    """An image that an earlier run dealt with.

    Attributes
    ----------
    image : ImageFile
        As it was then.
    digest : bytes
        SHA-256 of its content.
    source, row : int
        Where its features stand; ``row`` is -1 for a reject.
    reason : str
        Of a reject.
    """

    image: ImageFile
    digest: bytes
    source: int
    row: int
    reason: str = ""


class Inventory:
    """All rows at hand: those of the published cache and of committed segments, later ones winning."""

    def __init__(self) -> None:
        self.by_path: dict[bytes, Known] = {}
        self.by_digest: dict[bytes, Known] = {}
        self._sources: list[FeatureCache | Features] = []

    def add_cache(self, cache: FeatureCache) -> None:
        """Add what a cache file holds; its features are read when a row is first asked for."""
        self._sources.append(cache)
        self._add(cache.files, cache.reject_files, [reason for _, reason in cache.rejects])

    def add_rows(self, files: Files, features: Features, rejects: Files, reasons: list[str]) -> None:
        """Add rows that have just been committed."""
        self._sources.append(features)
        self._add(files, rejects, reasons)

    def features_of(self, source: int) -> Features:
        """Return the matrix that ``Known.source`` points to."""
        matrix = self._sources[source]
        return matrix.features if isinstance(matrix, FeatureCache) else matrix

    def _add(self, files: Files, rejects: Files, reasons: list[str]) -> None:
        source = len(self._sources) - 1
        for row, (image, digest) in enumerate(_images(files)):
            known = Known(image, digest, source, row)
            self.by_path[image.path] = self.by_digest[digest] = known
        for (image, digest), reason in zip(_images(rejects), reasons, strict=True):
            self.by_path[image.path] = Known(image, digest, source, -1, reason)


def _images(files: Files) -> Iterable[tuple[ImageFile, bytes]]:
    columns = zip(files.paths, files.sizes.tolist(), files.mtimes.tolist(), files.hashes, strict=True)
    return ((ImageFile(path, size, mtime), digest.tobytes()) for path, size, mtime, digest in columns)


@dataclass
class Plan:
    """What to do with every image of a scan.

    Attributes
    ----------
    unchanged : list of Known
        Same path, size and modification time as before.
    todo : list of ImageFile
        New, or different in size or time.
    gone : set of bytes
        Known paths that the folder no longer has.
    """

    unchanged: list[Known] = field(default_factory=list)
    todo: list[ImageFile] = field(default_factory=list)
    gone: set[bytes] = field(default_factory=set)


def make_plan(scan: Scan, inventory: Inventory) -> Plan:
    """Compare a scan with what is known."""
    plan = Plan()
    for image in scan.images:
        known = inventory.by_path.get(image.path)
        if known is not None and known.image == image:
            plan.unchanged.append(known)
        else:
            plan.todo.append(image)
    plan.gone = set(inventory.by_path) - {image.path for image in scan.images}
    return plan
