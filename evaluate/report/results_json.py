"""Content of results.json."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..metrics import class_intervals, probability_scores
from ..shared import describe_cache, how_it_was_made, image_digest, labelled_digest, without_nan

if TYPE_CHECKING:
    from ..scoring import ComparisonData

FORMAT = "embedonce-results"
FORMAT_VERSION = 1


def comparison_results(comparison: ComparisonData) -> dict[str, Any]:
    """Return everything that was measured, JSON-serialisable."""
    best, cache = comparison.best(), comparison.cache
    digests = {"image_digest": image_digest(cache), "test_digest": labelled_digest(cache, comparison.split.test)}
    results = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "made": how_it_was_made(),
        "cache": describe_cache(cache),
        "split": comparison.split.to_dict() | digests,
        "notes": comparison.notes,
        "skewed": comparison.skewed,
        "heads": _heads(comparison),
        "best": None if best is None else best.to_dict(),
        "failed": [{"head": name, "error": str(error)} for name, error in comparison.failed.items()],
        "differences": comparison.differences.to_dict(),
        "phase_seconds": comparison.timings,
    }
    if comparison.fingerprint:
        results["fingerprint"] = comparison.fingerprint
    if comparison.earlier is not None:
        results["earlier_runs"] = comparison.earlier.to_dict()
    if comparison.learning_curve:
        results["label_budget"] = comparison.learning_curve.to_dict()
    if comparison.learning_outlook is not None:
        results["learning_outlook"] = comparison.learning_outlook.to_dict()
    if comparison.overlap is not None and comparison.overlap.independent is not None:
        independent = comparison.overlap.independent
        about = {"images": len(independent.predicted), "scores": independent.scores, "intervals": independent.intervals}
        results["independent"] = about
    if comparison.head_seeds:
        results["head_seeds"] = comparison.head_seeds.to_dict()
    if comparison.own_metrics:
        results["own_metrics"] = [own.to_dict() for own in comparison.own_metrics.values()]
    if comparison.subgroups:
        results["subgroups"] = comparison.subgroups.to_dict()
    if comparison.caches:
        results["caches"] = comparison.caches.to_dict()
    if comparison.shortcuts is not None:
        results["shortcuts"] = comparison.shortcuts.to_dict()
    if comparison.external:
        results["external"] = [one.to_dict() for one in comparison.external]
    other = comparison.leaky or comparison.grouped
    if other is not None:
        results["leak_gap"] = comparison.leakage_gap.to_dict()
        results[other.split.method] = {
            "split": other.split.to_dict(),
            "notes": other.notes,
            "heads": _heads(other),
            "differences": other.differences.to_dict(),
        }
    return results


def _heads(comparison: ComparisonData) -> list[dict[str, Any]]:
    heads = []
    true = comparison.cache.labels[comparison.split.test].astype(np.intp)
    for result in comparison.results:
        entry: dict[str, Any] = {"head": result.name, "parameters": _parameters(result.head)}
        entry |= result.scores | {"intervals": result.intervals}
        of_classes = result.scores["per_class"]
        intervals = class_intervals(true, result.predicted, len(of_classes), comparison.test_groups)
        entry["per_class"] = [one | {"intervals": ends} for one, ends in zip(of_classes, intervals, strict=True)]
        if result.probabilities is not None:
            entry |= probability_scores(true, result.probabilities, comparison.test_groups)
        if result.folds:
            entry["rounds"] = result.folds.to_dict()
        if result.tuning:
            entry["tuning"] = result.tuning.to_dict()
        entry |= {"fit_seconds": result.fit_seconds, "predict_seconds": result.predict_seconds}
        if result.history:
            entry["history"] = without_nan(result.history)
        heads.append(entry)
    return heads


def _parameters(head: Any) -> dict[str, Any]:
    """Return the parameters of a head, those of heads inside it too."""
    from ...heads import CalibratedHead

    if isinstance(head, CalibratedHead):
        return _parameters(head.head) | {"calibrate": head.method}
    return {name: _as_plain(value) for name, value in head.get_params().items()}


def _as_plain(value: Any) -> Any:
    if hasattr(value, "get_params"):
        return type(value).__name__
    return value if _is_plain(value) else repr(value)


def _is_plain(value: Any) -> bool:
    if isinstance(value, float):
        return bool(np.isfinite(value))
    return value is None or isinstance(value, (bool, int, str))
