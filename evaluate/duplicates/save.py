"""Search for near-duplicates, written to a groups file and a report."""

from __future__ import annotations

from pathlib import Path

from ...cache import FeatureCache, make_folder, write_atomically
from ...extract import Progress
from ..splits import read_group_names
from .find import FoundGroups, find_groups, write_found


def find_and_write(
    cache: Path,
    output: Path,
    *,
    within_class: bool = False,
    images: Path | None = None,
    report: Path | None = None,
    progress: Progress | None = None,
) -> tuple[FoundGroups, list[Path]]:
    """Find groups and write them, and a report with pictures if one is wanted.

    Parameters
    ----------
    cache : Path
    output : Path
        Groups file. Groups that it holds already keep their names.
    within_class, images, progress
        See :func:`find_groups`.
    report : Path, optional
        Folder for ``groups.json`` and contact sheets.

    Returns
    -------
    FoundGroups
    list of Path
        What was written.

    Raises
    ------
    CacheError, DamagedCacheError, GroupsError
        See :func:`find_groups`.
    SplitError
        When a file stands at ``output`` that holds no groups; it is left as it is.
    OutputError
        When something cannot be written.
    """
    from ..shared import as_json
    from .contact_sheets import save_group_sheets

    opened = FeatureCache.open(cache)
    previous = read_group_names(output) if output.exists() else None
    make_folder(output.parent, "groups")  # before the work, not after it
    if report is not None:
        make_folder(report, "the report")
    found = find_groups(opened, images=images, within_class=within_class, previous=previous, progress=progress)
    write_found(found.groups, opened, output)
    written = [output]
    if report is not None:
        written.append(report / "groups.json")
        write_atomically(written[-1], as_json(found.summary()))
        written += save_group_sheets(found, report, images)
    return found, written
