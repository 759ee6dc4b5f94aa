"""The ledger of a cache, a file next to it: which test images were scored, when, with which results.

The best of many scores of the same images is too high by chance. One comparison corrects for its own heads; only the
ledger knows of those before it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache, append_line, display, read_regular
from ...errors import OutputError
from ..metrics import leading_metric
from ..shared import image_digest, labelled_digest
from .earlier_runs import EarlierRuns
from .results import HeadResult

FORMAT = "embedonce-ledger"
FORMAT_VERSION = 1


def record_scores(
    path: Path | None,
    cache: FeatureCache,
    rows: npt.NDArray[np.intp],
    results: Sequence[HeadResult],
    command: str,
    split: str,
    seed: int | None = None,
) -> tuple[EarlierRuns | None, list[str]]:
    """Add the scores of test rows to the ledger next to ``path``; return the earlier runs, and notes.

    ``path`` is that of the cache that the rows are from; None, for a cache in memory, has no ledger. ``split`` is the
    method of the split.
    """
    if path is None or not results:
        return None, []
    ledger = path.with_name(f"{path.name}.ledger.jsonl")
    metric = leading_metric(cache.labels)
    order = np.argsort(cache.files.hashes[rows].view("S32").ravel(), kind="stable")
    scores = {result.name: float(result.scores[metric]) for result in results}
    digests = {result.name: _digest(cache, result, order) for result in results}
    best = max(scores, key=scores.__getitem__)
    entry = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": command,
        "tested": image_digest(cache, rows),
        "test_digest": labelled_digest(cache, rows),
        "image_digest": image_digest(cache),
        "test_images": len(rows),
        "split": split,
        "seed": seed,
        "metric": metric,
        "best": {"head": best, "score": scores[best]},
        "heads": {name: {"score": scores[name], "predictions": digests[name]} for name in scores},
    }
    notes, content = [], b""
    try:
        content = append_line(ledger, json.dumps(entry).encode("ascii"))
    except OutputError as error:
        notes = [f"this run is not counted among those that scored these test images: {error.strerror}"]
        with contextlib.suppress(OSError):
            content = read_regular(ledger)
    lines, damaged = _lines(content, ledger)
    return _earlier(ledger, lines, entry), notes + damaged


def _earlier(ledger: Path, lines: Sequence[dict[str, Any]], entry: dict[str, Any]) -> EarlierRuns:
    same = [line for line in lines if line["tested"] == entry["tested"]]
    others = [
        line for line in lines if line["tested"] != entry["tested"] and line["image_digest"] != entry["image_digest"]
    ]
    runs, results = _count_new(same, _results(entry))
    return EarlierRuns(ledger.name, entry["test_images"], runs, results, _count_new(others, frozenset())[0])


def _count_new(lines: Sequence[dict[str, Any]], known: frozenset[str]) -> tuple[int, int]:
    """Return the number of lines with results that are new, and the number of these results."""
    runs, first = 0, len(known)
    for line in lines:
        runs += not _results(line) <= known
        known |= _results(line)
    return runs, len(known) - first


def _results(line: dict[str, Any]) -> frozenset[str]:
    return frozenset(head["predictions"] for head in line["heads"].values())


def _digest(cache: FeatureCache, result: HeadResult, order: npt.NDArray[np.intp]) -> str:
    """Return a digest of the predicted class of each test image, in the order of their content."""
    names = "\n".join([*cache.class_names, ""]).encode("utf-8", "surrogatepass")
    predicted = result.predicted[order].astype("<i4").tobytes()
    return hashlib.sha256(names + predicted).hexdigest()[:16]


def _lines(content: bytes, path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the lines of a ledger, and a note on those that cannot be read."""
    lines, damaged = [], []
    for number, text in enumerate(content.split(b"\n"), start=1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
            known = line["format"] == FORMAT and line["format_version"] <= FORMAT_VERSION
            known = known and isinstance(line["tested"], str) and isinstance(line["image_digest"], str)
            known = known and all(isinstance(head["predictions"], str) for head in line["heads"].values())
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            known = False
        if known:
            lines.append(line)
        else:
            damaged.append(number)
    if not damaged:
        return lines, []
    several = len(damaged) > 1
    places = f"{len(damaged):,} lines, such as line {damaged[0]:,}," if several else f"line {damaged[0]:,}"
    end = f"cannot be read and {'are' if several else 'is'} not counted. The file keeps {'them' if several else 'it'}"
    return lines, [f"{places} of {display(path.name)} {end}"]
