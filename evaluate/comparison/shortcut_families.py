"""Families of values of an image and its file that hold no object."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache, counted, display
from ...errors import ImageError
from ...extract import FACTS, SIGNATURE_SIZE, FileHeader, ImageFile, facts_of_headers, read_header
from ..shared import evenly_spaced_indices, image_folder

_FREQUENT = 16  # values of a text that get a column
_THREADS = 4
_TRIED = 30  # images that are read first
_BLOCK = 8192
_THUMBNAIL = 8
_STRIPS = 7  # parts of each side of the border

CONTENT = ("mean brightness", "mean colour", "8 x 8 thumbnail")
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
    stored = cache.files.facts[rows]
    known = bool(stored.any(axis=1).all())  # an earlier extraction stored none
    _add_files(families, cache, rows, stored.view(FACTS)[:, 0] if known else None)
    _add_pictures(families, cache, rows, stored.view(FACTS)["color"][:, 0] if known else None)
    return families


def _add_files(families: Families, cache: FeatureCache, rows: Rows, facts: npt.NDArray[np.void] | None) -> None:
    if "image_size" not in cache.fingerprint:
        families.left_out.append("The features were not made from image files, so there is nothing about files.")
        return
    sizes = np.log(np.maximum(cache.files.sizes[rows], 1))
    if facts is None:
        headers, reason = _read_headers(cache, rows)
        facts = facts_of_headers(headers) if not reason else None
    if facts is None:
        suffixes = [os.path.splitext(cache.paths[row])[1].lower() for row in rows.tolist()]
        families.add("file format", _one_hot(suffixes))
        families.add("file size", sizes)
        families.left_out.append(f"Of the files, only their sizes and suffixes are known: {reason}.")
        return
    families.add("file format", _one_hot(facts["format"].tolist()))
    sized = bool(facts["width"].all() and facts["height"].all())
    if sized:
        width, height = np.log(facts["width"]), np.log(facts["height"])
        families.add("image size and aspect", width, height, width + height, width - height)
    else:
        unknown = Counter(os.path.splitext(cache.paths[row])[1].lower() for row in rows[facts["width"] == 0].tolist())
        kinds = ", ".join(f"{count:,} {display(kind)}" for kind, count in unknown.most_common())
        families.left_out.append(f"The image sizes are left out, because some files do not say them first: {kinds}.")
    tables, levels = facts["tables"].tolist(), np.log1p(facts["quantization"])
    families.add("JPEG quantisation tables", _one_hot(tables), levels)
    families.add("chroma subsampling and colour type", _one_hot(facts["encoding"].tolist()))
    families.add("camera and software", _one_hot(facts["camera"].tolist()), _one_hot(facts["software"].tolist()))
    families.add("file size", sizes)
    if sized and np.ptp(width + height):  # otherwise it is the file size
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


def _add_pictures(families: Families, cache: FeatureCache, rows: Rows, color: npt.NDArray[np.uint8] | None) -> None:
    signatures = cache.signatures_of(rows)
    if signatures is None:
        families.left_out.append("There are no signatures, so border, brightness and thumbnail are left out.")
        return
    parts = [_of_signatures(signatures[start : start + _BLOCK]) for start in range(0, len(rows), _BLOCK)]
    border, brightness, thumbnail = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    families.add("border", border)  # its colour is that of the tissue, in histology
    if color is None:
        families.add(CONTENT[0], brightness)
        families.left_out.append("The cache has the brightness of images, not their colours.")
    else:
        families.add(CONTENT[1], color)
    families.add(CONTENT[2], thumbnail)


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


def _one_hot(values: Sequence[Hashable]) -> Values:
    """Return a column for each of the most frequent values, shape (m, c)."""
    frequent = [value for value, _ in Counter(values).most_common(_FREQUENT)]
    codes = {value: number for number, value in enumerate(frequent)}
    columns = np.zeros((len(values), len(frequent) + 1), np.float32)
    columns[np.arange(len(values)), [codes.get(value, len(frequent)) for value in values]] = 1
    return columns
