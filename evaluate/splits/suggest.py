"""Proposals of groups, such as patients or cameras, from names of files and folders, metadata and EXIF."""

from __future__ import annotations

import io
import os
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache, StoredRows, display, is_missing, open_cache, open_regular, row_blocks
from ...errors import ImageError, check_path
from ...extract import PARTS, ImageFile, read_image
from ..shared import Records, evenly_spaced_indices, image_folder, require_folder
from .groups import Groups
from .similarity import Similarity, similarity_in_groups

_COUNTERS = frozenset(
    {"crop", "file", "frame", "im", "image", "img", "layer", "no", "nr", "number", "page", "patch", "photo", "pic"}
    | {"picture", "slice", "tile", "view", "z"}
)
"""Words whose number counts images, so that equal numbers do not say that images belong together."""
_FEWEST_KEYS = 0.5  # fraction of the images that a pattern must fit
_FEWEST_REPEATED = 0.05  # fraction of the images that must share their group
_MOST_TOKENS = 3  # of words and numbers without a separator between them
_HASH = "*"
_TRIED = 30  # images whose EXIF data are read first
_COLUMNS = 128  # of projected features
_BLOCK = 4096

Keys = list[str | None]
"""The group of every image by a pattern; None for an image that the pattern does not fit."""


@dataclass(frozen=True, eq=False)
class GroupSuggestion:
    """Groups that images may belong to, for the user to confirm.

    Attributes
    ----------
    pattern : str
        The names or values that make the groups.
    example : tuple of str
        Paths of images of one group.
    groups : Groups
        An image that the pattern does not fit is the only one of its group.
    column : str or None
        The column of metadata that has these groups for all images.
    within, across : Similarity or None
        Similarity of images of a group and a class, and of images of a group and different classes; None if there are
        no such pairs of images.
    """

    pattern: str
    example: tuple[str, ...]
    groups: Groups
    column: str | None
    within: Similarity | None
    across: Similarity | None

    @property
    def above_chance(self) -> bool:
        """True if images of a group are more similar than chance."""
        return any(one is not None and one.above_chance for one in (self.within, self.across))

    @property
    def sizes(self) -> npt.NDArray[np.intp]:
        """Numbers of images of the groups of several images."""
        counts = np.bincount(self.groups.ids)
        return counts[counts > 1]

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the groups of the images, JSON-serialisable."""
        sizes = self.sizes
        about: dict[str, Any] = {
            "pattern": self.pattern,
            "example": list(self.example),
            "column": self.column,
            "groups": len(self.groups),
            "groups_of_several": len(sizes),
            "images_in_groups": int(sizes.sum()),
            "median_size": float(np.median(sizes)),
            "largest": int(sizes.max()),
        }
        for name, one in (("within", self.within), ("across", self.across)):
            about |= {
                f"similarity_{name}_classes": None if one is None else one.value,
                f"by_chance_{name}_classes": None if one is None else one.by_chance,
            }
        return about | {"above_chance": self.above_chance}


def suggest_groups(cache: FeatureCache | Path | str, *, images: Path | str | None = None) -> Records[GroupSuggestion]:
    """Propose groups, such as patients or cameras, from file names, folders, metadata and EXIF data.

    The images of a group may belong together, which only you know: confirm a proposal before you use it.

    Parameters
    ----------
    cache : FeatureCache or path-like
    images : path-like, default=None
        Folder or archive of the images, whose EXIF data are read; by default the one that was embedded.

    Returns
    -------
    Records of GroupSuggestion
        Those whose images are more similar than chance come first. The similarity is the cosine of the features after
        the mean of their class is subtracted, and chance is the mean of groups of the same sizes whose images are
        shuffled within each class. Its `notes` say what could not be read.

    Raises
    ------
    CacheError
        If the cache cannot be read.

    See Also
    --------
    find_groups : Find groups of near-duplicates.
    Groups : Images that belong together.

    Examples
    --------
    >>> import embedonce as eo, numpy as np
    >>> paths = [f"{label}/person{number}_{view}.png" for label in "ab" for number in range(9) for view in "xyz"]
    >>> features = np.random.default_rng(0).normal(size=(54, 8))
    >>> cache = eo.FeatureCache.from_arrays(features, ["a"] * 27 + ["b"] * 27, paths=paths)
    >>> eo.suggest_groups(cache)[0].example
    ('a/person0_x.png', 'a/person0_y.png', 'a/person0_z.png')
    """
    opened = open_cache(cache, "suggest_groups")
    folder = None if images is None else require_folder(check_path("images", "suggest_groups", images))
    exif, notes = _exif_keys(opened, folder)
    places = _Places(opened)
    candidates: list[tuple[str, Keys, str | None]] = [
        *((_named("folders", keys), keys, None) for keys in places.folder_levels()),
        *((_named("file names that begin with", keys), keys, None) for keys in places.name_levels()),
        *((f"the number after {word!r} in names", keys, None) for word, keys in places.numbers()),
        *((f"the column {display(name)} of the metadata", keys, name) for name, keys in _columns(opened)),
        *((name, keys, None) for name, keys in exif),
    ]
    features = _projected(opened)
    suggestions: list[GroupSuggestion] = []
    for pattern, keys, column in candidates:
        for about, ids in _partitions(pattern, keys, column, opened, features):
            if not any(_same_groups(keys, ids, other.groups.ids) for other in suggestions):
                suggestions.append(_suggestion(about, keys, ids, column, opened, features))
    pairs = places.all_numbers()
    ids = _ids_of(pairs)
    if _may_be_groups(pairs, ids, opened.labels.astype(np.intp)):
        paired = _suggestion("equal numbers in file names", pairs, ids, None, opened, features)
        inside = any(_count(ids, other.groups.ids) == _count(ids) for other in suggestions if other.above_chance)
        if paired.above_chance and not inside:  # without it, images were numbered in each class
            suggestions.append(paired)
    suggestions.sort(key=lambda one: (not one.above_chance, -_excess(one)))
    result = Records(suggestions)
    result.notes = notes
    return result


class _Places:
    """Names of the images: folders other than those of classes and parts of a split, and the words of file names."""

    def __init__(self, cache: FeatureCache) -> None:
        self.labels = cache.labels.tolist()
        self.folders: list[list[str]] = []
        self.stems: list[str] = []
        for path, label in zip(cache.paths, cache.label_names.tolist(), strict=True):
            *folders, name = path.split("/")
            self.folders.append([part for part in folders if part != label and part.lower() not in PARTS])
            self.stems.append(name.rpartition(".")[0] or name)

    def folder_levels(self) -> Iterator[Keys]:
        """Yield the groups by the folders of each depth."""
        for depth in range(1, max(map(len, self.folders)) + 1):
            yield ["/".join(parts[:depth]) if parts else None for parts in self.folders]

    def name_levels(self) -> Iterator[Keys]:
        """Yield the groups by the beginnings of file names, the shortest first."""
        # names of the same form, such as word-number-number, are cut at the same place, where the beginnings repeat
        tokens = [_tokens(stem) for stem in self.stems]
        ends = [[end for end, _ in of_stem] for of_stem in tokens]
        forms: dict[str, list[int]] = defaultdict(list)
        for row, of_stem in enumerate(tokens):
            forms["".join(kind for _, kind in of_stem)].append(row)
        cuts: dict[str, list[list[str]]] = {}
        for form, rows in forms.items():
            cuts[form] = []
            counts = {len({self.labels[row] for row in rows})}
            for place in range(min(len(ends[row]) for row in rows) - 1):
                keys = [self._key(row, ends[row][place]) for row in rows]
                several = len(set(zip(keys, (self.labels[row] for row in rows), strict=True)))
                if several not in counts and len(set(keys)) < len(rows):
                    cuts[form].append(keys)
                counts.add(several)
        for level in range(max(map(len, cuts.values()))):
            result: Keys = [None] * len(self.stems)
            for form, rows in forms.items():
                if cuts[form]:
                    for row, key in zip(rows, cuts[form][min(level, len(cuts[form]) - 1)], strict=True):
                        result[row] = key
            known = set(result)
            for row, group in enumerate(result):
                if group is None:  # a rare form, whose beginning may be that of others
                    beginnings = [self._key(row, end) for end in reversed(ends[row][:-1])]
                    result[row] = next((text for text in beginnings if text in known), None)
            yield result

    def numbers(self) -> Iterator[tuple[str, Keys]]:
        """Yield the groups by the number that follows a word, such as cam3, wherever it is in the names."""
        found = [
            {word.lower(): number for word, number in re.findall(r"([^\W\d_]+)[ _.-]?(\d+)", _without_hashes(text))}
            for text in map("/".join, zip(map("/".join, self.folders), self.stems, strict=True))
        ]
        for word in dict.fromkeys(word for numbers in found for word in numbers if word not in _COUNTERS):
            yield word, [None if word not in one else f"{word}{one[word].lstrip('0') or '0'}" for one in found]

    def all_numbers(self) -> Keys:
        """Return the groups by all numbers of a file name, or its words if it has none, as of images in pairs."""
        return ["-".join(re.findall(r"\d+", stem)) or stem for stem in self.stems]

    def _key(self, row: int, end: int) -> str:
        return "/".join([*self.folders[row], self.stems[row][:end]])


def _tokens(text: str) -> list[tuple[int, str]]:
    """Return the end and the kind of every number and every word; a mixture of many of them, such as a hash, is one."""
    tokens = []
    for word in re.finditer(r"[^\W_]+", text):
        parts = list(re.finditer(r"\d+|\D+", word[0]))
        if len(parts) > _MOST_TOKENS:
            tokens.append((word.end(), _HASH))
        else:
            tokens += [(word.start() + part.end(), "#" if part[0].isdecimal() else "@") for part in parts]
    return tokens


def _without_hashes(text: str) -> str:
    def kept(word: re.Match[str]) -> str:
        return "" if _tokens(word[0])[0][1] == _HASH else word[0]

    return re.sub(r"[^\W_]+", kept, text)


def _named(title: str, keys: Keys) -> str:
    """Return a title with the most frequent beginnings, a # for each number."""
    forms = Counter(re.sub(r"\d+", "#", key) for key in keys if key)
    texts = [display(form) for form, _ in forms.most_common(3)]
    return f"{title} {', '.join(texts)}{', …' if len(forms) > 3 else ''}"


def _columns(cache: FeatureCache) -> Iterator[tuple[str, Keys]]:
    """Yield the groups by each column of metadata that is not a split."""
    for name, texts in cache.metadata.items():
        keys = [None if is_missing(text) else text for text in texts.tolist()]
        if not {key.lower() for key in keys if key} <= set(PARTS):
            yield name, keys


def _exif_keys(cache: FeatureCache, images: Path | None) -> tuple[list[tuple[str, Keys]], list[str]]:
    """Return the groups by camera and day in the EXIF data, by name, and a note if the images cannot be read."""
    if images is None and not cache.provenance.get("image_root"):
        return [], []
    root = image_folder(cache, images)
    if not root.exists():
        return [], ["EXIF data were not read, because the images have moved. Give their folder, such as with --images"]
    if not any(any(_read_exif(cache, root, row)) for row in evenly_spaced_indices(len(cache), _TRIED).tolist()):
        return [], []
    rows = [_read_exif(cache, root, row) for row in range(len(cache))]
    serial, camera, day = ([value or None for value in column] for column in zip(*rows, strict=True))
    session = [f"{one} {two}" if one and two else None for one, two in zip(camera, day, strict=True)]
    return [
        ("the serial number of the camera (EXIF)", serial),
        ("the camera (EXIF)", camera),
        ("the day of the photograph (EXIF)", day),
        ("the camera and the day (EXIF)", session),
    ], []


def _read_exif(cache: FeatureCache, root: Path, row: int) -> tuple[str, str, str]:
    """Return serial number, camera and day of an image; empty texts if it has none or cannot be read."""
    from PIL import Image

    path = os.fsencode(cache.paths[row])
    try:
        file: Any
        try:
            file = open_regular(root / os.fsdecode(path))  # without the pixels
        except OSError:  # in an archive
            known = ImageFile(path, int(cache.files.sizes[row]), int(cache.files.mtimes[row]))
            file = io.BytesIO(read_image(root, known)[0])
        with file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large images and odd headers
            picture = Image.open(file)
            exif = picture.getexif()
            more = exif.get_ifd(0x8769)
    except (ImageError, OSError, ValueError, SyntaxError, TypeError, KeyError, Image.DecompressionBombError):
        return "", "", ""
    serial, make, model, day = (
        str(value or "").replace("\0", "").strip()
        for value in (more.get(0xA431), exif.get(0x010F), exif.get(0x0110), more.get(0x9003) or exif.get(0x0132))
    )
    return serial, f"{make} {model}".strip(), day[:10].replace(":", "-")


def _partitions(
    pattern: str, keys: Keys, column: str | None, cache: FeatureCache, features: npt.NDArray[np.float32]
) -> Iterator[tuple[str, npt.NDArray[np.intp]]]:
    """Yield a description and the groups of a pattern, and those within classes if numbers may restart in each."""
    ids = _ids_of(keys)
    labels = cache.labels.astype(np.intp)
    _, within = np.unique(np.stack([ids, labels]), axis=1, return_inverse=True)
    within = within.ravel().astype(np.intp)
    if column is None and within.max() > ids.max():
        _, across = similarity_in_groups(features, labels, ids)
        if across is None or not across.above_chance:
            if not _may_be_groups(keys, within, labels):
                return  # as of photos that are numbered in each class
            yield f"{pattern}, in each class", within
    if _may_be_groups(keys, ids, labels):
        yield pattern, ids


def _count(*ids: npt.NDArray[np.intp]) -> int:
    return int(np.unique(np.stack(ids), axis=1).shape[1])


def _same_groups(keys: Keys, ids: npt.NDArray[np.intp], other: npt.NDArray[np.intp]) -> bool:
    """Return whether the images that a pattern fits have the same groups by another one."""
    fitting = np.array([key is not None for key in keys])
    return _count(ids[fitting], other[fitting]) == _count(ids[fitting]) == _count(other[fitting])


def _ids_of(keys: Sequence[str | None]) -> npt.NDArray[np.intp]:
    """Return the number of the group of every row; a row without a key has its own."""
    number: dict[str | tuple[int], int] = {}
    return np.array(
        [number.setdefault((row,) if key is None else key, len(number)) for row, key in enumerate(keys)], np.intp
    )


def _may_be_groups(keys: Keys, ids: npt.NDArray[np.intp], labels: npt.NDArray[np.intp]) -> bool:
    """Return False for a pattern that fits few images, for groups of one image, and for classes or all images."""
    fitting = np.array([key is not None for key in keys])
    if fitting.mean() < _FEWEST_KEYS or (np.bincount(ids)[ids] > 1).mean() < _FEWEST_REPEATED:
        return False
    return _count(ids[fitting], labels[fitting]) > _count(labels[fitting])


def _suggestion(
    pattern: str,
    keys: Keys,
    ids: npt.NDArray[np.intp],
    column: str | None,
    cache: FeatureCache,
    features: npt.NDArray[np.float32],
) -> GroupSuggestion:
    paths, labels = cache.paths, cache.labels.astype(np.intp)
    names: dict[int, str] = {}
    for row, group in enumerate(ids.tolist()):
        names.setdefault(group, keys[row] or paths[row])
    if len(set(names.values())) < len(names):  # equal keys in each class
        for row, group in enumerate(ids.tolist()):
            names[group] = f"{cache.label_names[row]}/{keys[row]}" if keys[row] else paths[row]
    sizes = np.bincount(ids)
    typical = int(np.flatnonzero(sizes == np.sort(sizes[sizes > 1])[(sizes > 1).sum() // 2])[0])
    example = tuple(paths[row] for row in np.flatnonzero(ids == typical)[:3])
    groups = Groups(list(paths), [names[group] for group in ids.tolist()])
    whole = column if None not in keys else None
    return GroupSuggestion(pattern, example, groups, whole, *similarity_in_groups(features, labels, ids))


def _excess(suggestion: GroupSuggestion) -> float:
    return max((one.value - one.by_chance for one in (suggestion.within, suggestion.across) if one), default=0.0)


def _projected(cache: FeatureCache) -> npt.NDArray[np.float32]:
    """Return features less the mean of their class, in few random directions and of length 1: shape (n, m)."""
    width = cache.shape[1]
    source = StoredRows(cache, np.arange(len(cache)))
    # cosines stay the same on average (Johnson and Lindenstrauss, 1984)
    directions = np.random.default_rng(0).normal(size=(width, _COLUMNS)).astype(np.float32)
    features = np.concatenate(
        [rows @ directions if width > _COLUMNS else rows.copy() for rows in row_blocks(source, _BLOCK)]
    )
    for label in np.unique(cache.labels):
        rows = cache.labels == label
        features[rows] -= features[rows].mean(axis=0)
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit: npt.NDArray[np.float32] = features / np.maximum(lengths, np.finfo(np.float32).tiny)
    return unit
