"""Provenance of a result (command, time, versions, cache), and its JSON."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import shlex
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache, info


def how_it_was_made() -> dict[str, Any]:
    """Return the command, the time and the versions of a result."""
    versions = {"python": platform.python_version()} | package_versions()
    return {"command": sys.argv, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "versions": versions}


def as_typed(words: list[str]) -> str:
    """Return a command as it is typed, without the folder in which the program is installed."""
    program = Path(words[0])
    first = [program.name or "python"]
    if program.name == "__main__.py":  # the folder of a checkout may have any name
        package = program.parent == Path(__file__).parents[2]
        first = ["python", "-m", "embedonce" if package else program.parent.name]
    return shlex.join([*first, *words[1:]])


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that decide scores."""
    versions = {}
    for package in ("embedonce", "numpy", "scikit-learn", "tensorflow", "keras"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def describe_cache(cache: FeatureCache) -> dict[str, Any]:
    """Return content and origin of a cache for results.json: `CacheInfo` without the list of rejects."""
    document = info(cache).to_dict()
    document["unlabelled"] += cache.unlabelled  # those that were left out
    del document["reject_reasons"]
    return document


def image_digest(cache: FeatureCache, rows: npt.NDArray[np.intp] | None = None) -> str:
    """Return a digest of the content of some images, by default all, in any order, as hexadecimal text."""
    hashes = cache.files.hashes if rows is None else cache.files.hashes[rows]
    return _digest([content.tobytes() for content in hashes])


def labelled_digest(cache: FeatureCache, rows: npt.NDArray[np.intp]) -> str:
    """Return a digest of the content and the classes of some images, in any order, as hexadecimal text."""
    names = [str(name).encode("utf-8", "surrogatepass") for name in cache.class_names]
    hashes, labels = cache.files.hashes, cache.labels
    return _digest([hashes[row].tobytes() + names[labels[row]] for row in rows])


def _digest(parts: list[bytes]) -> str:
    return hashlib.sha256(b"\n".join(sorted(parts))).hexdigest()


def as_json(value: Any) -> bytes:
    """Return strict JSON, indented, ASCII (names that are not UTF-8 become lone surrogate escapes)."""
    return (json.dumps(value, indent=1, default=_as_builtin, allow_nan=False) + "\n").encode("ascii")


def without_nan(value: Any) -> Any:
    """Return a value, or a dict or list of values, with None for NaN and infinity, which strict JSON does not have."""
    if isinstance(value, dict):
        return {name: without_nan(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _as_builtin(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    return str(value)
