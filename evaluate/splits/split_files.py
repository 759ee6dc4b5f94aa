"""Splits in CSV files: files that embedonce wrote, or a column of any table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...cache import FeatureCache, display, write_atomically
from ...errors import SplitError
from ..shared import as_csv, find_path, format_examples, is_missing, read_header, read_table
from .split import Split

_FOLD = re.compile(r"([0-9]+)(\.0*)?")


def write_split(split: Split, cache: FeatureCache, path: Path | str) -> None:
    """Write a split as CSV with the columns ``path,part``; ``part`` is ``train`` or ``test``."""
    parts = sorted([(int(row), "train") for row in split.train] + [(int(row), "test") for row in split.test])
    write_atomically(path, as_csv(["path", "part"], ([cache.paths[row], part] for row, part in parts)))


def write_folds(splits: Sequence[Split], cache: FeatureCache, path: Path | str) -> None:
    """Write the folds of all repeats as CSV with the columns ``path,fold`` or ``path,fold_0,fold_1,…``."""
    repeats = sorted({split.repeat or 0 for split in splits})
    header = ["fold"] if len(repeats) == 1 else [f"fold_{number}" for number in range(len(repeats))]
    table: list[list[object]] = [[name, *[""] * len(repeats)] for name in cache.paths]
    for split in splits:
        for row in split.test:
            table[row][1 + repeats.index(split.repeat or 0)] = split.fold
    write_atomically(path, as_csv(["path", *header], (row for row in table if any(value != "" for value in row[1:]))))


def read_splits(path: Path, cache: FeatureCache, column: str | None = None) -> list[Split]:
    """Read a split, or the folds of all repeats, from a column, by default ``part``, ``fold`` or ``fold_N``."""
    header = read_header(path, "split file")
    found = {name.strip().lower(): name for name in header}
    folds = [name for low, name in found.items() if re.fullmatch(r"fold(_[0-9]+)?", low)]
    columns = [column] if column else ["part"] if "part" in found else folds or ["part"]
    table = _matched(path, cache, columns)
    values = {value.strip().lower() for _, _, value in table[columns[0]]}
    numbers = all(_FOLD.fullmatch(value) or is_missing(value) for value in values)
    if values & {"train", "test"} or (columns == ["part"] and not column and not numbers):
        return [read_split(path, cache, column)]
    return [fold for repeat, name in enumerate(columns) for fold in _folds(path, name, table[name], repeat)]


def read_split(path: Path, cache: FeatureCache, column: str | None = None) -> Split:
    """Read a split from a column of a file, by default ``part``, and match it with the cache by path."""
    # images that the file does not name, or that have no value in a given column, belong to neither part
    name = column or "part"
    parts: dict[str, list[int]] = {"train": [], "test": []}
    for line, row, value in _matched(path, cache, [name])[name]:
        if value.strip().lower() in parts:
            parts[value.strip().lower()].append(row)
        elif not column or not is_missing(value):
            raise SplitError(f"{display(str(path))}, line {line}: {display(name)} must be train or test, got {value!r}")
    for part, members in parts.items():
        if not members:
            raise SplitError(f"the split file {display(str(path))} has no {part} images")
    return Split(np.array(parts["train"]), np.array(parts["test"]), "file")


def _folds(path: Path, column: str, lines: list[tuple[int, int, str]], repeat: int) -> list[Split]:
    """Return the folds of one column in the order of their values, by number if all are whole numbers."""
    members: dict[str, list[int]] = {}
    for _, row, value in lines:
        if not is_missing(value):
            number = _FOLD.fullmatch(value.strip())  # pandas writes 3.0 for 3 in a column with missing values
            members.setdefault(number[1] if number else value.strip(), []).append(row)
    if len(members) < 2:
        raise SplitError(
            f"the split file {display(str(path))}: column {display(column)} must have at least 2 folds, got "
            f"{len(members)}"
        )
    numbered = all(re.fullmatch(r"[0-9]+", value) for value in members)
    values = sorted(members, key=lambda value: (int(value) if numbered else 0, value))
    tests = [np.array(members[value], np.intp) for value in values]
    every = np.concatenate(tests)
    return [
        Split(np.setdiff1d(every, test), test, "file", fold=fold, folds=len(values), repeat=repeat)
        for fold, test in enumerate(tests)
    ]


def _matched(path: Path, cache: FeatureCache, columns: Sequence[str]) -> dict[str, list[tuple[int, int, str]]]:
    """Return line, row of the cache and value of every line of a file, by column."""
    rows = read_table(path, "split file", ("path", *columns))
    index = {name: row for row, name in enumerate(cache.paths)}
    # a file may name images that could not be embedded
    rejected = {name for name, _ in cache.rejects}
    known = index.keys() | rejected
    for _, row in rows:
        row["path"] = find_path(row["path"], known)
    unknown = [row["path"] for _, row in rows if row["path"] not in known]
    if unknown:
        raise SplitError(
            f"the split file {display(str(path))} names {len(unknown)} path(s) that the cache does not have: "
            f"{format_examples(unknown)}. Write paths relative to the cache's image folder"
        )
    seen: set[str] = set()
    matched: dict[str, list[tuple[int, int, str]]] = {column: [] for column in columns}
    for line, row in rows:
        if row["path"] in seen:
            raise SplitError(f"{display(str(path))}, line {line}: {display(row['path'])} is named twice")
        seen.add(row["path"])
        if row["path"] in index:
            for column in columns:
                matched[column].append((line, index[row["path"]], row[column] or ""))
    return matched
