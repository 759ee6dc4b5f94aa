"""Which images of a cache come from one original, found once and kept beside the cache."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache, display, write_atomically
from ...errors import GroupsError, OutputError, SplitError
from ...extract import NullProgress, Progress
from ..shared import as_csv, read_table
from ..splits import Groups, GroupsLike, SplitLike, as_groups, name_groups, read_group_names
from .gray_images import pictures_of
from .neighbors import nearest_neighbors
from .search import NEIGHBORS, Duplicates, find_duplicates
from .signatures import signatures_of


@dataclass
class FoundGroups:
    """Groups of near duplicates, and how sure they are.

    Attributes
    ----------
    cache : FeatureCache
    groups : Groups
        A group for every image; most of them have one image where there are no copies.
    duplicates : Duplicates
        The pairs that were proven or nearly so.
    seconds : float
        Time that it took.
    """

    cache: FeatureCache
    groups: Groups
    duplicates: Duplicates
    seconds: float

    @cached_property
    def members(self) -> list[npt.NDArray[np.intp]]:
        """Rows of every group of two images or more, the largest group first."""
        rows: dict[int, list[int]] = defaultdict(list)
        for row, group in enumerate(self.groups.ids.tolist()):
            rows[group].append(row)
        several = [np.array(part) for part in rows.values() if len(part) > 1]
        return sorted(several, key=lambda part: (-len(part), int(part[0])))

    @cached_property
    def label_conflicts(self) -> list[npt.NDArray[np.intp]]:
        """Rows of every group whose images have different labels: probably some are wrong."""
        labels = self.cache.labels
        return [rows for rows in self.members if len(np.unique(labels[rows])) > 1]

    def summary(self) -> dict[str, Any]:
        """Return what was found in numbers, JSON-serialisable."""
        sizes = [len(rows) for rows in self.members]
        names = self.cache.paths
        limits = self.duplicates.thresholds
        return {
            "images": len(self.cache),
            "groups": len(self.groups),
            "groups_of_several": len(sizes),
            "images_with_a_copy": sum(sizes),
            "largest": max(sizes, default=1),
            "median_size": float(np.median(sizes)) if sizes else 1.0,
            "identical_files": len(self.cache) - len(np.unique(self.cache.files.hashes, axis=0)),
            "threshold": limits.centred,
            "threshold_shifted": limits.shifted,
            "threshold_on_images": None if np.isnan(limits.images) else limits.images,
            "proven_on_images": len(self.duplicates.verified.first),
            "rejected_on_images": len(self.duplicates.rejected.first),
            "pairs_tested": self.duplicates.tested,
            "without_structure": self.duplicates.flat,
            "doubtful": [
                {
                    "first": names[pair.first],
                    "second": names[pair.second],
                    "score": pair.score,
                    "limit": pair.limit,
                    "copies": pair.proven,
                    "on_images": pair.on_images,
                }
                for pair in self.duplicates.doubtful
            ],
            "label_conflicts": [[names[row] for row in rows] for rows in self.label_conflicts],
            "seconds": self.seconds,
        }


def find_groups(
    cache: FeatureCache | Path | str,
    *,
    images: Path | str | None = None,
    within_class: bool = False,
    previous: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> FoundGroups:
    """Find the images of a cache that are copies of one original, however turned, cropped or recompressed.

    Parameters
    ----------
    cache : FeatureCache or path-like
    images : path-like, optional
        The image folder; by default the one that was embedded. Doubtful pairs are verified on the images; without
        them, only pairs that the signatures prove are copies. A cache that holds no signatures cannot do without.
    within_class : bool
        Look only within each class. By default copies with different labels are found as well, and are probably
        label errors.
    previous : mapping of str to str, optional
        Path to group of an earlier time: groups that are still there keep their names.
    progress : Progress, optional

    Returns
    -------
    FoundGroups

    Raises
    ------
    CacheError, DamagedCacheError
        When the cache cannot be read.
    GroupsError
        When signatures are missing and cannot be made.

    Notes
    -----
    How: see :mod:`embedonce.evaluate.duplicates.search`. Half a minute to a minute for 15,000 images on two processors.
    """
    opened = cache if isinstance(cache, FeatureCache) else FeatureCache.open(cache)
    shown = progress if progress is not None else NullProgress()
    begin = time.monotonic()
    shown.start(len(opened), "looking for copies")

    def advance(stage: str, count: int) -> None:
        if stage == "comparing":  # the longest stage, and the only one whose length is known
            shown.advance(count)

    try:
        signatures = signatures_of(opened, images)
        neighbors = nearest_neighbors(opened, NEIGHBORS)
        found = find_duplicates(
            signatures,
            neighbors,
            opened.files.hashes,
            opened.labels,
            within_class=within_class,
            pictures=pictures_of(opened, images),
            advance=advance,
        )
    finally:
        shown.close()
    groups = name_groups(opened, found.groups, "found", previous)
    return FoundGroups(opened, groups, found, time.monotonic() - begin)


def load_or_find_groups(cache: FeatureCache, progress: Progress | None = None) -> Groups:
    """Return the groups of a cache, from the file beside it when that is of these very images, otherwise found anew.

    Found groups are kept as ``NAME.groups.csv`` beside the cache, where they can be read and corrected: while the
    images are the same, what stands there counts. A file that cannot be read stays, and the notes of the groups say why
    it does not count.

    Raises
    ------
    GroupsError, CacheError
        See :func:`find_groups`.
    """
    path = groups_path(cache)
    previous = None
    if path is not None and path.is_file():
        try:
            kept = _read_kept(path, cache)
            if kept is not None:
                return kept
            previous = read_group_names(path)
        except SplitError as error:  # not ours, or a correction by hand that went wrong: it is never written over
            note = f"groups were looked for anew, and {display(path.name)} stays as it is: {error}"
            return replace(find_groups(cache, progress=progress).groups, notes=(note,))
    groups = find_groups(cache, previous=previous, progress=progress).groups
    if path is not None:
        with contextlib.suppress(OutputError):  # a read-only folder costs time at the next comparison, nothing else
            write_found(groups, cache, path)
    return groups


def groups_for(
    cache: FeatureCache,
    groups: GroupsLike | None,
    split: SplitLike | None = None,
    progress: Progress | None = None,
) -> tuple[Groups | None, list[str]]:
    """Return the groups that a comparison should know, and what its reader should know of them.

    Parameters
    ----------
    cache : FeatureCache
    groups : Groups or path-like, optional
        The user's, or the path of a groups file. Otherwise the groups beside the cache; they are found when the split
        needs them, and only looked up when it does not.
    split : str, path-like or Split, optional
        None for a comparison that wants groups if they can be had, ``grouped`` for one that needs them.
    progress : Progress, optional

    Raises
    ------
    SplitError
        When the groups file does not fit the cache.
    GroupsError
        When a grouped split needs groups that cannot be found.
    """
    if groups is not None:
        given = as_groups(groups, cache)
        return given, list(given.notes)
    if isinstance(split, str) and split == "grouped":
        known = load_or_find_groups(cache, progress)
        return known, list(known.notes)
    if split is None:
        try:
            known = load_or_find_groups(cache, progress)
            return known, list(known.notes)
        except GroupsError as error:
            return None, [f"copies of one original could not be looked for, so they may flatter every score: {error}"]
    path = groups_path(cache)
    with contextlib.suppress(SplitError):  # a look-up only; whoever needs the file is told
        return (_read_kept(path, cache) if path is not None and path.is_file() else None), []
    return None, []


def groups_path(cache: FeatureCache) -> Path | None:
    """Return the path of the file with the groups of a cache; None for a cache in memory."""
    return None if cache.path is None else cache.path.with_name(f"{cache.path.name}.groups.csv")


def write_found(groups: Groups, cache: FeatureCache, path: Path | str) -> None:
    """Write groups as CSV with the columns ``path,group,sha256``: the third tells for which content they hold.

    Raises
    ------
    OutputError
        When the file cannot be written.
    """
    digests = (digest.tobytes().hex() for digest in cache.files.hashes)
    write_atomically(path, as_csv(["path", "group", "sha256"], zip(groups.paths, groups.names, digests, strict=True)))


def _read_kept(path: Path, cache: FeatureCache) -> Groups | None:
    """Return the groups that a file holds; None when it is of other images."""
    rows = {row["path"]: row for _, row in read_table(path, "groups file", ("path", "group", "sha256"))}
    if set(rows) != set(cache.paths):
        return None
    for name, digest in zip(cache.paths, cache.files.hashes, strict=True):
        if rows[name]["sha256"] != digest.tobytes().hex():
            return None
    given = read_group_names(path)  # a correction may have left a group empty, or an image in two
    return Groups(list(cache.paths), [given[name] for name in cache.paths], "found")
