"""Splits that stand in CSV files: written by us, or as a column of somebody's table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...cache import FeatureCache, display, write_atomically
from ...errors import SplitError
from ..shared import as_csv, format_examples, read_header, read_table
from .split import Split


def write_split(split: Split, cache: FeatureCache, path: Path | str) -> None:
    """Write a split as CSV with the columns ``path,part``; ``part`` is ``train`` or ``test``.

    Names that are not UTF-8 keep their bytes.

    Raises
    ------
    OutputError
        When the file cannot be written.
    """
    parts = sorted([(int(row), "train") for row in split.train] + [(int(row), "test") for row in split.test])
    write_atomically(path, as_csv(["path", "part"], ([cache.paths[row], part] for row, part in parts)))


def write_folds(splits: Sequence[Split], cache: FeatureCache, path: Path | str) -> None:
    """Write folds as CSV with the columns ``path,fold``; for repeated ones ``path,fold_0,fold_1,…``.

    Folds are numbered from 0. Names that are not UTF-8 keep their bytes.

    Parameters
    ----------
    splits : sequence of Split
        Every fold of every repeat.
    cache : FeatureCache
    path : path-like

    Raises
    ------
    OutputError
        When the file cannot be written.
    """
    repeats = sorted({split.repeat or 0 for split in splits})
    header = ["fold"] if len(repeats) == 1 else [f"fold_{number}" for number in range(len(repeats))]
    table: list[list[object]] = [[name, *[""] * len(repeats)] for name in cache.paths]
    for split in splits:
        for row in split.test:
            table[row][1 + repeats.index(split.repeat or 0)] = split.fold
    write_atomically(path, as_csv(["path", *header], (row for row in table if any(value != "" for value in row[1:]))))


def read_split(path: Path, cache: FeatureCache, column: str | None = None) -> Split:
    """Read a split file and match it with the cache by path.

    Images of the cache that the file does not name belong to neither part.

    Parameters
    ----------
    path : Path
        CSV with a column ``path``.
    cache : FeatureCache
    column : str, optional
        The column that says ``train`` or ``test``; ``part`` by default. In a column that is named here, rows without a
        value belong to neither part.

    Raises
    ------
    SplitError
        When the file cannot be read, names a path twice or a part other than train and test, names paths
        that the cache does not have, or leaves a part empty.
    """
    shown = display(str(path))
    name = column or "part"
    parts: dict[str, list[int]] = {"train": [], "test": []}
    for line, row, value in _matched(path, cache, [name])[name]:
        if value not in parts:
            if column and not value.strip():
                continue
            raise SplitError(f"{shown}, line {line}: {display(name)} must be train or test, got {value!r}")
        parts[value].append(row)
    for part, members in parts.items():
        if not members:
            raise SplitError(f"the split file {shown} has no {part} images")
    return Split(np.sort(np.array(parts["train"])), np.sort(np.array(parts["test"])), "file")


def fold_columns(path: Path) -> list[str]:
    """Return the columns of a file that hold folds by their names: ``fold``, or ``fold_0``, ``fold_1`` and so on.

    A file with a column ``part`` is a single split and has none.

    Raises
    ------
    SplitError
        When the file cannot be read.
    """
    header = read_header(path, "split file")
    return [] if "part" in header else [name for name in header if re.fullmatch(r"fold(_[0-9]+)?", name)]


def read_folds(path: Path, cache: FeatureCache, column: str | None = None) -> list[Split]:
    """Read predefined folds and match them with the cache by path.

    Every value of the column is a fold, tested in one split and trained on in the others. Rows without a value belong
    to none, and neither do images of the cache that the file does not name.

    Parameters
    ----------
    path : Path
        CSV with a column ``path``.
    cache : FeatureCache
    column : str, optional
        The column of the folds. By default ``fold``, or ``fold_0``, ``fold_1``, … of repeated ones.

    Returns
    -------
    list of Split
        The folds of each repeat in the order of their values, by number if all are whole numbers.

    Raises
    ------
    SplitError
        When the file cannot be read, names a path twice, names paths that the cache does not have, or has
        fewer than two folds.
    """
    shown = display(str(path))
    columns = [column] if column else fold_columns(path)
    if not columns:
        raise SplitError(
            f"the split file {shown} must be CSV with the columns path,fold; or name the column of the folds"
        )
    table = _matched(path, cache, columns)
    splits = []
    for repeat, name in enumerate(columns):
        members: dict[str, list[int]] = {}
        for _, row, value in table[name]:
            if value.strip():
                members.setdefault(value.strip(), []).append(row)
        if len(members) < 2:
            raise SplitError(
                f"the split file {shown}: column {display(name)} must have at least 2 folds, got {len(members)}"
            )
        numbered = all(re.fullmatch(r"[0-9]+", value) for value in members)
        values = sorted(members, key=lambda value: (int(value) if numbered else 0, value))
        everything = np.sort(np.concatenate([np.array(rows, np.intp) for rows in members.values()]))
        for fold, value in enumerate(values):
            test = np.sort(np.array(members[value], np.intp))
            train = np.setdiff1d(everything, test)
            splits.append(Split(train, test, "file", fold=fold, folds=len(values), repeat=repeat))
    return splits


def _matched(path: Path, cache: FeatureCache, columns: Sequence[str]) -> dict[str, list[tuple[int, int, str]]]:
    """Return line, row of the cache and value of every line of a file, by column."""
    shown = display(str(path))
    rows = read_table(path, "split file", ("path", *columns))
    index = {name: row for row, name in enumerate(cache.paths)}
    # an image that was no image when the cache was made is nobody's mistake here
    rejected = {name for name, _ in cache.rejects}
    unknown = [row["path"] for _, row in rows if row["path"] not in index and row["path"] not in rejected]
    if unknown:
        raise SplitError(
            f"the split file {shown} names {len(unknown)} path(s) that the cache does not have: "
            f"{format_examples(unknown)}; "
            "paths are relative to the cache's image folder"
        )
    seen: set[str] = set()
    matched: dict[str, list[tuple[int, int, str]]] = {column: [] for column in columns}
    for line, row in rows:
        if row["path"] in seen:
            raise SplitError(f"{shown}, line {line}: {display(row['path'])} stands there twice")
        seen.add(row["path"])
        if row["path"] in index:
            for column in columns:
                matched[column].append((line, index[row["path"]], row[column] or ""))
    return matched
