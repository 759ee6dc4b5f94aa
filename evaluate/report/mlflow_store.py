"""Logging of a saved comparison to an MLflow tracking store."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ...cache import display, read_regular
from ...errors import OutputError, ParameterError, check_path, describe, first_line, import_optional
from ..metrics import METRICS
from ..shared import Record
from .saved_results import SavedResults, cache_of, load_results

EXPERIMENT = "embedonce"
_DIGEST = "embedonce.digest"
_LONGEST = 500  # characters of a value that every version of a server takes
_FURTHER = ("ece", "brier", "fit_seconds", "predict_seconds")
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # by default a server that does not answer is asked for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",  # embedonce contacts no server but the one that the user names
}
"""Settings of MLflow, unless the user has set them."""


@dataclass(frozen=True)
class LoggedRun(Record):
    """A comparison in a tracking store: its run, whose child runs are the heads; ``found`` if it was there before."""

    run_id: str
    experiment: str
    heads: int
    found: bool


@dataclass(frozen=True)
class MlflowStore:
    """A tracking store that answers, and an experiment in it."""

    client: Any
    experiment: str
    experiment_id: str

    @classmethod
    def open(cls, uri: str, experiment: str | None = None) -> MlflowStore:
        """Open a store and the experiment, which is created if there is none."""
        if not isinstance(uri, str) or not uri.strip():
            raise ParameterError(
                "parameter uri of log_to_mlflow must be the address of a tracking store, such as "
                f"http://localhost:5000 or sqlite:///mlflow.db, got {describe(uri)}"
            )
        if urlsplit(uri).password:  # it would be in the command, which results.json has
            raise ParameterError(
                "parameter uri of log_to_mlflow must have no password. Set MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD instead"
            )
        name = experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        with _calls(f"open the MLflow store {display(uri)}") as mlflow:
            client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
            found = client.get_experiment_by_name(name)
            number = client.create_experiment(name) if found is None else found.experiment_id
        return cls(client, name, str(number))

    def log(self, folder: Path | str) -> LoggedRun:
        """Log a saved comparison, unless the same results are there."""
        saved = load_results(folder)
        digest = hashlib.sha256(read_regular(saved.folder / "results.json")).hexdigest()
        heads = saved.content["heads"]
        with _calls(f"log {display(str(folder))} to MLflow"):
            query = f"tags.`{_DIGEST}` = '{digest}' and attributes.status = 'FINISHED'"
            earlier = self.client.search_runs([self.experiment_id], query, max_results=1)
            if earlier:
                return LoggedRun(earlier[0].info.run_id, self.experiment, len(heads), True)
            tags = _tags(saved) | {_DIGEST: digest}
            with self._run(saved.folder.resolve().name, saved, tags) as run_id:
                self._write(run_id, _settings(saved), _summary(saved))
                for head in heads:
                    with self._run(head["head"], saved, {"mlflow.parentRunId": run_id}) as child:
                        params = head["parameters"] | _features(saved, head["head"])
                        self._write(child, params, _scores(saved, head), head.get("history"))
                for name in saved.content.get("files", ["results.json"]):
                    self.client.log_artifact(run_id, str(saved.folder / name))
        return LoggedRun(run_id, self.experiment, len(heads), False)

    @contextlib.contextmanager
    def _run(self, name: str, saved: SavedResults, tags: dict[str, str]) -> Iterator[str]:
        """Create a run, and end it as finished, or as failed after an error."""
        tags = {"mlflow.runName": display(name)} | tags
        made = self.client.create_run(self.experiment_id, start_time=_milliseconds(saved), tags=tags)
        run_id: str = made.info.run_id
        try:
            yield run_id
        except BaseException:
            with contextlib.suppress(Exception):  # the first error says more
                self.client.set_terminated(run_id, "FAILED")
            raise
        self.client.set_terminated(run_id, "FINISHED")

    def _write(
        self,
        run_id: str,
        params: dict[str, Any],
        metrics: dict[str, float],
        history: dict[str, Sequence[float | None]] | None = None,
    ) -> None:
        from mlflow.entities import Metric, Param

        now = int(1000 * time.time())
        pairs = [Param(_key(name), str(value)[:_LONGEST]) for name, value in params.items()]
        values = [Metric(_key(name), float(value), now, 0) for name, value in metrics.items()]
        for name, curve in (history or {}).items():
            values += [
                Metric(f"history.{_key(name)}", float(value), now, epoch)
                for epoch, value in enumerate(curve, start=1)
                if value is not None
            ]
        for first in range(0, len(pairs), 100):  # as many as a server takes at once
            self.client.log_batch(run_id, params=pairs[first : first + 100])
        for first in range(0, len(values), 1000):
            self.client.log_batch(run_id, metrics=values[first : first + 1000])


def log_to_mlflow(run: Path | str, uri: str, *, experiment: str | None = None) -> LoggedRun:
    """Log a saved comparison to an MLflow tracking store.

    The comparison is a run with the settings of data, features and split as parameters, the score of the best head, and
    all files. Each head is a child run with its parameters, scores, ends of their intervals (``accuracy_low``,
    ``accuracy_high``), times and, by epoch, its curves. Results that the experiment has are not logged again.

    Parameters
    ----------
    run : path-like
        Folder that `Comparison.save` or ``embedonce compare`` wrote.
    uri : str
        Address of the store, such as ``http://localhost:5000`` or ``sqlite:///mlflow.db``, without a password.
    experiment : str, default=None
        Name of the experiment, by default the environment variable ``MLFLOW_EXPERIMENT_NAME``, or ``embedonce``.

    Returns
    -------
    LoggedRun

    Raises
    ------
    MissingPackageError
        When MLflow is not installed. ``embedonce[mlflow]`` is its client.
    ParameterError
        When the folder holds no results, or `uri` has a password.
    OutputError
        When the store cannot be opened or written.

    See Also
    --------
    embedonce.compare : Compare heads.
    embedonce.leaderboard : One table of many saved comparisons, without a store.

    Examples
    --------
    >>> import embedonce as eo
    >>> eo.log_to_mlflow("runs/photos", "http://localhost:5000")  # doctest: +SKIP
    """
    folder = check_path("run", "log_to_mlflow", run)
    load_results(folder)  # a wrong folder is an error before the store is opened
    return MlflowStore.open(uri, experiment).log(folder)


@contextlib.contextmanager
def _calls(what: str) -> Iterator[Any]:
    """Give the package mlflow, keep its log quiet, and raise errors of the store as OutputError."""
    missing = [name for name in _ENVIRONMENT if name not in os.environ]
    os.environ.update({name: _ENVIRONMENT[name] for name in missing})
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    levels = [logger.level for logger in loggers]
    try:
        mlflow = import_optional("mlflow", "logging to MLflow", "embedonce[mlflow]")
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        try:
            yield mlflow
        except OutputError:
            raise
        except (mlflow.MlflowException, OSError) as error:
            raise OutputError(f"cannot {what}: {first_line(error)}") from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for name in missing:
            os.environ.pop(name, None)


def _key(name: str) -> str:
    """Return a name with the characters that MLflow takes."""
    return re.sub(r"[^\w\-. ]", "_", name)


def _milliseconds(saved: SavedResults) -> int | None:
    with contextlib.suppress(KeyError, TypeError, ValueError):
        made = datetime.strptime(saved.content["made"]["time"], "%Y-%m-%dT%H:%M:%S%z")
        return int(1000 * made.timestamp())
    return None


def _tags(saved: SavedResults) -> dict[str, str]:
    """Return what identifies images and versions, and the notes as MLflow shows them."""
    notes = ["For education and research. Not for diagnosis.", *(f"- {note}" for note in saved.notes)]
    tags = {"mlflow.note.content": "\n".join(notes), "mlflow.source.name": "embedonce"}
    split = saved.content["split"]
    tags |= {name: split[name] for name in ("image_digest", "test_digest") if name in split}
    return tags | {f"version.{name}": value for name, value in saved.content["made"]["versions"].items()}


def _settings(saved: SavedResults) -> dict[str, Any]:
    """Return what decided the scores, besides heads and versions, which are tags."""
    settings = {key.replace(": ", "."): value for key, value in saved.settings.items() if value is not None}
    settings["classes"] = len(settings["classes"])
    return {key: value for key, value in settings.items() if not key.startswith("version.")}


def _features(saved: SavedResults, head: str) -> dict[str, Any]:
    """Return the cache of a head, if there are several."""
    place, cache = cache_of(saved.content, head)
    return {} if place == "cache" else {"cache": cache["name"], "cache.features": cache["features"]}


def _summary(saved: SavedResults) -> dict[str, float]:
    """Return the score of the best head, corrected for the choice, and its leakage gap."""
    best = saved.content.get("best")
    if not best:
        return {}
    metrics = {f"best_{name}": best[name] for name in ("score", "expected", "low", "high")}
    gaps = [row["gap"] for row in saved.content.get("leak_gap", []) if row["head"] == best["head"]]
    return metrics | ({"leakage_gap": gaps[0]} if gaps else {})


def _scores(saved: SavedResults, head: dict[str, Any]) -> dict[str, float]:
    names = [*METRICS, *(own["name"] for own in saved.content.get("own_metrics", [])), *_FURTHER]
    scores = {name: head[name] for name in names if head.get(name) is not None}
    for name, (low, high) in (head.get("intervals") or {}).items():
        scores |= {f"{name}_low": low, f"{name}_high": high}
    return scores
