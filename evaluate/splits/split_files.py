"""Splits in CSV files: files that embedonce wrote, or a column of any table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from ...cache import (
    FeatureCache,
    as_csv,
    counted,
    display,
    find_path,
    format_examples,
    is_missing,
    match_names,
    read_header,
    read_table,
    write_atomically,
)
from ...errors import SplitError
from ...extract import PARTS
from .groups import column_of
from .split import Split

_FOLD = re.compile(r"([0-9]+)(\.0*)?")


def write_split(split: Split, cache: FeatureCache, path: Path | str) -> None:
    """Write a split as CSV with the columns ``path,part``; ``part`` is ``train``, ``val`` or ``test``."""
    of_part = {"train": split.train, "val": split.validation, "test": split.test}
    parts = sorted((int(row), part) for part, rows in of_part.items() for row in rows)
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
    return _as_splits(f"the split file {display(str(path))}", _matched(path, cache, columns), bool(column))


def column_splits(cache: FeatureCache, column: str) -> list[Split]:
    """Return a split, or folds, by a column of a cache's metadata, given as ``@NAME``."""
    return _as_splits(f"the column {display(column)} of {cache.display_path}", _lines(cache, column), True)


def given_split(cache: FeatureCache) -> Split | None:
    """Return the split of the image folder; without labelled test images, its val images are tested."""
    about = cache.provenance.get("labels", {})
    if not isinstance(about, dict) or not about.get("given_split") or "split" not in cache.metadata:
        return None
    column = cache.metadata["split"]
    train, val, test = (np.flatnonzero(column == part) for part in ("train", "val", "test"))
    test, val = (test, val) if len(test) else (val, test)
    return Split(train, test, "given", validation=val) if len(train) and len(test) else None


def read_split(path: Path, cache: FeatureCache) -> Split:
    """Read a split from a file with the columns ``path,part``, or from a column of metadata, ``@NAME``."""
    if str(path).startswith("@"):
        (column, lines), *_ = _lines(cache, str(path)).items()
        return _parts(f"the column {display(column)} of {cache.display_path}", column, lines, True)
    return _parts(f"the split file {display(str(path))}", "part", _matched(path, cache, ["part"])["part"], False)


Lines: TypeAlias = "list[tuple[int, int, str]]"
"""Line of a file, or row, for messages; row of the cache; value."""


def _lines(cache: FeatureCache, column: str) -> dict[str, Lines]:
    values = column_of(cache, column)
    return {column: [(row, row, value) for row, value in enumerate(values)]}


def _as_splits(what: str, table: dict[str, Lines], given: bool) -> list[Split]:
    """Return the splits of columns; in a given one, images may have no value."""
    columns = list(table)
    values = {value.strip().lower() for _, _, value in table[columns[0]]}
    numbers = all(_FOLD.fullmatch(value) or is_missing(value) for value in values)
    if values & PARTS.keys() or (columns == ["part"] and not given and not numbers):
        return [_parts(what, columns[0], table[columns[0]], given)]
    return [fold for repeat, name in enumerate(columns) for fold in _folds(what, name, table[name], repeat)]


def _parts(what: str, column: str, lines: Lines, given: bool) -> Split:
    # images that a file does not name, or that have no value in a given column, belong to no part
    rows: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    for line, row, value in lines:
        if value.strip().lower() in PARTS:
            rows[PARTS[value.strip().lower()]].append(row)
        elif not given or not is_missing(value):
            raise SplitError(f"{what}, line {line}: {display(column)} must be train, val or test, got {value!r}")
    for part in ("train", "test"):
        if not rows[part]:
            remedy = ". To test on its val images, write test instead of val" if part == "test" and rows["val"] else ""
            raise SplitError(f"{what} has no {part} images{remedy}")
    return Split(np.array(rows["train"]), np.array(rows["test"]), "file", validation=np.array(rows["val"], np.intp))


def _folds(what: str, column: str, lines: Lines, repeat: int) -> list[Split]:
    """Return the folds of one column in the order of their values, by number if all are whole numbers."""
    members: dict[str, list[int]] = {}
    for _, row, value in lines:
        if not is_missing(value):
            number = _FOLD.fullmatch(value.strip())  # pandas writes 3.0 for 3 in a column with missing values
            members.setdefault(number[1] if number else value.strip(), []).append(row)
    if len(members) < 2:
        raise SplitError(f"{what}: column {display(column)} must have at least 2 folds, got {len(members)}")
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
    for _, row in rows:  # other columns do not count
        for name in row.keys() - {"path", *columns}:
            del row[name]
    ambiguous = match_names(rows, known, "path")
    if ambiguous:
        examples = [f"{display(name)} ({format_examples(images)})" for name, images in ambiguous.items()]
        listed = ", ".join(examples[:3]) + ", …" * (len(examples) > 3)
        raise SplitError(
            f"the split file {display(str(path))} does not tell the image of {counted(len(ambiguous), 'name(s)')}, "
            f"since several images have it: {listed}. Write their paths as in the cache into the file"
        )
    unknown = [row["path"] for _, row in rows if row["path"] not in known]
    if unknown:
        raise SplitError(
            f"the split file {display(str(path))} names {counted(len(unknown), 'path(s)')} that the cache does not "
            f"have: {format_examples(unknown)}. Write paths relative to the cache's image folder"
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
