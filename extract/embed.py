"""The inner loop: threads that read, hash, decode and embed, and one collector that commits."""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import stat
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..cache import HASH_BYTES, display
from ..errors import ImageError, ImageFolderError, OutOfMemoryError, first_line
from .archives import find_archive
from .decoding import Pixels, ignores_palette, is_dark_of_16_bits, was_reduced
from .engines import Engine, Session
from .file_facts import file_facts
from .image_signature import signature_and_color
from .options import STORED
from .orientation import orientation_of
from .plan import StoredImage
from .recipe import Recipe
from .scan import ImageFile

SLICE_IMAGES = 8  # images that a worker takes at once, so that the threads rarely wait for the lock
SEGMENT_ROWS = 512
_PATIENCE = 0.3
"""Seconds that an interrupt waits for images in work; one of 50 megapixels can take several."""
SEGMENT_SECONDS = 10.0  # a slow machine commits by the clock, so that a crash loses little
MAX_BYTES = 1 << 30
"""Larger files are rejected unread; an image of 50 megapixels has at most 400 MB when it is not compressed."""
ODDITIES = ("palette", "turned", "dark", "large")
"""An ignored palette, an ignored EXIF orientation, 16 bits of which less than a quarter of the range is used, and a
JPEG file that was reduced."""
_ATTEMPTS = 4


@dataclass(slots=True)
class EmbedResult:
    """Result for one image: ``features``, ``copy_of`` (a stored row) or ``reason`` (of a reject) is set."""

    image: ImageFile  # with the size and time of the read
    digest: bytes  # SHA-256; zeros for an unreadable file
    features: npt.NDArray[np.float32] | None = None  # shape (d,)
    signature: npt.NDArray[np.uint8] | None = None  # shape (784,), set with the features
    copy_of: StoredImage | None = None
    reason: str = ""
    oddities: tuple[str, ...] = ()  # of `ODDITIES`, by which its pixels may be others than the user thinks
    facts: npt.NDArray[np.uint8] | None = None  # shape (35,), set with the features

    @property
    def flags(self) -> int:
        """The oddities as bits; of a copy, those of the stored image."""
        if self.copy_of is not None:
            return self.copy_of.oddities
        return sum(1 << ODDITIES.index(name) for name in self.oddities)


class KnownContent(Protocol):
    """Rows by content: a dict, or its counterpart on a worker of a cluster."""

    def get(self, digest: bytes, /) -> StoredImage | None:
        """Return a row of the content with this SHA-256, or None."""


@contextlib.contextmanager
def _quiet_decoders() -> Iterator[None]:
    """Silence warnings about damaged files, which say nothing that a rejection does not say."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(PIL|pydicom|pillow_heif)\b")
        yield


@_quiet_decoders()
def embed_images(
    root: Path,
    images: list[ImageFile],
    content: KnownContent,
    recipe: Recipe,
    engine: Engine,
    workers: int,
    commit: Callable[[list[EmbedResult]], None],
    advance: Callable[[int], None],
) -> None:
    """Embed images in ``workers`` threads, each with its own session, and commit the results in segments."""
    # content has the rows that are copied instead of computed. commit runs in the calling thread; when that is
    # interrupted, the workers finish their current image, if that is soon, and the results are committed first.
    pending, lock = iter(images), threading.Lock()
    done: queue.SimpleQueue[list[EmbedResult] | BaseException | None] = queue.SimpleQueue()
    stop = threading.Event()

    def take(count: int) -> list[ImageFile]:
        with lock:
            return list(islice(pending, count))

    def work(session: Session) -> None:
        try:
            size = max(session.batch_size, SLICE_IMAGES)
            while not stop.is_set() and (part := take(size)):
                done.put(_embed_slice(root, part, content, recipe, session, stop))
            done.put(None)
        except BaseException as error:  # handed to the calling thread, which raises it
            done.put(error)

    count = max(1, min(workers, len(images)))
    threads = [threading.Thread(target=work, args=(engine.session(),), daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    collected: list[EmbedResult] = []
    try:
        last = time.monotonic()
        running = len(threads)
        while running:
            item = done.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                running -= 1
                continue
            collected += item
            advance(len(item))
            if len(collected) >= SEGMENT_ROWS or time.monotonic() - last >= SEGMENT_SECONDS:
                part, collected = collected, []
                commit(part)
                last = time.monotonic()
    finally:
        stop.set()
        deadline = time.monotonic() + _PATIENCE
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        while not done.empty():
            item = done.get()
            if isinstance(item, list):
                collected += item
        if collected:
            commit(collected)


def _embed_slice(
    root: Path, images: list[ImageFile], content: KnownContent, recipe: Recipe, session: Session, stop: threading.Event
) -> list[EmbedResult]:
    results: list[EmbedResult] = []
    waiting: list[EmbedResult] = []

    def run() -> None:
        for result, row in zip(waiting, _run(session, len(waiting)), strict=True):
            if isinstance(row, Exception):
                result.reason = f"cannot be embedded: {first_line(row)}"
            elif np.isfinite(row).all():
                result.features = row
            else:
                result.reason = "its features are not finite numbers"
        waiting.clear()

    for image in images:
        if stop.is_set():
            break
        try:
            data, image = read_image(root, image)
        except ImageError as error:
            results.append(EmbedResult(image, bytes(HASH_BYTES), reason=str(error)))
            continue
        except Exception as error:  # one image never stops a run
            results.append(EmbedResult(image, bytes(HASH_BYTES), reason=f"cannot be read: {first_line(error)}"))
            continue
        result = EmbedResult(image, hashlib.sha256(data).digest())
        results.append(result)
        result.copy_of = content.get(result.digest)
        if result.copy_of is not None:
            result.oddities = _oddities(data, None, recipe)
        else:
            try:
                result.signature, result.facts, result.oddities = _fill(session.slot(len(waiting)), data, recipe)
            except ImageError as error:
                result.reason = str(error)
                continue
            except MemoryError as error:
                raise OutOfMemoryError(
                    f"there is not enough memory for {display(image.path)}. Close other programs or use fewer workers, "
                    "and run the same command again. Finished work is kept"
                ) from error
            except Exception as error:
                result.reason = f"cannot be embedded: {first_line(error)}"
                continue
            waiting.append(result)
            if len(waiting) == session.batch_size:
                run()
    if waiting:
        run()
    return results


def _run(session: Session, count: int) -> Sequence[npt.NDArray[np.float32] | Exception]:
    """Return the features, or the error, of each image in the first slots; the error of a broken engine is raised."""
    try:
        return list(session.run(count))
    except MemoryError:
        raise
    except Exception:  # one image never stops a run
        inputs = [session.slot(position).copy() for position in range(count)]
        session.slot(0)[:] = 0
        session.run(1)  # fails if the fault is not of an image
    rows: list[npt.NDArray[np.float32] | Exception] = []
    for pixels in inputs:
        session.slot(0)[:] = pixels
        try:
            rows.append(session.run(1)[0])
        except MemoryError:
            raise
        except Exception as error:
            rows.append(error)
    return rows


def _oddities(data: bytes, pixels: Pixels | None, recipe: Recipe) -> tuple[str, ...]:
    """Return which of `ODDITIES` an image has; without pixels, those that its header shows."""
    turned = recipe.images.orientation == STORED and orientation_of(data) != 1
    dark = pixels is not None and recipe.images.value_range == STORED and is_dark_of_16_bits(data, pixels)
    found = (ignores_palette(data), turned, dark, was_reduced(data))
    return tuple(name for name, has in zip(ODDITIES, found, strict=True) if has)


def _fill(
    slot: npt.NDArray[np.float32], data: bytes, recipe: Recipe
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], tuple[str, ...]]:
    """Put an image into a slot and return its signature, facts and oddities; the caller keeps no reference to it."""
    pixels = recipe.decode_into(slot, data)
    luma, color = signature_and_color(slot)
    return luma, file_facts(data, color), _oddities(data, pixels, recipe)


def read_image(root: Path, image: ImageFile) -> tuple[bytes, ImageFile]:
    """Read one consistent state of a file; return its bytes and their size and time, or raise ImageError."""
    path = os.path.join(os.fsencode(root), image.path)
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # a pipe must not block
    earlier = None
    for _ in range(_ATTEMPTS):
        try:
            file = os.open(path, flags)
            try:
                before = os.fstat(file)
                if not stat.S_ISREG(before.st_mode):
                    raise ImageError("not a regular file")
                if before.st_size > MAX_BYTES:
                    raise ImageError(f"too large: {before.st_size} bytes, the limit is {MAX_BYTES}")
                data = _read_all(file, before.st_size)
                after = os.fstat(file)
            finally:
                os.close(file)
        except OSError as error:
            if (archived := _read_from_archive(path, image.path)) is not None:
                return archived
            raise ImageError(f"cannot be read: {error.strerror}") from error
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or len(data) != after.st_size:
            continue
        wait = _seconds_until_time_is_reliable(after.st_mtime_ns)
        if wait <= 0 or data == earlier:
            return data, ImageFile(image.path, after.st_size, after.st_mtime_ns)
        earlier = data
        time.sleep(wait)
    raise ImageError("changes while it is read")


def _read_from_archive(path: bytes, name: bytes) -> tuple[bytes, ImageFile] | None:
    try:
        archive, inside = find_archive(path) or (None, b"")
    except ImageFolderError as error:
        raise ImageError(f"cannot be read: {first_line(error)}") from error
    if archive is None:
        return None
    data = archive.read(inside)
    member = archive.images[inside]
    return data, ImageFile(name, member.size, member.mtime)


def _read_all(file: int, size: int) -> bytes:
    """Read a file of this size in one call; read one byte more, at least, of a file that has grown."""
    data = os.read(file, size + 1)
    if len(data) in (0, size):
        return data
    parts, length = [data], len(data)
    while length <= size and (data := os.read(file, 1 << 20)):
        parts.append(data)
        length += len(data)
    return b"".join(parts)


def _seconds_until_time_is_reliable(mtime: int) -> float:
    """Return for how many seconds a file can still change under the same modification time."""
    # time stamps have steps of some milliseconds, on memory cards of two seconds
    step = 2.0 if mtime % 1_000_000_000 == 0 else 0.02
    age = time.time() - mtime / 1e9
    return step - age if -step < age < step else 0.0
