"""Splits of a cache's images into a training and a test part, and their files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..cache.errors import SplitError
from ..cache.files import write_atomically
from ..cache.names import display
from ..cache.reader import FeatureCache

TEST_FRACTION = 0.2


@dataclass(frozen=True)
class Split:
    """Which rows of a cache are for training and which for testing.

    Attributes
    ----------
    train, test : ndarray of intp
        Row numbers, sorted. No row is in both.
    method : str
        ``random``, ``file`` or ``none`` (every row is for training).
    seed : int or None
        Of a random split.
    """

    train: npt.NDArray[np.intp]
    test: npt.NDArray[np.intp]
    method: str
    seed: int | None = None


def make_split(cache: FeatureCache, split: str | Path, seed: int) -> Split:
    """Split a cache as asked.

    Parameters
    ----------
    cache : FeatureCache
    split : str or path-like
        ``random`` (stratified by class, 80 % for training) or the path of a split file.
    seed : int
        Of the random split.

    Raises
    ------
    SplitError
        When the split is impossible or does not fit the cache.
    """
    if str(split) == "random":
        return random_split(cache, seed)
    if Path(split).is_file():
        return read_split(Path(split), cache)
    raise SplitError(f"parameter split must be random or the path of a split file, got {display(str(split))!r}")


def random_split(cache: FeatureCache, seed: int, test_fraction: float = TEST_FRACTION) -> Split:
    """Split at random, every class in the same proportion and on both sides.

    Raises
    ------
    SplitError
        When a class has fewer than two images.
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**32:
        raise SplitError(f"parameter seed of the split must be a whole number from 0 to {2**32 - 1}, got {seed!r}")
    counts = cache.class_counts
    small = [f"{display(name)} has {count}" for name, count in counts.items() if count < 2]
    if small:
        raise SplitError(
            f"a split by class needs at least 2 images in every class, but {', '.join(small)}; "
            "add images or remove the class folder, then run embedonce extract again"
        )
    generator = np.random.default_rng(int(seed))
    train, test = [], []
    for label in np.unique(cache.labels):
        rows = generator.permutation(np.flatnonzero(cache.labels == label))
        # scikit-learn's stratified splitters can leave a small class without a test image
        count = min(max(round(test_fraction * len(rows)), 1), len(rows) - 1)
        test.append(rows[:count])
        train.append(rows[count:])
    return Split(np.sort(np.concatenate(train)), np.sort(np.concatenate(test)), "random", int(seed))


def every_row(cache: FeatureCache) -> Split:
    """Return the split that trains on everything and tests on nothing."""
    return Split(np.arange(len(cache)), np.zeros(0, np.intp), "none")


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


def as_csv(header: list[str], rows: Iterable[Sequence[object]]) -> bytes:
    """Return a table as CSV in UTF-8; names that are not UTF-8 keep their bytes."""
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(header)
    table.writerows(rows)
    return text.getvalue().encode("utf-8", "surrogateescape")


def read_split(path: Path, cache: FeatureCache) -> Split:
    """Read a split file and match it with the cache by path.

    Images of the cache that the file does not name belong to neither part.

    Raises
    ------
    SplitError
        When the file cannot be read, names a path twice or a part other than train and test, names paths
        that the cache does not have, or leaves a part empty.
    """
    shown = display(str(path))
    try:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    except (OSError, csv.Error) as error:
        raise SplitError(f"cannot read the split file {shown}: {error}") from error
    if not rows or "path" not in rows[0] or "part" not in rows[0]:
        raise SplitError(f"the split file {shown} must be CSV with the columns path,part")
    index = {name: row for row, name in enumerate(cache.paths)}
    parts: dict[str, list[int]] = {"train": [], "test": []}
    unknown = [row["path"] for row in rows if row["path"] not in index]
    if unknown:
        examples = ", ".join(display(str(name)) for name in unknown[:3]) + (", …" if len(unknown) > 3 else "")
        raise SplitError(
            f"the split file {shown} names {len(unknown)} path(s) that the cache does not have: {examples}"
        )
    seen: set[str] = set()
    for number, row in enumerate(rows, start=2):
        if row["part"] not in parts:
            raise SplitError(f"{shown}, line {number}: part must be train or test, got {row['part']!r}")
        if row["path"] in seen:
            raise SplitError(f"{shown}, line {number}: {display(row['path'])} stands there twice")
        seen.add(row["path"])
        parts[row["part"]].append(index[row["path"]])
    for part, members in parts.items():
        if not members:
            raise SplitError(f"the split file {shown} has no {part} images")
    return Split(np.sort(np.array(parts["train"])), np.sort(np.array(parts["test"])), "file")


def identical_in_training(split: Split, cache: FeatureCache) -> int:
    """Return how many test images are byte for byte a copy of a training image."""
    digests = [digest.tobytes() for digest in cache.files.hashes]
    training = {digests[row] for row in split.train}
    return sum(digests[row] in training for row in split.test)
