"""Families of values of an image and its file that hold no object."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache, counted, display
from ...errors import ImageError
from ...extract import SIGNATURE_SIZE, FileHeader, ImageFile, read_header
from ..shared import evenly_spaced_indices, image_folder

_FREQUENT = 16  # values of a text that get a column
_THREADS = 4
_TRIED = 30  # images that are read first
_BLOCK = 8192
_THUMBNAIL = 8
_STRIPS = 7  # parts of each side of the border

CONTENT = ("mean brightness", "8 x 8 thumbnail")
"""Families that an object in the middle of an image has a part in."""

Rows = npt.NDArray[np.intp]
Values = npt.NDArray[np.float32]


@dataclass
class Families:
    """Values of each family for some rows, float32, shape (m, d); names of those that are equal for all rows."""

    values: dict[str, Values] = field(default_factory=dict)
    constant: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)  # sentences

    def add(self, name: str, *columns: npt.NDArray[Any]) -> None:
        """Add a family of columns of shape (m,) or (m, d)."""
        values = np.column_stack(columns).astype(np.float32)
        if values.size and np.ptp(values, axis=0).any():
            self.values[name] = values
        else:
            self.constant.append(name)


def families_of(cache: FeatureCache, rows: Rows) -> Families:
    """Return all families of rows of a cache: of its files' headers, of their sizes, and of its signatures."""
    families = Families()
    _add_files(families, cache, rows)
    _add_pictures(families, cache, rows)
    return families


def _add_files(families: Families, cache: FeatureCache, rows: Rows) -> None:
    if "image_size" not in cache.fingerprint:
        families.left_out.append("The features were not made from image files, so there is nothing about files.")
        return
    sizes = np.log(np.maximum(cache.files.sizes[rows], 1))
    headers, reason = _read_headers(cache, rows)
    if reason:
        suffixes = [os.path.splitext(cache.paths[row])[1].lower() for row in rows.tolist()]
        families.add("file format", _one_hot(suffixes))
        families.add("file size", sizes)
        families.left_out.append(f"Of the files, only their sizes and suffixes are known: {reason}.")
        return
    formats, widths, heights, tables, encodings, cameras, software = zip(*headers, strict=True)
    families.add("file format", _one_hot(formats))
    if all(widths) and all(heights):
        width, height = np.log(widths), np.log(heights)
        families.add("image size and aspect", width, height, width + height, width - height)
    else:
        unknown = Counter(header.format for header in headers if not header.width)
        kinds = ", ".join(f"{count:,} {display(kind)}" for kind, count in unknown.most_common())
        families.left_out.append(f"The image sizes are left out, because some files do not say them first: {kinds}.")
    families.add("JPEG quantisation tables", _one_hot(tables), *_levels(tables))
    families.add("chroma subsampling and colour type", _one_hot(encodings))
    families.add("camera and software", _one_hot(cameras), _one_hot(software))
    families.add("file size", sizes)
    if all(widths) and all(heights) and np.ptp(width + height):  # otherwise it is the file size
        families.add("bytes per pixel", sizes - width - height)


def _read_headers(cache: FeatureCache, rows: Rows) -> tuple[list[FileHeader], str]:
    """Return the headers of the files of rows, or the reason why they are not known."""
    root = image_folder(cache)
    if not cache.provenance.get("image_root") or not root.exists():
        return [], "the images are gone"
    if root.suffix.lower() in (".gz", ".tgz"):
        return [], "the archive would have to be unpacked"

    def read(row: int) -> FileHeader | None:
        try:
            return read_header(root, ImageFile(os.fsencode(cache.paths[row]), int(cache.files.sizes[row]), 0))
        except ImageError:
            return None

    if None in map(read, rows[evenly_spaced_indices(len(rows), _TRIED)].tolist()):
        return [], "images are gone, have changed or cannot be read"
    with ThreadPoolExecutor(_THREADS) as pool:
        headers = list(pool.map(read, rows.tolist()))
    known = [header for header in headers if header is not None]
    missing = len(headers) - len(known)
    # which images are missing may depend on the class, so the others would not do
    return known, counted(missing, "image(s) (is|are) gone, (has|have) changed or cannot be read") if missing else ""


def _add_pictures(families: Families, cache: FeatureCache, rows: Rows) -> None:
    signatures = cache.signatures_of(rows)
    if signatures is None:
        families.left_out.append("There are no signatures, so border, brightness and thumbnail are left out.")
        return
    parts = [_of_signatures(signatures[start : start + _BLOCK]) for start in range(0, len(rows), _BLOCK)]
    border, brightness, thumbnail = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    families.add("border", border)
    families.add(CONTENT[0], brightness)
    families.add(CONTENT[1], thumbnail)
    families.left_out.append("The cache has the brightness of images, not their colours.")


def _of_signatures(signatures: npt.NDArray[np.uint8]) -> tuple[Values, Values, Values]:
    images = signatures.reshape(-1, SIGNATURE_SIZE, SIGNATURE_SIZE).astype(np.float32)
    sides = np.stack([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], axis=1)
    border = sides.reshape(len(images), 4 * _STRIPS, -1).mean(axis=2)
    shrink = _area_weights()
    thumbnail = np.asarray(shrink @ images @ shrink.T, np.float32).reshape(len(images), -1)
    return border, images.mean(axis=(1, 2))[:, None], thumbnail


def _area_weights() -> Values:
    """Return the matrix that averages 28 pixels over 8 areas; some pixels are in two of them."""
    edges = np.linspace(0, SIGNATURE_SIZE, _THUMBNAIL + 1)
    pixels = np.arange(SIGNATURE_SIZE)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    weights: Values = (np.maximum(overlap, 0) * _THUMBNAIL / SIGNATURE_SIZE).astype(np.float32)
    return weights


def _one_hot(texts: Sequence[str]) -> Values:
    """Return a column for each of the most frequent texts, shape (m, c)."""
    frequent = [text for text, _ in Counter(texts).most_common(_FREQUENT)]
    codes = {text: number for number, text in enumerate(frequent)}
    columns = np.zeros((len(texts), len(frequent) + 1), np.float32)
    columns[np.arange(len(texts)), [codes.get(text, len(frequent)) for text in texts]] = 1
    return columns


def _levels(tables: Sequence[str]) -> list[npt.NDArray[np.float64]]:
    """Return the logarithm of the sums of the first two quantisation tables of each file, 0 without."""
    sums = {text: [sum(bytes.fromhex(one)) for one in [*text.split(","), "", ""][:2]] for text in set(tables)}
    return [np.log1p([sums[text][place] for text in tables]) for place in (0, 1)]
