"""Groups of images that must not be parted, such as those of one patient or slide, and their files."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache, display, write_atomically
from ...errors import SplitError
from ..shared import as_csv, format_examples, read_table

# a letter first, so that the last number of an identifier like 1.2.840.10008 is no suffix
_SUFFIX = re.compile(r"(?<=.)\.[A-Za-z][A-Za-z0-9]{0,4}$")


@dataclass(frozen=True)
class Groups:
    """Which images of a cache belong together.

    Attributes
    ----------
    paths : list of str, length n
        Of the cache's rows.
    names : list of str, length n
        The group of every row. The name decides the group's part of a split, so it must not depend on which other
        images there are.
    source : str
        Where the groups come from: ``file``, ``found``, …
    notes : tuple of str
        What a reader of results by these groups should know.
    """

    paths: list[str]
    names: list[str]
    source: str
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if len(self.paths) != len(self.names):
            raise SplitError(
                f"parameter names of Groups must have one name for each of the {len(self.paths):,} paths, "
                f"got {len(self.names):,}"
            )

    def __len__(self) -> int:
        return len(self.unique)

    @cached_property
    def unique(self) -> list[str]:
        """The names of the groups, each once, sorted."""
        return sorted(set(self.names))

    @cached_property
    def ids(self) -> npt.NDArray[np.intp]:
        """ndarray of intp, shape (n,): the group of every row as an index into ``unique``."""
        index = {name: number for number, name in enumerate(self.unique)}
        return np.array([index[name] for name in self.names], np.intp)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file that :func:`write_groups` makes of them, 64 hexadecimal digits."""
        return hashlib.sha256(_as_file(self)).hexdigest()

    def require_rows_of(self, cache: FeatureCache) -> None:
        """Check that these are groups of a cache's rows.

        Raises
        ------
        SplitError
            When they were made for other images.
        """
        if self.paths != cache.paths:
            raise SplitError(
                f"parameter groups must be of the {len(cache):,} images of {display(str(cache.path))}, got groups of "
                f"{len(self.paths):,} images, not the same ones; read or find them again for this cache"
            )


def read_groups(path: Path | str, cache: FeatureCache) -> Groups:
    """Read a groups file and match it with a cache.

    An image takes the group of the row with its path; else of the row with its stem, which is the file name without
    folder and suffix. A row whose path is an image's own is no other image's stem. Rows that fit no image are
    counted in a note: a file may be of a larger set.

    Parameters
    ----------
    path : path-like
        CSV with the columns ``path,group``; others may be there.
    cache : FeatureCache

    Returns
    -------
    Groups

    Raises
    ------
    SplitError
        When the file cannot be read, contradicts itself, leaves an image without a group, or names a stem that may
        be of several images or groups. The message lists them.
    """
    shown = display(str(path))
    given = read_group_names(path)
    known = set(cache.paths)
    by_stem: dict[str, list[str]] = defaultdict(list)
    for name in given:
        if name not in known:
            by_stem[_stem(name)].append(name)
    open_stems = {name: _stem(name) for name in cache.paths if name not in given}
    wanted = Counter(open_stems.values())

    unmatched = [name for name, stem in open_stems.items() if stem not in by_stem]
    if unmatched:
        raise SplitError(
            f"the groups file {shown} has no group for {len(unmatched):,} of {len(cache):,} images: "
            f"{format_examples(unmatched)}; "
            "add a row path,group for each (a group of its own if it belongs to none)"
        )
    ambiguous = [
        name
        for name, stem in open_stems.items()
        if len({given[row] for row in by_stem[stem]}) > 1 or wanted[stem] > len(by_stem[stem])
    ]
    if ambiguous:
        raise SplitError(
            f"the groups file {shown} does not tell the group of {len(ambiguous):,} of {len(cache):,} images, whose "
            f"file name without folder and suffix is not the only one: {format_examples(ambiguous)}; "
            "write their paths as the "
            "cache has them into the file"
        )
    names = [given[name] if name in given else given[by_stem[open_stems[name]][0]] for name in cache.paths]
    used = {name for name in given if name in known} | {row for stem in wanted for row in by_stem[stem]}
    unused = len(given) - len(used)
    notes = (f"{unused:,} of {len(given):,} paths of the groups file are no images of the cache",) if unused else ()
    return Groups(list(cache.paths), names, "file", notes)


def read_group_names(path: Path | str) -> dict[str, str]:
    """Read a groups file as it stands, without a cache: the group of every path.

    Raises
    ------
    SplitError
        When the file cannot be read or contradicts itself.
    """
    shown = display(str(path))
    given: dict[str, str] = {}
    for line, row in read_table(Path(path), "groups file", ("path", "group")):
        name, group = row["path"], row["group"]
        if not name.strip() or not group.strip():
            missing = "group" if name.strip() else "path"
            raise SplitError(
                f"the groups file {shown}, line {line}: {missing} must not be empty; an image that belongs to no group "
                "gets one of its own"
            )
        if given.setdefault(name, group) != group:
            raise SplitError(
                f"the groups file {shown}, line {line}: {display(name)} must be in one group, got "
                f"{display(given[name])!r} and {display(group)!r}"
            )
    alike: dict[str, str] = {}
    for group in dict.fromkeys(given.values()):
        other = alike.setdefault(group.strip(), group)
        if other != group:  # two patients that are one would be parted
            raise SplitError(
                f"the groups file {shown}: names of groups must differ by more than spaces, got {other!r} and {group!r}"
            )
    return given


def _stem(name: str) -> str:
    return _SUFFIX.sub("", re.split(r"[/\\]", name)[-1])


def name_groups(
    cache: FeatureCache, ids: npt.NDArray[np.intp], source: str, previous: Mapping[str, str] | None = None
) -> Groups:
    """Give groups that were found among the images names that stay when images are added.

    A group has the name that most of its images had before; a group without such images that of its first path. So
    a group that new images join keeps its name, and with it its side of a split. Without ``previous``, a new image
    that comes first in its group renames the group: found groups are only stable together with their file. Where new
    images show that two old groups are one, the images of the smaller must change sides if they are on the other.

    Parameters
    ----------
    cache : FeatureCache
    ids : ndarray of intp, shape (n,)
        Rows of equal numbers belong together.
    source : str
        See :class:`Groups`.
    previous : mapping of str to str, optional
        Path to name of an earlier time, from :func:`read_group_names`. Two groups that were one stay one.

    Returns
    -------
    Groups

    Raises
    ------
    SplitError
        When ``ids`` does not have one number per image.
    """
    if np.shape(ids) != (len(cache),):
        raise SplitError(f"parameter ids of the groups must have shape ({len(cache)},), got {np.shape(ids)}")
    had: dict[int, Counter[str]] = defaultdict(Counter)
    names: dict[int, str] = {}
    for number, path in zip(ids.tolist(), cache.paths, strict=True):
        names[number] = min(path, names.get(number, path))
        if previous is not None and path in previous:
            had[number][previous[path]] += 1
    for number, counts in had.items():
        names[number] = min(counts, key=lambda name: (-counts[name], name))
    return Groups(list(cache.paths), [names[number] for number in ids.tolist()], source)


def write_groups(groups: Groups, path: Path | str) -> None:
    """Write groups as CSV with the columns ``path,group``, as :func:`read_groups` reads them.

    Names that are not UTF-8 keep their bytes.

    Raises
    ------
    OutputError
        When the file cannot be written.
    """
    write_atomically(path, _as_file(groups))


def _as_file(groups: Groups) -> bytes:
    return as_csv(["path", "group"], zip(groups.paths, groups.names, strict=True))
