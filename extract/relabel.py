"""New labels and metadata for the images of a cache, without a forward pass."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..cache import (
    FEATURES,
    SIGNATURES,
    CacheLocation,
    FeatureCache,
    Manifest,
    Matrix,
    Rows,
    Shard,
    Table,
    publish_file,
    publish_shards,
    refuse_input_as_output,
    remove_uncommitted,
    writer_lock,
)
from ..errors import ParameterError, check_path
from .labels import LabelOptions, Labels, LabelsLike, stored_labels
from .report import ExtractionReport, notes_on_classes
from .views import VIEWS, view_path


def label(
    cache: Path | str,
    labels: LabelsLike | None = None,
    *,
    path_column: str | None = None,
    label_column: str | None = None,
    label_pattern: str | None = None,
) -> FeatureCache:
    r"""Change labels and metadata of a cache, without embedding an image again.

    Images that the table does not name keep their labels and metadata, so that a table can hold corrections only, such
    as an edited ``suspects.csv``.

    Parameters
    ----------
    cache : path-like
        A file or a folder of shards, which is replaced. Caches of its augmented views are changed as well.
    labels : path-like, data frame or mapping, default=None
        Labels of images; see `extract_features`.
    path_column, label_column : str, default=None
        Columns of paths and labels. By default the one with a usual name, such as ``id`` and ``label``.
    label_pattern : str, default=None
        Regular expression that takes labels from file names, instead of a table: ``(?P<label>[a-z]+)_\d+``.

    Returns
    -------
    FeatureCache
        The new cache, open. Its ``report`` has notices.

    Raises
    ------
    CacheError
        The cache cannot be read; it is not changed.
    LabelsError
        The table cannot be read or does not fit the images.
    ParameterError, LockedError, OutputError
        See their names.

    See Also
    --------
    extract_features : Embed images with labels from a table.
    FeatureCache.with_labels : Change labels in memory.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from embedonce import extract_features, label
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / "images").mkdir()
    >>> for name in ("1", "2", "3"):
    ...     Image.new("RGB", (40, 40), "green").save(folder / "images" / f"{name}.png")
    >>> tiny = {"weights": "random:0", "alpha": 0.35, "image_size": 32}
    >>> cache = extract_features(folder / "images", folder / "trees.h5", **tiny)
    >>> cache.labels.tolist()
    [-1, -1, -1]
    >>> label(folder / "trees.h5", {"1": "ash", "2": "birch", "3": "ash"}).class_counts
    {'ash': 2, 'birch': 1}
    """
    options = LabelOptions(labels, path_column, label_column, label_pattern)
    options.check("label")
    if not options.given:
        raise ParameterError("parameter labels of label must be given, or label_pattern, got neither")
    location = CacheLocation.of(check_path("cache", "label", cache))
    refuse_input_as_output(location.path, labels if isinstance(labels, str | os.PathLike) else None)
    updated = _update(location, options)
    for view in VIEWS["dihedral"]:
        path = view_path(location.path, view)
        if path.exists():
            _update(CacheLocation.of(path), options).close()
    return updated


def _update(location: CacheLocation, options: LabelOptions) -> FeatureCache:
    if not location.exists():
        FeatureCache.open(location.path)  # raises the error
    with writer_lock(location):
        remove_uncommitted(location)
        with FeatureCache.open(location.path) as opened:
            labels = _changed(opened, options)
            changed = not labels.are_those_of(opened.table)
            tables = (_labelled(shard, labels) for shard in opened.shards)
            if changed and location.sharded:
                provenance = opened.provenance | {"labels": labels.source}
                publish_shards(location, [], tables, Manifest(opened.fingerprint, provenance, labels.class_names, []))
            elif changed:
                publish_file(location, next(tables))
    updated = FeatureCache.open(location.path)
    updated.report = ExtractionReport(
        unchanged=len(updated), published=changed, notes=labels.notes + notes_on_classes(updated.class_counts)
    )
    return updated


def _changed(cache: FeatureCache, options: LabelOptions) -> Labels:
    """Return the labels of all images: the new ones, and the stored ones of images without a new one."""
    paths = cache.files.paths
    new, stored = options.read(paths), stored_labels([cache.table])
    named = [path for path in paths if path in new.names or any(path in column for column in new.columns.values())]
    labels = stored.replaced(named, new)
    kept = len(paths) - len(named)
    notes = [note for note in new.notes if " have no label in " not in note]
    if kept:
        notes.append(f"{kept:,} of {len(paths):,} images are not in it and keep their labels")
    return replace(labels, source=_source(cache, new), notes=notes)


def _source(cache: FeatureCache, new: Labels) -> dict[str, object]:
    about = cache.provenance.get("labels", {"source": "folders"})
    about = about if isinstance(about, dict) else {}
    edited = about.get("source") in ("folders", "split folders", "edited")
    kept = {name: about[name] for name in ("layout", "given_split") if name in about}
    table = new.source.get("table", new.source.get("pattern"))
    return new.source | kept | {"source": "edited" if edited else "table", "table": table}


def _labelled(shard: Shard, labels: Labels) -> Table:
    """Return the rows of a shard with other labels and metadata."""
    table, class_names = shard.table, labels.class_names
    paths = table.files.paths
    return replace(
        table,
        provenance=table.provenance | {"labels": labels.source},
        class_names=class_names,
        labels=labels.codes(paths, class_names),
        features=_StoredMatrix(shard, FEATURES),
        signatures=_StoredMatrix(shard, SIGNATURES) if shard.has(SIGNATURES) else None,
        metadata=labels.metadata(paths),
    )


class _StoredMatrix:
    """A matrix of a shard: a `RowSource`."""

    def __init__(self, shard: Shard, matrix: Matrix) -> None:
        self._shard, self._matrix = shard, matrix
        self.shape = (len(shard), shard.width(matrix))

    def read_rows(self, start: int, end: int) -> Rows:
        """Return the rows from ``start`` to ``end``."""
        return self._shard.rows(np.arange(start, end), self._matrix)
