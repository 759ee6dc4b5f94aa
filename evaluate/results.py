"""What a comparison leaves on disk: results.json, predictions.csv, split.csv and the figures."""

from __future__ import annotations

import json
import platform
import re
import sys
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..cache.files import make_folder, write_atomically
from ..cache.reader import FeatureCache
from .label_errors import label_errors, suspects_csv
from .reliability import probability_scores
from .split import write_folds, write_split
from .tables import as_csv

if TYPE_CHECKING:
    from .comparison import Comparison, HeadResult

FORMAT = "embedonce-results"
FORMAT_VERSION = 1


def save_comparison(comparison: Comparison, folder: Path | str, *, maps: bool = False) -> list[Path]:
    """Write a comparison into a folder; files of the same names are replaced.

    ``report.html`` shows everything in one page that needs nothing else.
    ``results.json`` has every number, ``predictions.csv`` every prediction, ``split.csv`` the split, or the folds, as
    ``--split`` takes them; ``suspects.csv`` lists labels that are probably wrong; ``confusion.png`` shows all heads,
    ``confusion-HEAD.png`` and ``.csv`` one; ``curves-HEAD.png`` the training curves of a head that has them;
    ``scores``, ``roc``, ``precision-recall``, ``reliability`` and ``coverage`` are the report's figures. Every figure
    is there as ``.png`` and ``.svg``. With ``maps`` the report shows which places of wrongly classified images spoke
    for the class that a head saw, for heads that :func:`embedonce.explain` takes.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    OutputError
        When the folder or a file cannot be written.
    """
    from .plots import confusion_figure, history_figure, save_figure
    from .report import write_report
    from .report_figures import figures

    folder = make_folder(folder, "results")
    names = comparison.cache.class_names
    written = [folder / name for name in ("results.json", "predictions.csv", "split.csv", "suspects.csv")]
    write_atomically(written[0], as_json(comparison_results(comparison)))
    write_atomically(written[1], _predictions_csv(comparison))
    if comparison.splits:
        write_folds(comparison.splits, comparison.cache, written[2])
    else:
        write_split(comparison.split, comparison.cache, written[2])
    write_atomically(written[3], suspects_csv(label_errors(comparison)[1]))

    matrices = {result.name: result.scores["confusion"] for result in comparison.results}
    subtitles = {result.name: _subtitle(result) for result in comparison.results}
    drawn = {"confusion": confusion_figure(matrices, names, subtitles)} | figures(comparison)
    for result in comparison.results:
        stem = file_stem(result.name)
        drawn[f"confusion-{stem}"] = confusion_figure({result.name: matrices[result.name]}, names, subtitles)
        written.append(folder / f"confusion-{stem}.csv")
        write_atomically(written[-1], _confusion_csv(matrices[result.name], names))
        if result.history:
            drawn[f"curves-{stem}"] = history_figure({result.name: result.history})
    for name, figure in drawn.items():
        written += [folder / f"{name}.png", folder / f"{name}.svg"]
        save_figure(figure, written[-2])
        save_figure(figure, written[-1])
    written.append(write_report(comparison, folder / "report.html", maps=maps))
    return written


def comparison_results(comparison: Comparison) -> dict[str, Any]:
    """Return everything that was measured, JSON-serialisable."""
    results = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "made": how_it_was_made(),
        "cache": describe_cache(comparison.cache),
        "split": comparison.split.describe(),
        "notes": comparison.notes,
        "skewed": comparison.skewed,
        "heads": _heads(comparison),
        "differences": comparison.differences,
    }
    if comparison.budget:
        results["label_budget"] = comparison.budget
    if comparison.random is not None:
        other = comparison.random
        results["leak_gap"] = comparison.leak_gap
        results["random"] = {
            "split": other.split.describe(),
            "notes": other.notes,
            "heads": _heads(other),
            "differences": other.differences,
        }
    return results


def _heads(comparison: Comparison) -> list[dict[str, Any]]:
    heads = []
    for result in comparison.results:
        entry: dict[str, Any] = {"head": result.name, "parameters": _parameters(result.head)}
        entry |= result.scores | {"intervals": result.intervals}
        if result.probabilities is not None:
            true = comparison.cache.labels[comparison.split.test].astype(np.intp)
            entry |= probability_scores(true, result.probabilities)
        if result.rounds:
            entry["rounds"] = result.rounds
        if result.tuning:
            entry["tuning"] = result.tuning
        entry |= {"fit_seconds": result.fit_seconds, "predict_seconds": result.predict_seconds}
        if result.history:
            entry["history"] = result.history
        heads.append(entry)
    return heads


def how_it_was_made() -> dict[str, Any]:
    """Return the command, the time and the versions that a result was made with."""
    versions = {"python": platform.python_version()} | package_versions()
    return {"command": sys.argv, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "versions": versions}


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
    """Return what a cache holds and how it was made, JSON-serialisable."""
    images, width = cache.shape
    return {
        "path": str(cache.path),
        "images": images,
        "features": width,
        "classes": cache.class_counts,
        "rejects": len(cache.rejects),
        "fingerprint": cache.fingerprint,
        "provenance": cache.provenance,
    }


def as_json(value: Any) -> bytes:
    """Return strict JSON, indented, ASCII (names that are not UTF-8 become lone surrogate escapes)."""
    return (json.dumps(value, indent=1, default=_plain, allow_nan=False) + "\n").encode("ascii")


def file_stem(head: str) -> str:
    """Return a head's name as part of a file name: ``package.module:Class`` has a colon."""
    return re.sub(r"[^\w.+-]", "-", head)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    return str(value)


def _parameters(head: Any) -> dict[str, Any]:
    parameters = head.get_params(deep=False)
    return {name: value if _is_plain(value) else repr(value) for name, value in parameters.items()}


def _is_plain(value: Any) -> bool:
    if isinstance(value, float):
        return bool(np.isfinite(value))
    return value is None or isinstance(value, (bool, int, str))


def _subtitle(result: HeadResult) -> str:
    scores = result.scores
    return f"accuracy {scores['accuracy']:.4f}   macro F1 {scores['macro_f1']:.4f}"


def _predictions_csv(comparison: Comparison) -> bytes:
    """Return a line for every head and test image; with groups, they have a column."""
    cache, rows, groups = comparison.cache, comparison.split.test, comparison.groups
    names = cache.class_names
    of_row = [[] for _ in rows] if groups is None else [[groups.names[row]] for row in rows]

    def lines() -> Iterator[list[str]]:
        for result in comparison.results:
            for position, row in enumerate(rows):
                if result.probabilities is None:
                    shares = [""] * len(names)
                else:
                    shares = [f"{value:.6g}" for value in result.probabilities[position]]
                true, predicted = names[cache.labels[row]], names[result.predicted[position]]
                yield [result.name, cache.paths[row], true, predicted, *shares, *of_row[position]]

    group = [] if groups is None else ["group"]
    return as_csv(["head", "path", "true", "predicted", *(f"p_{name}" for name in names), *group], lines())


def _confusion_csv(matrix: list[list[int]], names: list[str]) -> bytes:
    rows = ([name, *counts] for name, counts in zip(names, matrix, strict=True))
    return as_csv(["true \\ predicted", *names], rows)
