"""What differs between two comparisons that were saved."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...cache import display
from ...errors import ParameterError
from ..metrics import METRICS, compare_pair
from .results_json import FORMAT, FORMAT_VERSION

Predictions = dict[str, dict[str, tuple[bool, str]]]


def diff_runs(a: Path | str, b: Path | str) -> dict[str, Any]:
    """Compare two folders of results.

    Parameters
    ----------
    a, b : path-like
        Folders that ``embedonce compare`` wrote.

    Returns
    -------
    dict
        ``settings``: per setting that differs (features, classes, images, split, seed, versions, parameters of a
        head) its two values; ``heads``: for every head of both runs the scores of ``a`` and of ``b`` and ``b - a``,
        and ``paired``, what :func:`embedonce.evaluate.metrics.paired_tests.compare_pair` says of ``b`` and ``a`` on
        the test images of both, by groups where both runs knew the same ones; ``only_a`` and ``only_b``: heads of one
        run alone.

    Raises
    ------
    ParameterError
        When a folder holds no results, or those of a later format.
    """
    first, second = _results(Path(a)), _results(Path(b))
    heads_a = {head["head"]: head for head in first["heads"]}
    heads_b = {head["head"]: head for head in second["heads"]}
    predictions = _predictions(Path(a)), _predictions(Path(b))
    shared = [name for name in heads_a if name in heads_b]
    compared = []
    for name in shared:
        row: dict[str, Any] = {"head": name}
        for score in METRICS:
            # results of an earlier version lack the scores that came later
            one, two = heads_a[name].get(score), heads_b[name].get(score)
            row[score] = {"a": one, "b": two, "difference": None if None in (one, two) else two - one}
        row["paired"] = _paired(*(part.get(name, {}) for part in predictions))
        compared.append(row)
    return {
        "settings": _settings(first, second, shared),
        "heads": compared,
        "only_a": [name for name in heads_a if name not in heads_b],
        "only_b": [name for name in heads_b if name not in heads_a],
    }


def _results(folder: Path) -> dict[str, Any]:
    path = folder / "results.json"
    try:
        found = json.loads(path.read_text("ascii"))
    except (OSError, ValueError) as error:
        raise ParameterError(
            f"{display(str(folder))} must be a folder that embedonce compare wrote, with results.json: {error}"
        ) from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ParameterError(f"{display(str(path))} must hold results of embedonce compare, got another format")
    version = found.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise ParameterError(
            f"{display(str(path))}: its format version is {version!r}, this embedonce reads up to {FORMAT_VERSION}; "
            "use the embedonce that wrote it, or a newer one"
        )
    return found


def _settings(first: Mapping[str, Any], second: Mapping[str, Any], shared: list[str]) -> dict[str, dict[str, Any]]:
    def flat(results: Mapping[str, Any]) -> dict[str, Any]:
        cache, split = results["cache"], results["split"]
        found = {"images": cache["images"], "classes": cache["classes"]}
        found |= {f"features: {key}": value for key, value in cache["fingerprint"].items()}
        found |= {f"split: {key}": split.get(key) for key in ("method", "seed", "train", "test", "folds", "repeats")}
        found |= {"groups": split.get("groups", {}).get("group_digest")}
        found |= {f"version: {key}": value for key, value in results["made"]["versions"].items()}
        for head in results["heads"]:
            if head["head"] in shared:
                found |= {f"{head['head']}: {key}": value for key, value in head["parameters"].items()}
        return found

    one, two = flat(first), flat(second)
    return {
        key: {"a": one.get(key), "b": two.get(key)}
        for key in dict.fromkeys((*one, *two))
        if one.get(key) != two.get(key)
    }


def _predictions(folder: Path) -> Predictions:
    """Return, by head and path, whether the prediction was right, and the image's group."""
    found: Predictions = {}
    path = folder / "predictions.csv"
    if not path.is_file():
        return found
    csv.field_size_limit(2**24)
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        for row in csv.DictReader(file):
            right = row["true"] == row["predicted"]
            found.setdefault(row["head"], {})[row["path"]] = right, row.get("group") or ""
    return found


def _paired(a: dict[str, tuple[bool, str]], b: dict[str, tuple[bool, str]]) -> dict[str, Any] | None:
    paths = [path for path in a if path in b]
    if not paths:
        return None
    right_a, right_b = (np.array([part[path][0] for path in paths]) for part in (a, b))
    names = [part[path][1] for path in paths for part in (a, b)]
    groups = None
    if all(names) and names[::2] == names[1::2]:
        groups = np.unique(names[::2], return_inverse=True)[1]
    return {"images": len(paths)} | compare_pair(right_b, right_a, groups)
