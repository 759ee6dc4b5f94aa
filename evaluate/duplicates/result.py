"""Result of a search for near-duplicates."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache, as_csv, display, write_atomically
from ..shared import data_frame, html_table
from ..splits import Groups
from .search import Duplicates

_SHOWN_GROUPS = 10


@dataclass(frozen=True, eq=False)
class NearDuplicates:
    """Groups of near-duplicates in a cache, and how certain they are.

    Attributes
    ----------
    cache : FeatureCache
    groups : Groups
        The group of every image; an image without near-duplicates is the only one of its group.
    search : Duplicates
        The pairs that were accepted or rejected, with their scores.
    seconds : float
        Duration of the search.
    written : tuple of Path
        Files that were written.
    notes : tuple of str
        Pictures that could not be drawn, and why.

    See Also
    --------
    embedonce.find_groups : Returns it.
    """

    cache: FeatureCache
    groups: Groups
    search: Duplicates
    seconds: float
    written: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()

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
        """Rows of every group whose images have different labels, which are suspected label errors."""
        labels = self.cache.labels
        return [rows for rows in self.members if len(np.unique(labels[rows][labels[rows] >= 0])) > 1]

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers of the search, the pairs near the threshold and the conflicts, JSON-serialisable."""
        sizes = [len(rows) for rows in self.members]
        names = self.cache.paths
        limits = self.search.thresholds
        return {
            "images": len(self.cache),
            "groups": len(self.groups),
            "groups_of_several": len(sizes),
            "images_with_near_duplicates": sum(sizes),
            "largest": max(sizes, default=1),
            "median_size": float(np.median(sizes)) if sizes else 1.0,
            "identical_files": len(self.cache) - len(np.unique(self.cache.files.hashes, axis=0)),
            "threshold": limits.centred,
            "threshold_shifted": limits.shifted,
            "threshold_on_images": None if np.isnan(limits.images) else limits.images,
            "accepted_on_images": len(self.search.verified.first),
            "rejected_on_images": len(self.search.rejected.first),
            "pairs_tested": self.search.tested,
            "without_structure": self.search.flat,
            "doubtful": [
                {
                    "first": names[pair.first],
                    "second": names[pair.second],
                    "score": pair.score,
                    "limit": pair.limit,
                    "near_duplicates": pair.accepted,
                    "on_images": pair.on_images,
                }
                for pair in self.search.doubtful
            ],
            "label_conflicts": [[names[row] for row in rows] for rows in self.label_conflicts],
            "seconds": self.seconds,
        }

    def to_frame(self) -> Any:
        """Return a pandas DataFrame with path, label, group and size of the group of every image."""
        sizes = np.bincount(self.groups.ids)[self.groups.ids].tolist()
        rows = zip(self.cache.paths, self.cache.label_names.tolist(), self.groups.names, sizes, strict=True)
        return data_frame(
            {"path": path, "label": label, "group": group, "size": size} for path, label, group, size in rows
        )

    def save(self, path: Path | str) -> None:
        """Write a groups file: CSV with the columns ``path,group,sha256``, where the last is that of the image."""
        write_stored_groups(self.groups, self.cache, path)

    def __repr__(self) -> str:
        several = f"{len(self.members):,} groups of several images"
        return f"<NearDuplicates: {several} among {len(self.cache):,} images of {self.cache.display_path}>"

    def _repr_html_(self) -> str:
        shown = self.members[:_SHOWN_GROUPS]
        rows = [(self.groups.names[rows[0]], len(rows), labels_of(self.cache, rows)) for rows in shown]
        more = len(self.members) - len(shown)
        return html_table(["group", "images", "labels"], rows, [f"{more:,} smaller groups"] if more else [])


def labels_of(cache: FeatureCache, rows: npt.NDArray[np.intp]) -> str:
    """Return the labels of some rows and how many have each, for people."""
    names, counts = np.unique(cache.label_names[rows], return_counts=True)
    pairs = zip(names.tolist(), counts.tolist(), strict=True)
    return ", ".join(f"{count} {display(name) or 'without label'}" for name, count in pairs)


def write_stored_groups(groups: Groups, cache: FeatureCache, path: Path | str) -> None:
    """Write groups as CSV with the columns ``path,group,sha256``."""
    digests = (digest.tobytes().hex() for digest in cache.files.hashes)
    write_atomically(path, as_csv(["path", "group", "sha256"], zip(groups.paths, groups.names, digests, strict=True)))
