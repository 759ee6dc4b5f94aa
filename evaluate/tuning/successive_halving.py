"""Successive halving: many candidates on few images, the best of them on more, the last on all.

Jamieson and Talwalkar (2016), Non-stochastic best arm identification and hyperparameter optimization. scikit-learn's
HalvingRandomSearchCV does this too, and is not used: it draws the images of a rung without regard to groups and
classes, may drop the defaults, knows no budget of time, and sends arrays to its workers where ours
(:mod:`embedonce.evaluate.scoring.parallel`) get the cache's path. Here every candidate in every fold is a job, the
images of a rung are nested and stratified, of whole groups, and only the fitting part of a fold shrinks: candidates
are always scored on all images of the held-out fold.

What is best on few images need not be on many: with more of them the best C or number of epochs is another. That is why
several go on whatever their share, why the default is in every rung, and why only scores of one rung are compared.
"""

from __future__ import annotations

import inspect
import math
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from ...cache import FeatureCache
from ...errors import CacheError, HeadError, ParameterError, first_line, is_number
from ..metrics import METRICS
from ..scoring import fit_head, run_jobs, score_head
from ..splits import Groups, Split, shrink
from .rungs import ETA, FINALISTS, rung_shares

TRIALS = 16  # candidates besides the default, when nothing is said
LATE = "the budget ended it after"  # begins the note of a candidate that was not finished


class Fit(NamedTuple):
    """One candidate in one fold."""

    score: float
    seconds: float
    failure: str = ""
    converged: bool = True


@dataclass
class Search:
    """Successive halving over folds; ``run`` fills ``table`` and ``notes``.

    ``make`` makes the unfitted head from the parameters of a candidate, as keyword arguments. ``complete`` is False
    when the budget ended the search.
    """

    cache: FeatureCache
    name: str
    make: Callable[..., Any]
    folds: list[Split]
    groups: Groups | None
    metric: str
    seed: int
    jobs: int
    dask: Any
    ends: float | None
    on_rung: Callable[[str], None] | None
    table: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    complete: bool = True

    def run(self, trials: list[dict[str, Any]]) -> dict[str, Any]:
        """Run all rungs and return the row of the winner."""
        best: dict[str, Any] | None = None
        alive = list(range(len(trials)))
        shares = rung_shares(min(len(fold.train) for fold in self.folds), self._classes(), len(trials))
        for rung, share in enumerate(shares):
            if rung and self._over():
                break
            folds = [shrink(fold, self.cache, self.groups, share, self.seed) for fold in self.folds]
            if self.on_rung is not None:
                images = round(float(np.mean([len(fold.train) for fold in folds])))
                self.on_rung(
                    f"rung {rung + 1} of {len(shares)}: {len(alive)} candidates on {images:,} images in each of "
                    f"{len(folds)} folds"
                )
            rows = self._rung(rung, folds, {trial: trials[trial] for trial in alive})
            self.table += rows
            ranked = sorted(
                (row for row in rows if not math.isnan(row["score"])), key=lambda row: -self._sign * row["score"]
            )
            cut = len(rows) < len(alive) or any(row["note"].startswith(LATE) for row in rows)
            # where the budget left the default alone, the rung before knows more
            if not cut or best is None or any(row["trial"] for row in ranked):
                best = ranked[0] if ranked else None
            if cut or best is None:
                break
            alive = [row["trial"] for row in ranked][: max(FINALISTS, math.ceil(len(alive) / ETA))]
            alive = [0, *(trial for trial in alive if trial)]
        self._note_ends(len(trials), len(shares))
        if best is None:
            raise HeadError(f"no candidate of head {self.name!r} could be scored; the default {self.table[0]['note']}")
        return best

    def default_of(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the row of the default parameters in the rung of another, whose scores can be compared."""
        return next(other for other in self.table if other["rung"] == row["rung"] and other["trial"] == 0)

    @property
    def _sign(self) -> int:
        return METRICS[self.metric].sign

    def _classes(self) -> int:
        return len(np.unique(self.cache.labels[self.folds[0].train]))

    def _over(self) -> bool:
        return self.ends is not None and time.time() >= self.ends

    def _rung(self, rung: int, folds: list[Split], trials: Mapping[int, dict[str, Any]]) -> list[dict[str, Any]]:
        """Score candidates on all folds and return their rows; those that the budget kept from beginning have none."""
        work: dict[str, tuple[Any, ...]] = {}
        fits: dict[int, list[Fit | None]] = {}
        for trial, parameters in trials.items():
            try:
                heads = [_without_needless(self.make(**parameters), self.metric) for _ in folds]
            except HeadError as error:  # a constructor of somebody else that checks
                fits[trial] = [Fit(math.nan, math.nan, first_line(error))]
                continue
            # the default is there whatever the budget is
            ends = None if trial == 0 else self.ends
            groups = self.groups if "groups" in inspect.signature(heads[0].fit).parameters else None
            for number, (fold, head) in enumerate(zip(folds, heads, strict=True)):
                job = f"head {self.name!r} (trial {trial}, rung {rung}, fold {number})"
                work[job] = (head, self.cache, fold, groups, self.metric, ends)
        outcomes = iter(list(run_jobs(fit_in_fold, work, self.jobs, self.dask)) if work else [])
        for trial in trials:
            if trial not in fits:
                fits[trial] = [next(outcomes) for _ in folds]
        images = float(np.mean([len(fold.train) for fold in folds]))
        return [
            {"trial": trial, "rung": rung, "images": images, "parameters": parameters} | _row(fits[trial])
            for trial, parameters in trials.items()
            if any(fit is not None for fit in fits[trial])
        ]

    def _note_ends(self, trials: int, rungs: int) -> None:
        """Note what the budget left out, what failed and what did not converge."""
        reached = self.table[-1]["rung"]
        begun = sum(row["rung"] == 0 for row in self.table)
        unfinished = sum(row["note"].startswith(LATE) for row in self.table)
        self.complete = not (self._over() and (reached < rungs - 1 or begun < trials or unfinished))
        if not self.complete:
            self.notes.append(
                f"the budget ended the search in rung {reached + 1} of {rungs}, with {begun} of {trials} candidates "
                f"begun and fits on {self.table[-1]['images']:,.0f} images: a longer one may find better parameters"
            )
        failed = [row for row in self.table if row["note"].startswith("failed")]
        if failed:
            row = failed[0]
            self.notes.append(
                f"{len({row['trial'] for row in failed})} of {trials} candidates failed, such as "
                f"{_words(row['parameters'])}: {row['note']}"
            )
        lax = {row["trial"] for row in self.table if row["note"].startswith("no convergence")}
        if lax:
            self.notes.append(f"fits of {len(lax)} of {trials} candidates did not converge; their scores count")


def check_seconds(name: str, owner: str, seconds: Any) -> None:
    """Check a parameter that is the time budget of a search, or raise ParameterError."""
    if not is_number(seconds) or not 0 <= seconds < math.inf:
        raise ParameterError(f"parameter {name} of {owner} must be a number of seconds of at least 0, got {seconds!r}")


def fit_in_fold(
    head: Any, cache: FeatureCache, fold: Split, groups: Groups | None, metric: str, ends: float | None
) -> Fit | None:
    """Fit a head on the training part of a fold and score it on the other; None when it is too late to begin.

    Whatever the head raises is a failure of these parameters and ends nothing. Errors of the cache are raised.
    """
    from sklearn.exceptions import ConvergenceWarning

    if ends is not None and time.time() >= ends:
        return None
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            # no validation data: a head that stops early by them would be scored on what stopped it
            seconds = fit_head(head, cache, replace(fold, test=fold.test[:0], method="none"), groups)
        score = score_head("", head, cache, fold.test).scores[metric]
    except CacheError:
        raise
    except Exception as error:
        return Fit(math.nan, math.nan, f"{type(error).__name__}: {first_line(error)}")
    lax = [warning for warning in caught if issubclass(warning.category, ConvergenceWarning)]
    for warning in caught:
        if warning not in lax:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    if score is None or not math.isfinite(score):
        return Fit(math.nan, seconds, f"its {metric} is {score}")
    return Fit(float(score), seconds, converged=not lax)


def _row(fits: list[Fit | None]) -> dict[str, Any]:
    """Return scores and times of one candidate in one rung."""
    done = [fit for fit in fits if fit is not None]
    failures = [fit.failure for fit in done if fit.failure]
    lax = sum(not fit.converged for fit in done)
    scores, note = [fit.score for fit in done], ""
    if failures:
        scores, note = [], f"failed: {failures[0]}"
    elif len(done) < len(fits):  # the mean over some folds is not comparable
        scores, note = [], f"{LATE} {len(done)} of {len(fits)} folds"
    elif lax:
        note = f"no convergence in {lax} of {len(fits)} folds"
    seconds = [fit.seconds for fit in done if math.isfinite(fit.seconds)]
    return {
        "score": float(np.mean(scores)) if scores else math.nan,
        "sd": float(np.std(scores, ddof=1)) if len(scores) > 1 else math.nan,
        "fit_seconds": float(np.mean(seconds)) if seconds else math.nan,
        "note": note,
    }


def _without_needless(head: Any, metric: str) -> Any:
    """Return a head of ours without the fits that only its probabilities need, when these do not count."""
    from ...heads import CalibratedMarginHead

    if not METRICS[metric].of_probabilities and isinstance(head, CalibratedMarginHead):
        head.set_params(probability=False)
    return head


def _words(parameters: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in parameters.items())
