"""The images of a cache in their folder."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache, display, kind_of_path
from ...errors import ImageError, ImageFolderError
from ...extract import ImageFile, read_image


def image_folder(cache: FeatureCache, images: Path | str | None = None) -> Path:
    """Return the folder of a cache's images: the given one, or else the one that was embedded."""
    return Path(images if images is not None else cache.provenance.get("image_root", ""))


def require_folder(images: Path | str) -> Path:
    """Return a path of the user, or raise ImageFolderError if it is neither a folder nor an archive of images."""
    kind = kind_of_path(images)
    if kind not in ("a folder", "a folder of results", "an archive"):
        what = f"is {kind or 'a file'}" if os.path.exists(images) else "does not exist"
        raise ImageFolderError(
            f"parameter images must be the image folder or archive of the cache, got {display(str(images))}, "
            f"which {what}"
        )
    return Path(images)


def evenly_spaced_indices(total: int, count: int) -> npt.NDArray[np.intp]:
    """Return up to ``count`` evenly spaced indices below ``total``, in order: intp."""
    return np.linspace(0, total - 1, min(count, total)).astype(np.intp)


def first_of_each(groups: npt.NDArray[np.integer]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the index at which each group occurs first, in order, and how often it occurs: intp, shape (g,)."""
    _, firsts, counts = np.unique(groups, return_index=True, return_counts=True)
    order = np.argsort(firsts)
    return firsts[order].astype(np.intp), counts[order].astype(np.intp)


def read_unchanged(cache: FeatureCache, root: Path, row: int) -> bytes:
    """Return the content of an image's file, or raise ImageError if it is missing or has other content."""
    image = ImageFile(os.fsencode(cache.paths[row]), int(cache.files.sizes[row]), int(cache.files.mtimes[row]))
    data, _ = read_image(root, image)
    if hashlib.sha256(data).digest() != cache.files.hashes[row].tobytes():
        raise ImageError("has changed since it was embedded")
    return data
