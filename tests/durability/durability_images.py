"""Images with a known answer: tiny real PNG files, a cheap stand-in for the backbone, and the oracle.

The oracle is a plain dict from path to `Picture`. What a cache must hold follows from it alone: features are
computed here from the picture's bytes, never taken from a run.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple
from unittest import mock

import numpy as np
import numpy.typing as npt
from embedonce.cache import FeatureCache
from embedonce.cache.partial import PartialRun
from embedonce.extract import embed
from embedonce.extract import run as extract_run
from embedonce.extract.decoding import decode
from embedonce.extract.image_signature import signature
from embedonce.extract.report import ExtractionReport
from embedonce.extract.resizing import resize
from PIL import Image

SIZE = 32
WIDTH = 48
SEGMENT_ROWS = 4
SHARD_ROWS = 8
WEIGHTS = "0" * 64
EMPTY, NONSENSE = -1, -2
_REJECTS = {EMPTY: (b"", "the file is empty"), NONSENSE: (b"text", "not an image of a known format")}
_FACTORS = np.random.default_rng(7).uniform(-1, 1, SIZE * SIZE * 3).astype(np.float32)


class Picture(NamedTuple):
    """A picture: the number decides the content, the tick the modification time."""

    number: int
    tick: int = 0

    @property
    def content(self) -> bytes:
        """The bytes of the file; numbers below 0 are files that cannot be embedded."""
        return content(self.number)

    @property
    def mtime(self) -> int:
        """In nanoseconds. Another content has another time, as an edited file has."""
        return 1_600_000_000_000_000_000 + self.tick * 1_000_000_000 + (self.number + 2) * 1_000


Images = dict[str, Picture]


def pictures(numbers: range | list[int], classes: int = 3) -> Images:
    """Return images of these numbers, spread over a few classes."""
    return {f"{'abc'[number % classes]}/{number:03d}.png": Picture(number) for number in numbers}


@lru_cache(maxsize=4096)
def content(number: int) -> bytes:
    """Return the bytes of the picture of a number."""
    if number < 0:
        return _REJECTS[number][0]
    pixels = np.random.default_rng(number).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


@lru_cache(maxsize=4096)
def digest(number: int) -> bytes:
    """Return the SHA-256 of the picture of a number."""
    return hashlib.sha256(content(number)).digest()


@lru_cache(maxsize=4096)
def feature_row(number: int) -> npt.NDArray[np.float32]:
    """Return the features that the picture of a number must get."""
    return project(resize(decode(content(number)), SIZE))


@lru_cache(maxsize=4096)
def signature_row(number: int) -> npt.NDArray[np.uint8]:
    """Return the signature that the picture of a number must get."""
    return signature(resize(decode(content(number)), SIZE))


def project(pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the stand-in's features of an image; they differ for different pixels."""
    row: npt.NDArray[np.float32] = (pixels.reshape(-1) * _FACTORS).reshape(-1, WIDTH).sum(axis=0)
    return row


def write_images(folder: Path, images: Images) -> None:
    """Make a folder hold exactly these images."""
    wanted = {folder / path: picture for path, picture in images.items()}
    for path in list(folder.rglob("*")):
        if path.is_file() and path not in wanted:
            path.unlink()
    for path, picture in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.stat().st_mtime_ns != picture.mtime:
            path.write_bytes(picture.content)
            os.utime(path, ns=(picture.mtime, picture.mtime))


def difference(cache: FeatureCache, images: Images) -> str:
    """Return the first difference between a cache and the expected one, or nothing.

    Raises
    ------
    CacheError
        When features or signatures cannot be read.
    """
    paths = sorted(images, key=os.fsencode)
    rows = [path for path in paths if images[path].number >= 0]
    rejects = [path for path in paths if images[path].number < 0]
    names = sorted({path.partition("/")[0] for path in paths}, key=os.fsencode)
    expected_labels = [names.index(path.partition("/")[0]) for path in rows]
    features = np.stack([feature_row(images[path].number) for path in rows])
    signatures = np.stack([signature_row(images[path].number) for path in rows])
    hashes = b"".join(digest(images[path].number) for path in rows)
    checks: list[tuple[str, Callable[[], bool]]] = [
        ("paths", lambda: cache.paths == rows),
        ("class names", lambda: cache.class_names == names),
        ("labels", lambda: cache.labels.tolist() == expected_labels),
        ("sizes", lambda: cache.files.sizes.tolist() == [len(images[path].content) for path in rows]),
        ("times", lambda: cache.files.mtimes.tolist() == [images[path].mtime for path in rows]),
        ("hashes", lambda: cache.files.hashes.tobytes() == hashes),
        ("rejects", lambda: cache.rejects == [(path, _REJECTS[images[path].number][1]) for path in rejects]),
        ("features", lambda: np.array_equal(cache.features, features)),
        ("signatures", lambda: np.array_equal(cache.signatures, signatures)),
    ]
    return next((name for name, is_right in checks if not is_right()), "")


def read(path: Path) -> FeatureCache:
    """Open a cache and read all of it, as a reader would."""
    with FeatureCache.open(path) as cache:
        _ = cache.features, cache.signatures
        return cache


@dataclass
class Watch:
    """Events of a run.

    Attributes
    ----------
    passes : list of int
        Number of the picture of every forward pass.
    acknowledge : callable, optional
        Called with the numbers of the rows that a commit has acknowledged.
    delay : float
        Seconds that a forward pass takes.
    times : list of float
        Monotonic times at which the run certainly held the writer's lock.
    """

    passes: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    acknowledge: Callable[[list[int]], None] | None = None
    delay: float = 0.0


class _Session:
    """The stand-in's session: one slot, a projection."""

    batch_size = 1

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._slot = np.zeros((SIZE, SIZE, 3), np.float32)

    def slot(self, position: int) -> npt.NDArray[np.float32]:
        assert position == 0
        return self._slot

    def run(self, count: int) -> npt.NDArray[np.float32]:
        time.sleep(self._watch.delay)
        row = project(self._slot)
        self._watch.passes.append(_numbers_of_rows()[row.tobytes()])
        return np.repeat(row[None], count, axis=0)


class _Engine:
    """The stand-in engine."""

    name = "litert"
    hashes: ClassVar = {"weights_sha256": WEIGHTS}

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def versions(self) -> dict[str, str]:
        return {"stand-in": "1"}

    def session(self) -> _Session:
        return _Session(self._watch)

    def default_workers(self) -> int:
        return 1


KNOWN_NUMBERS = 400


@lru_cache(maxsize=1)
def _numbers_of_rows() -> dict[bytes, int]:
    return {feature_row(number).tobytes(): number for number in range(KNOWN_NUMBERS)}


@lru_cache(maxsize=1)
def _numbers_of_digests() -> dict[bytes, int]:
    return {digest(number): number for number in range(NONSENSE, KNOWN_NUMBERS)}


@contextlib.contextmanager
def stand_in(watch: Watch, shard_rows: int = SHARD_ROWS) -> Iterator[None]:
    """Put the stand-in engine in the backbone's place and make segments and shards small."""
    commit = PartialRun.commit

    def watched(self: PartialRun, *arguments: Any, **options: Any) -> Any:
        result = commit(self, *arguments, **options)
        watch.times.append(time.monotonic())
        if watch.acknowledge is not None:
            table = next(item for item in (*arguments, *options.values()) if hasattr(item, "files"))
            hashes = [*table.files.hashes, *table.rejects.hashes]
            watch.acknowledge([_numbers_of_digests()[row.tobytes()] for row in hashes])
        return result

    def make_engine(*_: object) -> _Engine:
        return _Engine(watch)

    def known_hashes(_: object) -> dict[str, str]:
        watch.times.append(time.monotonic())
        return _Engine.hashes

    with contextlib.ExitStack() as patches:
        patches.enter_context(mock.patch.object(PartialRun, "commit", watched))
        patches.enter_context(mock.patch.object(extract_run, "make_engine", make_engine))
        patches.enter_context(mock.patch.object(extract_run, "known_hashes", known_hashes))
        patches.enter_context(mock.patch.object(extract_run, "version", return_value="1"))
        patches.enter_context(mock.patch.object(embed, "SEGMENT_ROWS", SEGMENT_ROWS))
        patches.enter_context(mock.patch.object(embed, "SLICE_IMAGES", 1))
        patches.enter_context(mock.patch("embedonce.extract.run.SHARD_ROWS", shard_rows))
        yield


def update(images: Path, cache: Path, watch: Watch | None = None, shard_rows: int = SHARD_ROWS) -> ExtractionReport:
    """Bring a cache up to date as ``embedonce extract`` does, with the stand-in engine."""
    with stand_in(watch or Watch(), shard_rows):
        updated = extract_run.extract_features(
            images, cache, weights="random:0", alpha=0.35, image_size=SIZE, workers=1, progress=False
        )
        report: ExtractionReport = updated.report
        return report
