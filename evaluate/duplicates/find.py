"""Groups of near-duplicates among the images of a cache, found once and kept next to the cache."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from ...cache import (
    FeatureCache,
    display,
    make_folder,
    open_cache,
    read_table,
    refuse_input_as_output,
    write_atomically,
)
from ...errors import GroupsError, OutputError, SplitError, check_flag, check_path
from ...extract import Progress, as_progress
from ..shared import as_json, replacing_files, require_folder
from ..splits import Groups, GroupsLike, SplitLike, as_groups, name_groups, read_group_names
from .contact_sheets import SHEETS, save_group_sheets
from .gray_images import pictures_of
from .neighbors import Neighbors, nearest_neighbors
from .result import NearDuplicates, write_stored_groups
from .search import NEIGHBORS, Duplicates, Known, UnknownThresholdError, find_duplicates
from .signatures import signatures_of
from .stored_search import StoredSearch


def find_groups(
    cache: FeatureCache | Path | str,
    output: Path | str | None = None,
    *,
    within_class: bool = False,
    images: Path | str | None = None,
    report: Path | str | None = None,
    progress: Progress | None = None,
) -> NearDuplicates:
    """Find the near-duplicates in a cache: rotated, mirrored, cropped, zoomed or recompressed images.

    Parameters
    ----------
    cache : FeatureCache or path-like
    output : path-like, default=None
        Groups file to write. Groups that it already has keep their names.
    within_class : bool, default=False
        Search only within each class. By default near-duplicates with different labels are found as well, and are
        suspected label errors.
    images : path-like, default=None
        Folder of the images; by default the one that was embedded. Doubtful pairs are verified on the images. Without
        them only pairs that are certain from their signatures count, and a cache without signatures is an error.
    report : path-like, default=None
        Folder to write ``groups.json`` and contact sheets to.
    progress : Progress, default=None
        Progress bar of the search.

    Returns
    -------
    NearDuplicates

    Raises
    ------
    CacheError, DamagedCacheError
        If the cache cannot be read.
    GroupsError
        If signatures are missing and cannot be made.
    SplitError
        If the file at ``output`` is not a groups file; it is not changed.
    OutputError
        If a file cannot be written.

    See Also
    --------
    embedonce.compare : Keeps each group on one side of the split.
    embedonce.Groups : Groups of any kind.

    Notes
    -----
    `search` describes the method. The result of a search of 1,000 images or more is kept in ``NAME.groups.npz`` next to
    the cache. If images were added since, at most a fourth, only their pairs are searched.

    Examples
    --------
    >>> import numpy as np
    >>> from embedonce import FeatureCache, find_groups
    >>> features = [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
    >>> cache = FeatureCache.from_arrays(features, ["cat", "dog", "dog"], signatures=np.zeros((3, 784)))
    >>> found = find_groups(cache)
    >>> found.members, found.label_conflicts
    ([array([0, 2])], [array([0, 2])])
    """
    opened = open_cache(cache, "find_groups")
    check_flag("within_class", "find_groups", within_class)
    progress = as_progress(progress, "find_groups")
    output = None if output is None else check_path("output", "find_groups", output)
    report = None if report is None else check_path("report", "find_groups", report)
    images = None if images is None else require_folder(check_path("images", "find_groups", images))
    if output is not None:
        refuse_input_as_output(output, opened.path, images)
    previous = read_group_names(output) if output is not None and output.exists() else None
    if output is not None:
        make_folder(output.parent, "groups")  # before the search, which takes long
    if report is not None:
        refuse_input_as_output(report, opened.path, images)
        make_folder(report, "the report")
    result = find_near_duplicates(opened, images, within_class, previous, progress)
    written: list[Path] = []
    notes: list[str] = []
    if output is not None:
        result.save(output)
        written.append(output)
    if report is not None:
        with replacing_files(report, "the report", "groups.json", SHEETS) as temporary:
            notes = save_group_sheets(result, temporary, images)
            write_atomically(temporary / "groups.json", as_json(result.to_dict()))
            written += [report / name for name in ("groups.json", *SHEETS) if (temporary / name).exists()]
    return replace(result, written=tuple(written), notes=tuple(notes))


def find_near_duplicates(
    cache: FeatureCache,
    images: Path | str | None = None,
    within_class: bool = False,
    previous: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> NearDuplicates:
    """Search, and name the groups; those in ``previous`` (path to group) keep their names."""
    bar = progress if progress is not None else Progress()
    begin = time.monotonic()
    bar.start(len(cache), "searching near-duplicates")

    def advance(stage: str, count: int) -> None:
        if stage == "comparing":  # the longest stage, and the only one whose length is known
            bar.advance(count)

    try:
        search = _search(cache, images, within_class, advance)
    finally:
        bar.close()
    groups = name_groups(cache, search.groups, "found", previous)
    return NearDuplicates(cache, groups, search, time.monotonic() - begin)


def _search(
    cache: FeatureCache, images: Path | str | None, within_class: bool, advance: Callable[[str, int], None]
) -> Duplicates:
    """Search the pairs of all images, or of those that are new since a search that is stored."""
    signatures, pictures = signatures_of(cache, images), pictures_of(cache, images)
    stored = StoredSearch(cache, signatures, within_class, pictures is not None)

    def find(neighbors: Neighbors, known: Known | None = None) -> Duplicates:
        return find_duplicates(
            signatures,
            neighbors,
            cache.files.hashes,
            cache.labels + 1,  # images without a label are a class
            within_class=within_class,
            pictures=pictures,
            advance=advance,
            known=known,
        )

    if (earlier := stored.read()) is not None:
        known, near = earlier
        if not known.new.any():
            return known.result
        with contextlib.suppress(UnknownThresholdError):
            result = find(near, known)
            stored.write(result, near)
            return result
    neighbors = nearest_neighbors(cache, NEIGHBORS)
    result = find(neighbors)
    stored.write(result, neighbors)
    return result


def load_or_find_groups(cache: FeatureCache, progress: Progress | None = None) -> Groups:
    """Return the groups of a cache from ``NAME.groups.csv`` next to it, or find them and write that file."""
    # groups in the file count, corrections included, while the images are the same
    path = groups_path(cache)
    previous = None
    if path is not None and path.is_file():
        try:
            stored = _read_stored(path, cache)
            if stored is not None:
                return stored
            previous = read_group_names(path)
            if cache.unlabelled and not set(previous) <= set(cache.paths):
                raise SplitError("it has images without a label, and not all of those with one. Remove or rename it")
        except SplitError as error:  # another file, or a correction with a mistake: it must not be overwritten
            note = f"groups were searched again, and {display(path.name)} was not changed: {error}"
            return replace(find_near_duplicates(cache, progress=progress).groups, notes=(note,))
    groups = find_near_duplicates(cache, previous=previous, progress=progress).groups
    if path is not None:
        with contextlib.suppress(OutputError):  # in a read-only folder the next comparison searches again
            write_stored_groups(groups, cache, path)
    return groups


def groups_for(
    cache: FeatureCache, groups: GroupsLike | None, split: SplitLike | None = None, progress: Progress | None = None
) -> tuple[Groups | None, list[str]]:
    """Return the groups to use for a split, and notes on them."""
    # without groups, they are found for a grouped split and for none, else only read from the file next to the cache
    if groups is not None:
        given = as_groups(groups, cache)
        return given, list(given.notes)
    needed = isinstance(split, str) and split == "grouped"
    if needed or split is None:
        try:
            loaded = load_or_find_groups(cache, progress)
        except GroupsError as error:
            if needed:
                raise
            return None, [f"near-duplicates could not be searched, so every score may be too high: {error}"]
        return loaded, list(loaded.notes)
    path = groups_path(cache)
    with contextlib.suppress(SplitError):  # the groups are optional here
        stored = _read_stored(path, cache) if path is not None and path.is_file() else None
        if stored is not None or (isinstance(split, str) and split == "none"):
            return stored, []
    return None, [
        "near-duplicates were not searched, so every score may be too high. A grouped split or embedonce groups "
        "searches them"
    ]


def groups_path(cache: FeatureCache) -> Path | None:
    """Return the path of the groups file next to a cache; None for a cache in memory."""
    return None if cache.source is None else cache.source.with_name(f"{cache.source.name}.groups.csv")


def _read_stored(path: Path, cache: FeatureCache) -> Groups | None:
    """Return the groups in a file, or None if it is of other images."""
    rows = {row["path"]: row for _, row in read_table(path, "groups file", ("path", "group", "sha256"))}
    # it can also have the images without a label, which the cache left out
    if not set(cache.paths) <= set(rows) or (len(rows) > len(cache) and not cache.unlabelled):
        return None
    for name, digest in zip(cache.paths, cache.files.hashes, strict=True):
        if rows[name]["sha256"] != digest.tobytes().hex():
            return None
    names = read_group_names(path)  # raises if a correction left a group empty, or an image in two
    return Groups(list(cache.paths), [names[name] for name in cache.paths], "found")
