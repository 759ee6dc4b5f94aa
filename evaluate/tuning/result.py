"""Result of a parameter search."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...cache import FeatureCache, as_csv, display, printable, write_atomically
from ...heads import Range, Space
from ..metrics import METRICS, PairedTest
from ..scoring import EarlierRuns, HeadResult
from ..shared import (
    Records,
    TextTable,
    as_json,
    data_frame,
    describe_cache,
    format_number,
    how_it_was_made,
    html_table,
    replacing_files,
    try_figure,
    without_nan,
)
from ..splits import Split
from .successive_halving import Trial

FORMAT = "embedonce-tuning"
FORMAT_VERSION = 1


@dataclass(frozen=True, eq=False, repr=False)
class Tuning:
    """Result of a search for parameters, and its test scores.

    Attributes
    ----------
    cache : FeatureCache
    head : str
    metric : str
        Score that was optimized.
    space : mapping of str to Range or Choice
        What was searched.
    best, default : Trial
        The best and the default parameters, in the same rung. They are the same when nothing was better.
    table : sequence of Trial
        One per candidate and rung.
    result, default_result : HeadResult
        Test scores of both, fitted on the whole training part; ``default_result`` is None when it cannot be fitted.
    split : Split
        Training part, which was searched, and test part.
    folds : list of Split
        Folds of the search; their rows are rows of the cache.
    seed : int
    difference : PairedTest or None
        Test of both accuracies, or balanced accuracies, on the test part; None when there is nothing to compare.
    notes : list of str
    seconds : float
        Wall-clock time in total.
    earlier : EarlierRuns or None
        Earlier runs that scored the test images, from the ledger next to the cache; None for a cache in memory.

    See Also
    --------
    embedonce.tune : Search for the parameters of a head.

    Examples
    --------
    >>> import embedonce as eo, numpy as np
    >>> X = np.random.default_rng(0).normal(size=(60, 1280)).astype(np.float32)
    >>> cache = eo.FeatureCache.from_arrays(X, ["cat", "dog"] * 30)
    >>> tuning = eo.tune(cache, "knn", space={"n_neighbors": [1, 3]}, split="random", folds=2)
    >>> [trial.parameters["n_neighbors"] for trial in tuning.table]
    [5, 1, 3]
    """

    cache: FeatureCache
    head: str
    metric: str
    space: Space
    best: Trial
    default: Trial
    table: Records[Trial]
    result: HeadResult
    default_result: HeadResult | None
    split: Split
    folds: list[Split]
    seed: int
    difference: PairedTest | None = None
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    earlier: EarlierRuns | None = None

    @property
    def best_parameters(self) -> dict[str, Any]:
        """Value of every parameter that was searched; the defaults when nothing was better."""
        return self.best.parameters

    @property
    def trials(self) -> int:
        """Number of candidates, the default included, of which at least one fit was finished."""
        return len({trial.trial for trial in self.table})

    @property
    def outer_score(self) -> float:
        """Test score of the best parameters, the number to report; NaN when it cannot be computed."""
        return self._score_of(self.result)

    @property
    def outer_default(self) -> float:
        """Test score of the default parameters; NaN when it cannot be computed."""
        return self._score_of(self.default_result)

    def _score_of(self, result: HeadResult | None) -> float:
        score = None if result is None else result.scores[self.metric]
        return math.nan if score is None else float(score)

    @property
    def gain(self) -> float:
        """Improvement of the test score over the default parameters; below 0 if it is worse."""
        return METRICS[self.metric].sign * (self.outer_score - self.outer_default)

    @property
    def optimism(self) -> float:
        """Difference between the score in the search and the test score.

        A search trains on fewer images, which lowers its score, so the difference can be below 0.
        """
        return METRICS[self.metric].sign * (self.best.score - self.outer_score)

    @property
    def options(self) -> list[str]:
        """The best parameters as ``embedonce compare --param`` takes them, such as ``svm.C=0.1``."""
        return [f"{self.head}.{name}={_as_option(value)}" for name, value in self.best_parameters.items()]

    def to_dict(self) -> dict[str, Any]:
        """Return everything that was measured, JSON-serialisable: the content of ``tune.json``."""
        default = self.default_result
        results = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "made": how_it_was_made(),
            "cache": describe_cache(self.cache),
            "head": self.head,
            "metric": self.metric,
            "seed": self.seed,
            "split": self.split.to_dict(),
            "folds": [fold.to_dict() for fold in self.folds],
            "space": {
                name: vars(values) if isinstance(values, Range) else values.values
                for name, values in self.space.items()
            },
            "best_parameters": self.best_parameters,
            "default_parameters": self.default.parameters,
            "options": self.options,
            "inner": {"best": self.best.score, "default": self.default.score},
            "outer": {"best": self.result.scores, "default": None if default is None else default.scores},
            "gain": self.gain,
            "optimism": self.optimism,
            "difference": None if self.difference is None else self.difference.to_dict(),
            "trials": self.trials,
            "seconds": self.seconds,
            "notes": self.notes,
            "table": self.table.to_dict(),
        }
        if self.earlier is not None:
            results["earlier_runs"] = self.earlier.to_dict()
        return {name: without_nan(value) for name, value in results.items()}

    def to_frame(self) -> Any:
        """Return the trials as a ``pandas.DataFrame``, one column per parameter.

        Raises
        ------
        MissingPackageError
            When pandas is not installed.
        """
        header, rows = self._columns()
        return data_frame(dict(zip(header, row, strict=True)) for row in rows)

    def figure(self) -> Any:
        """Return a ``matplotlib.figure.Figure`` of the score of every candidate, one panel per parameter."""
        from .figure import tuning_figure

        score = METRICS[self.metric].title
        title = (
            f"{display(self.head)}: {score} on the test images {self.outer_score:.4f}, "
            f"default parameters {self.outer_default:.4f}"
        )
        return tuning_figure(title, score, self.space, self.table, self.best, self.default)

    def save(self, folder: Path | str) -> list[Path]:
        """Write ``tune.json``, ``trials.csv``, ``tune.png`` and ``tune.svg`` into a folder; return their paths.

        Files of the same names are replaced. A figure that cannot be drawn is left out, and a note says so.

        Raises
        ------
        OutputError
            When the folder or a file cannot be written.
        """
        folder = Path(folder)
        header, rows = self._columns()
        cells = [["" if isinstance(cell, float) and math.isnan(cell) else cell for cell in row] for row in rows]
        pictures = ["tune.png", "tune.svg"]
        with replacing_files(folder, "results", "tune.json", pictures) as temporary:
            write_atomically(temporary / "trials.csv", as_csv(header, cells))
            notes = try_figure(self.figure, *(temporary / name for name in pictures))
            self.notes.extend(note for note in notes if note not in self.notes)
            write_atomically(temporary / "tune.json", as_json(self.to_dict()))
        return [folder / name for name in ("tune.json", "trials.csv", *(() if notes else pictures))]

    def _columns(self) -> tuple[list[str], list[list[Any]]]:
        """Return the names of the columns and a row for every trial."""
        rows = [
            [
                *(trial.trial, trial.rung, round(trial.images, 1)),
                *(trial.parameters[name] for name in self.space),
                *(trial.score, trial.sd, trial.fit_seconds, display(trial.note)),
            ]
            for trial in self.table
        ]
        return ["trial", "rung", "images", *self.space, "score", "sd", "fit_seconds", "note"], rows

    def _scores(self) -> list[tuple[str, float, float]]:
        return [("best", self.best.score, self.outer_score), ("default", self.default.score, self.outer_default)]

    def __repr__(self) -> str:
        return f"<Tuning of {display(self.head)}: {self.trials} candidates, {' '.join(map(display, self.options))}>"

    def __str__(self) -> str:
        rows = [[name, format_number(inner), format_number(outer)] for name, inner, outer in self._scores()]
        table = TextTable([METRICS[self.metric].title, "search", "test"], rows)
        lines = [
            " ".join(map(display, self.options)),
            str(table),
            *(f"Note: {printable(note)}." for note in self.notes),
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return html_table(
            [METRICS[self.metric].title, "search", "test"], self._scores(), [" ".join(self.options), *self.notes]
        )


def _as_option(value: Any) -> str:
    """Return a value as the command line reads it: JSON, or text that is not JSON."""
    if isinstance(value, str):
        try:
            json.loads(value)
        except ValueError:
            return value
    return json.dumps(value, default=str)
