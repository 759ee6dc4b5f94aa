"""Groups of images that must stay together, such as those of one patient or slide, and their files."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ...cache import (
    FeatureCache,
    as_csv,
    display,
    find_path,
    format_examples,
    is_missing,
    read_table,
    stem_of,
    write_atomically,
)
from ...errors import SplitError, describe

GroupsLike: TypeAlias = "str | os.PathLike[str] | Groups | Mapping[str, Any] | Sequence[Any] | Any"
"""A path, ``@NAME`` (a column of metadata), a `Groups`, a mapping from path to group, one group per row, or a Series of
pandas."""


@dataclass(frozen=True)
class Groups:
    """Images of a cache that belong together, such as those of one patient.

    Parameters
    ----------
    paths : sequence of str, length n
        Paths of the cache's rows.
    names : sequence of str, length n
        The group of every row. The name decides the group's part of a split, so it must not depend on which other
        images there are.
    source : {"custom", "file", "metadata", "found"}, default="custom"
        Where the groups come from.
    notes : tuple of str, default=()
        Remarks for readers of results by these groups.

    Raises
    ------
    SplitError
        If there is not one name for each path.

    See Also
    --------
    embedonce.find_groups : Find groups of near-duplicates.
    embedonce.Split : One split into training and test rows.

    Examples
    --------
    >>> from embedonce import Groups
    >>> groups = Groups(["a/1.png", "a/2.png", "b/3.png"], ["Ada", "Ada", "Ben"])
    >>> groups
    <Groups custom: 2 groups of 3 images>
    >>> groups.ids
    array([0, 0, 1])
    """

    paths: Sequence[str]
    names: Sequence[str]
    source: str = "custom"
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        for name, value in (("paths", self.paths), ("names", self.names)):
            if isinstance(value, str | bytes | Mapping | type) or not hasattr(value, "__len__"):
                raise SplitError(f"parameter {name} of Groups must be a list of names, got {describe(value)}")
        if len(self.paths) != len(self.names):
            raise SplitError(
                f"parameter names of Groups must have one name for each of the {len(self.paths):,} paths, "
                f"got {len(self.names):,}"
            )

    def __len__(self) -> int:
        return len(self.unique)

    def __repr__(self) -> str:
        return f"<Groups {self.source}: {len(self):,} groups of {len(self.paths):,} images>"

    @cached_property
    def unique(self) -> list[str]:
        """The names of the groups, each once, sorted."""
        return sorted(set(self.names))

    @cached_property
    def ids(self) -> npt.NDArray[np.intp]:
        """Group of every row as an index into ``unique``: ndarray of intp, shape (n,)."""
        index = {name: number for number, name in enumerate(self.unique)}
        return np.array([index[name] for name in self.names], np.intp)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file that `save` writes, 64 hexadecimal digits."""
        return hashlib.sha256(self._as_file()).hexdigest()

    def save(self, path: Path | str) -> None:
        """Write the groups as CSV with the columns ``path,group``, which the parameter ``groups`` takes."""
        write_atomically(path, self._as_file())

    def _as_file(self) -> bytes:
        return as_csv(["path", "group"], zip(self.paths, self.names, strict=True))

    def require_rows_of(self, cache: FeatureCache) -> None:
        """Raise SplitError unless these are the groups of a cache's rows."""
        if list(self.paths) != cache.paths:
            raise SplitError(
                f"parameter groups must be of the {len(cache):,} images of {cache.display_path}, got groups of "
                f"{len(self.paths):,} images, not the same ones. Read or find them again for this cache"
            )


def as_groups(groups: GroupsLike, cache: FeatureCache) -> Groups:
    """Return the groups of a cache's rows that a value of the parameter ``groups`` stands for."""
    if isinstance(groups, Groups):
        groups.require_rows_of(cache)
        return groups
    source = "custom"
    if isinstance(groups, (str, os.PathLike)):
        if not str(groups).startswith("@"):
            return read_groups(Path(groups), cache)
        groups, source = dict(zip(cache.paths, column_of(cache, str(groups)), strict=True)), "metadata"
    if isinstance(groups, Mapping):
        by_path = dict(groups)
    elif np.ndim(groups) > 1:
        raise SplitError(
            f"parameter groups must have one group for each image, got an object of type {type(groups).__name__} with "
            f"{np.ndim(groups)} dimensions. Give one column of it"
        )
    elif hasattr(groups, "index") and hasattr(groups, "to_numpy"):  # a Series of pandas
        series: Any = groups
        index, values = list(series.index), series.to_numpy()
        # rows of another order would get each other's groups, so only the usual index means one value per row
        by_path = dict(zip(cache.paths if index == list(range(len(cache))) else index, values, strict=True))
    else:
        values = list(groups) if isinstance(groups, Sequence | np.ndarray | Iterator) else None
        if values is None or len(values) != len(cache):
            got = f"{len(values):,}" if values is not None else describe(groups)
            raise SplitError(
                f"parameter groups must have one group for each of the {len(cache):,} images, or be a path, a Groups, "
                f"a mapping from path to group or a Series, got {got}"
            )
        by_path = dict(zip(cache.paths, values, strict=True))
    missing = [path for path in cache.paths if _is_missing(by_path.get(path))]
    if missing:
        raise SplitError(
            f"parameter groups must have a group for every image, but {len(missing):,} of {len(cache):,} have none: "
            f"{format_examples(missing)}. Give an image that belongs to no group a group with a unique name"
        )
    return Groups(list(cache.paths), [str(by_path[path]) for path in cache.paths], source)


def column_of(cache: FeatureCache, column: str) -> list[str]:
    """Return a column of metadata that is given as ``@NAME``."""
    metadata, name = cache.metadata, column.removeprefix("@")
    if name not in metadata:
        has = f"it has {', '.join(map(display, metadata))}" if metadata else "it has no metadata"
        raise SplitError(
            f"{display(column)} must be a column of metadata of {cache.display_path}, but {has}. Add columns with: "
            "embedonce label CACHE --labels FILE"
        )
    texts: list[str] = metadata[name].tolist()
    return texts


def _is_missing(group: Any) -> bool:
    return group is None or group != group or not str(group).strip()  # NaN does not equal itself


def read_groups(path: Path | str, cache: FeatureCache) -> Groups:
    """Read a groups file (columns ``path,group``) and match it with a cache."""
    # an image takes the group of its path, else of its stem: the file name without folder and suffix
    file = display(str(path))
    in_cache = set(cache.paths)
    given = read_group_names(path, in_cache)
    open_stems = {name: stem_of(name) for name in cache.paths if name not in given}
    needed = Counter(open_stems.values())
    by_stem: dict[str, list[str]] = defaultdict(list)
    for name in given:
        if name not in in_cache:
            by_stem[find_path(stem_of(name), needed)].append(name)

    unmatched = [name for name, stem in open_stems.items() if stem not in by_stem]
    if unmatched:
        raise SplitError(
            f"the groups file {file} has no group for {len(unmatched):,} of {len(cache):,} images: "
            f"{format_examples(unmatched)}. Add a row path,group for each (with a unique group if it belongs to none)"
        )
    ambiguous = [
        name
        for name, stem in open_stems.items()
        if len({given[row] for row in by_stem[stem]}) > 1 or needed[stem] > len(by_stem[stem])
    ]
    if ambiguous:
        raise SplitError(
            f"the groups file {file} does not tell the group of {len(ambiguous):,} of {len(cache):,} images, since "
            f"others have the same file name without folder and suffix: {format_examples(ambiguous)}. Write their "
            "paths as in the cache into the file"
        )
    names = [given[name] if name in given else given[by_stem[open_stems[name]][0]] for name in cache.paths]
    used = {name for name in given if name in in_cache} | {row for stem in needed for row in by_stem[stem]}
    unused = len(given) - len(used)
    notes = (f"{unused:,} of {len(given):,} paths of the groups file are not images of the cache",) if unused else ()
    return Groups(list(cache.paths), names, "file", notes)


def read_group_names(path: Path | str, known: Set[str] = frozenset()) -> dict[str, str]:
    """Return the group of every path in a groups file, by the known path that it means."""
    file = display(str(path))
    given: dict[str, str] = {}
    lines: dict[str, int] = {}
    for line, row in read_table(Path(path), "groups file", ("path", "group")):
        name, group = find_path(row["path"], known), row["group"]
        if not name.strip() or is_missing(group):
            missing = "group" if name.strip() else "path"
            raise SplitError(
                f"the groups file {file}, line {line}: {missing} must not be empty, got {row[missing]!r}. Give an "
                "image that belongs to no group a group with a unique name"
            )
        lines.setdefault(group, line)
        if given.setdefault(name, group) != group:
            raise SplitError(
                f"the groups file {file}, line {line}: {display(name)} must be in one group, got "
                f"{display(given[name])!r} and {display(group)!r}"
            )
    alike: dict[str, str] = {}
    for group in dict.fromkeys(given.values()):
        other = alike.setdefault(re.sub(r"^([0-9]+)\.0*$", r"\1", group.strip()), group)
        if other != group:  # one patient would become two
            raise SplitError(
                f"the groups file {file}, line {lines[group]}: names of groups must differ by more than spaces or .0, "
                f"got {other!r} and {group!r}"
            )
    return given


def name_groups(
    cache: FeatureCache, ids: npt.NDArray[np.intp], source: str, previous: Mapping[str, str] | None = None
) -> Groups:
    """Name groups of rows with equal ``ids``, such that the names stay when images are added."""
    # by most of its images in previous (path to group), else by its first path, which a new image may change
    if np.shape(ids) != (len(cache),):
        raise SplitError(f"parameter ids of the groups must have shape ({len(cache)},), got {np.shape(ids)}")
    earlier: dict[int, Counter[str]] = defaultdict(Counter)
    names: dict[int, str] = {}
    for number, path in zip(ids.tolist(), cache.paths, strict=True):
        names[number] = min(path, names.get(number, path))
        if previous is not None and path in previous:
            earlier[number][previous[path]] += 1
    for number, counts in earlier.items():
        names[number] = min(counts, key=lambda name: (-counts[name], name))
    return Groups(list(cache.paths), [names[number] for number in ids.tolist()], source)
