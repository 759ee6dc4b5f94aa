"""Reader of training images: decoded as for the extraction, at the backbone's size, and augmented."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache, display
from ...errors import ImageError
from ...extract import VIEW_TRANSFORMS, VIEWS, cpu_count, decoder_of
from ..shared import read_unchanged

Indices = npt.NDArray[np.intp]
Pixels = npt.NDArray[np.float32]

AUGMENTATIONS = {name: 1 + len(views) for name, views in VIEWS.items()}
"""Names, and how many views of an image each has, the image itself among them."""

_TURNS = tuple(VIEW_TRANSFORMS.values())
_AHEAD = 2  # batches that are read while one is trained on


class ImageReader:
    """Reads images of a cache at the backbone's size, as they were read to be embedded; a context manager."""

    def __init__(self, cache: FeatureCache, root: Path) -> None:
        self._cache = cache
        self._root = root
        self._decode = decoder_of(cache.fingerprint)
        self._side = int(cache.fingerprint["image_size"])
        self._threads = ThreadPoolExecutor(cpu_count())

    def __enter__(self) -> ImageReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self._threads.shutdown(cancel_futures=True)

    def whole(self, row: int) -> npt.NDArray[np.uint8]:
        """Return an image in its own size: uint8, shape (height, width, 3)."""
        try:
            return self._decode(read_unchanged(self._cache, self._root, row))
        except ImageError as error:
            raise ImageError(
                f"the image {display(self._cache.paths[row])} in {display(str(self._root))}: {error}; bring it back, "
                "or run embedonce extract again and train on what is there"
            ) from error

    def batches(self, rows: Indices, size: int, views: Indices | None = None) -> Iterator[tuple[Indices, Pixels]]:
        """Yield positions in ``rows``, intp (b,), and these images as ``views``: float32 (b, s, s, 3), 0 to 255."""
        starts = range(0, len(rows), size)
        waiting: deque[tuple[Indices, Pixels, list[Future[None]]]] = deque()

        def ask(start: int) -> None:
            places = np.arange(start, min(start + size, len(rows)))
            out = np.empty((len(places), self._side, self._side, 3), np.float32)
            view = np.zeros(len(places), np.intp) if views is None else views[places]
            jobs = [
                self._threads.submit(self._read_into, out[number], int(rows[place]), int(view[number]))
                for number, place in enumerate(places)
            ]
            waiting.append((places, out, jobs))

        for number in range(len(starts) + _AHEAD):
            if number < len(starts):
                ask(starts[number])
            if number >= _AHEAD and waiting:
                places, out, jobs = waiting.popleft()
                for job in jobs:
                    job.result()
                yield places, out

    def _read_into(self, out: Pixels, row: int, view: int) -> None:
        self._decode.resize_into(out, self.whole(row))
        if view:
            out[:] = _TURNS[view](out.copy())
