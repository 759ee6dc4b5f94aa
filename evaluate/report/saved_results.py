"""Results of a comparison that were saved, read back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache import display, kind_of_path, read_regular
from ...errors import HeadError, ParameterError, check_choice, check_path
from ..metrics import METRICS
from ..shared import Record, Records
from .results_json import FORMAT, FORMAT_VERSION


@dataclass(frozen=True)
class SavedScore(Record):
    """Scores of one head in a saved comparison; ``low`` and ``high`` are ends of the interval of ``score``."""

    head: str
    metric: str
    score: float | None
    low: float | None
    high: float | None
    scores: dict[str, float | None]
    fit_seconds: float | None
    predict_seconds: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return the values by name, all scores among them."""
        about = super().to_dict()
        return {name: value for name, value in about.items() if name != "scores"} | self.scores


@dataclass(frozen=True, eq=False)
class SavedResults:
    """Results of a comparison in a folder.

    Attributes
    ----------
    folder : Path
    content : dict
        All of ``results.json``.

    See Also
    --------
    embedonce.load_results : Returns it.
    embedonce.leaderboard : One table of many.
    """

    folder: Path
    content: dict[str, Any]

    @property
    def ranked_by(self) -> str:
        """Score that orders the heads: ``accuracy``, or ``balanced_accuracy`` when classes are skewed."""
        return "balanced_accuracy" if self.content.get("skewed") else "accuracy"

    @property
    def notes(self) -> list[str]:
        """Facts that limit what the scores say."""
        return list(self.content.get("notes", []))

    @cached_property
    def table(self) -> Records[SavedScore]:
        """Scores of all heads, the best first."""
        return self.scores(self.ranked_by)

    @property
    def signs(self) -> dict[str, int]:
        """1 for every score of which more is better, else -1, those of the user too."""
        own = {one["name"]: 1 if one["higher_is_better"] else -1 for one in self.content.get("own_metrics", ())}
        return {name: metric.sign for name, metric in METRICS.items()} | own

    def scores(self, metric: str) -> Records[SavedScore]:
        """Return the scores of all heads, the best by a score first.

        Raises
        ------
        ParameterError
            When the comparison has no such score.
        """
        check_choice("metric", "SavedResults.scores", metric, self.signs)
        rows = []
        for head in self.content["heads"]:
            low, high = (head.get("intervals") or {}).get(metric) or (None, None)
            # results of an earlier version lack the scores that came later
            scores = {name: head.get(name) for name in self.signs}
            seconds = head.get("fit_seconds"), head.get("predict_seconds")
            rows.append(SavedScore(head["head"], metric, scores[metric], low, high, scores, *seconds))
        sign = self.signs[metric]
        return Records(sorted(rows, key=lambda row: np.inf if row.score is None else -sign * row.score))

    def confusion(self, head: str) -> npt.NDArray[np.int64]:
        """Return the confusion matrix of a head: int64, shape (k, k), rows true, columns predicted.

        Raises
        ------
        HeadError
            When there is no such head.
        """
        for one in self.content["heads"]:
            if one["head"] == head:
                return np.array(one["confusion"], np.int64)
        names = ", ".join(display(one["head"]) for one in self.content["heads"])
        raise HeadError(f"parameter head must be one of the compared heads ({names}), got {head!r}")

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What decided the scores, by name: images, features, split, groups and versions."""
        cache, split = self.content["cache"], self.content["split"]
        settings = {"images": cache["images"], "classes": cache["classes"]}
        settings |= _features([one["fingerprint"] for one in self.content.get("caches", [])] or [cache["fingerprint"]])
        settings |= {
            f"split: {key}": split.get(key)
            for key in ("method", "seed", "test_fraction", "train", "test", "folds", "repeats")
        }
        settings |= {"groups": split.get("groups", {}).get("group_digest")}
        return settings | {f"version: {key}": value for key, value in self.content["made"]["versions"].items()}

    def settings_of(self, head: str) -> dict[str, Any]:
        """Return what decided the scores of a head, by name; of several caches, the features of its own."""
        own = [one["fingerprint"] for one in self.content.get("caches", []) if head in one["heads"].values()]
        settings = (
            self.settings
            if not own
            else {key: value for key, value in self.settings.items() if not key.startswith("features: ")}
        )
        return settings | _features(own) | self.parameters(head)

    def parameters(self, head: str) -> dict[str, Any]:
        """Return the parameters of a head, with its name before each."""
        for one in self.content["heads"]:
            if one["head"] == head:
                return {f"{head}: {key}": value for key, value in one["parameters"].items()}
        return {}

    def to_dict(self) -> dict[str, Any]:
        """Return all of ``results.json``."""
        return self.content

    def to_frame(self) -> Any:
        """Return `table` as a pandas DataFrame."""
        return self.table.to_frame()

    def __repr__(self) -> str:
        heads = ", ".join(display(row.head) for row in self.table)
        return f"<SavedResults of {heads} in {display(str(self.folder))}>"

    def _repr_html_(self) -> str:
        return self.table._repr_html_()


def _features(fingerprints: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the fields of fingerprints by name; one that differs has the list of its values."""
    features = {}
    for key in dict.fromkeys(key for one in fingerprints for key in one):
        values = [one.get(key) for one in fingerprints]
        features[f"features: {key}"] = values[0] if all(value == values[0] for value in values) else values
    return features


def cache_of(results: Mapping[str, Any], head: str) -> tuple[str, dict[str, Any]]:
    """Return the place in results.json of the cache that a head was trained on, and its entry there."""
    for number, one in enumerate(results.get("caches", [])):
        if head in one["heads"].values():
            return f"caches[{number}]", one
    return "cache", results["cache"]


def load_results(folder: Path | str) -> SavedResults:
    """Read the results of a saved comparison.

    Parameters
    ----------
    folder : path-like
        Folder that `Comparison.save` or ``embedonce compare`` wrote.

    Returns
    -------
    SavedResults

    Raises
    ------
    ParameterError
        When the folder holds no results, or results of a later version.

    See Also
    --------
    embedonce.leaderboard : One table of many saved comparisons.
    embedonce.diff : Compare two saved comparisons.

    Examples
    --------
    >>> import embedonce as eo, numpy as np, tempfile
    >>> X = np.random.default_rng(0).normal(size=(40, 1280)).astype(np.float32)
    >>> comparison = eo.compare(eo.FeatureCache.from_arrays(X, ["cat", "dog"] * 20), ["knn"], split="random")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     written = comparison.save(folder, figures="none")
    ...     results = eo.load_results(folder)
    >>> results.confusion("knn").shape
    (2, 2)
    """
    folder = check_path("folder", "load_results", folder)
    path = folder / "results.json"
    kind = kind_of_path(folder)
    if kind not in ("", "a folder", "a folder of results"):
        more = ". Give the folder that it is in" if folder.name == path.name else ""
        raise ParameterError(
            f"{display(str(folder))} must be a folder that embedonce compare wrote, but it is {kind}{more}"
        )
    try:
        results = json.loads(read_regular(path).decode("ascii"))
    except (OSError, ValueError) as error:
        raise ParameterError(
            f"{display(str(folder))} must be a folder that embedonce compare wrote, with results.json, which is "
            f"written last: {getattr(error, 'strerror', None) or error}. Run a comparison that was not finished again"
        ) from error
    if not isinstance(results, dict) or results.get("format") != FORMAT:
        raise ParameterError(f"{display(str(path))} must hold results of embedonce compare, got another format")
    version = results.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise ParameterError(
            f"{display(str(path))}: its format version is {version!r}, this embedonce reads up to {FORMAT_VERSION}. "
            "Use the embedonce that wrote it, or a newer one"
        )
    if "predictions.csv" in results.get("files", ()) and not (folder / "predictions.csv").is_file():
        raise ParameterError(f"{display(str(folder))} must hold predictions.csv, which its results.json lists")
    return SavedResults(folder, results)
