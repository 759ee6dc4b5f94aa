"""Successive halving: many candidates on few images, the best of them on more, the last on all.

Jamieson and Talwalkar (2016), Non-stochastic best arm identification and hyperparameter optimization. scikit-learn's
HalvingRandomSearchCV draws the images of a rung without regard to groups and classes, may drop the defaults, has no
time budget, and sends arrays to its workers. Here the images of a rung are nested, stratified and of whole groups, and
candidates are scored on all images of the held-out fold. The best C or number of epochs changes with the number of
images, so several candidates and the default always continue, and only scores of one rung are compared.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from ...cache import FeatureCache
from ...errors import CacheError, HeadError, ParameterError, first_line, is_number
from ...extract import Progress
from ..metrics import METRICS
from ..scoring import fit_head, has_converged, run_jobs, score_head
from ..shared import Record, without_nan
from ..splits import Groups, Split, shrink

FOLDS = 5  # default number of folds of a search
TRIALS = 16  # default number of candidates besides the default parameters
ETA = 3  # a rung has this many times the images of the previous one, and 1/ETA of its candidates
MAX_RUNGS = 3
FINALISTS = 3  # at least so many candidates continue: the order on few images is not the order on all
MIN_IMAGES = 200  # of a fit in the first rung, so that parameters that suit many images survive
UNFINISHED = "the time budget ended it after"  # begins the note of a candidate that was not finished


@dataclass(frozen=True)
class Trial(Record):
    """Scores of one candidate in one rung of a search."""

    trial: int  # number of the candidate; 0 has the default parameters
    rung: int
    images: float  # mean number of training images of a fit
    parameters: dict[str, Any]
    score: float  # mean over the folds; NaN for a candidate that failed or was not finished
    sd: float  # sample standard deviation over the folds
    fit_seconds: float  # mean over the folds
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the values by name; NaN, which JSON does not have, becomes None."""
        return {name: without_nan(value) for name, value in super().to_dict().items()}


class Fit(NamedTuple):
    """Score of one candidate in one fold."""

    score: float
    seconds: float
    failure: str = ""
    converged: bool = True


@dataclass
class Search:
    """Successive halving over folds; ``run`` fills ``table`` and ``notes``."""

    cache: FeatureCache
    name: str
    make: Callable[..., Any]  # an unfitted head from the parameters of a candidate
    folds: list[Split]
    groups: Groups | None
    metric: str
    seed: int
    jobs: int = 1
    dask: Any = None
    deadline: float | None = None  # no fit begins after it
    progress: Progress = field(default_factory=Progress)
    table: list[Trial] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    complete: bool = True  # False when the time budget ended the search

    def run(self, candidates: list[dict[str, Any]]) -> Trial:
        """Run all rungs and return the winner."""
        best: Trial | None = None
        alive = list(range(len(candidates)))
        classes = len(np.unique(self.cache.labels[self.folds[0].train]))
        fractions = rung_fractions(min(len(fold.train) for fold in self.folds), classes, len(candidates))
        for rung, fraction in enumerate(fractions):
            if rung and self._is_over():
                break
            folds = [shrink(fold, self.cache, self.groups, fraction, self.seed) for fold in self.folds]
            images = float(np.mean([len(fold.train) for fold in folds]))
            self.progress.say(
                f"trying {len(alive)} {'settings' if len(alive) > 1 else 'setting'} on {round(images):,} images"
                + (f" in each of {len(folds)} folds" if len(folds) > 1 else "")
                + (f" (step {rung + 1} of {len(fractions)})" if len(fractions) > 1 else "")
            )
            rows = self._run_rung(rung, folds, images, {number: candidates[number] for number in alive})
            self.table += rows
            sign = METRICS[self.metric].sign
            ranked = sorted((row for row in rows if not math.isnan(row.score)), key=lambda row: -sign * row.score)
            cut = len(rows) < len(alive) or any(row.note.startswith(UNFINISHED) for row in rows)
            # where the time budget left the default alone, the rung before has more information
            if not cut or best is None or any(row.trial for row in ranked):
                best = ranked[0] if ranked else None
            if cut or best is None:
                break
            alive = [row.trial for row in ranked][: max(FINALISTS, math.ceil(len(alive) / ETA))]
            alive = [0, *(number for number in alive if number)]
        self._add_notes(len(candidates), len(fractions))
        if best is None:
            raise HeadError(f"no candidate of head {self.name!r} could be scored; the default {self.table[0].note}")
        return best

    def default_of(self, other: Trial) -> Trial:
        """Return the default parameters in the rung of another trial, whose scores can be compared."""
        return next(row for row in self.table if row.rung == other.rung and row.trial == 0)

    def _is_over(self) -> bool:
        return self.deadline is not None and time.time() >= self.deadline

    def _run_rung(
        self, rung: int, folds: list[Split], images: float, candidates: Mapping[int, dict[str, Any]]
    ) -> list[Trial]:
        """Score candidates on all folds; those that the time budget kept from beginning are left out."""
        work: dict[str, tuple[Any, ...]] = {}
        fits: dict[int, list[Fit | None]] = {}
        begin = time.monotonic()

        def announce(number: int) -> None:
            left = (time.monotonic() - begin) / max(number, 1) * (len(work) - number)
            self.progress.now(f"fit {number + 1} of {len(work)}" + (f", about {left:.0f} s left" if number else ""))

        for number, parameters in candidates.items():
            try:
                heads = [_without_needless_fits(self.make(**parameters), self.metric) for _ in folds]
            except HeadError as error:  # the constructor of another package checks its values
                fits[number] = [Fit(math.nan, math.nan, first_line(error))]
                continue
            deadline = None if number == 0 else self.deadline  # the default is always scored
            groups = self.groups if "groups" in inspect.signature(heads[0].fit).parameters else None
            for fold_index, (fold, head) in enumerate(zip(folds, heads, strict=True)):
                job = f"head {self.name!r} (trial {number}, rung {rung}, fold {fold_index})"
                work[job] = (head, self.cache, fold, groups, self.metric, deadline)
        with contextlib.closing(self.progress):
            outcomes = iter(list(run_jobs(fit_in_fold, work, self.jobs, self.dask, announce)) if work else [])
        for number in candidates:
            if number not in fits:
                fits[number] = [next(outcomes) for _ in folds]
        return [
            _summarize(number, rung, images, parameters, fits[number])
            for number, parameters in candidates.items()
            if any(fit is not None for fit in fits[number])
        ]

    def _add_notes(self, candidates: int, rungs: int) -> None:
        """Note what the time budget left out, what failed and what did not converge."""
        last = self.table[-1]
        begun = sum(row.rung == 0 for row in self.table)
        unfinished = any(row.note.startswith(UNFINISHED) for row in self.table)
        self.complete = not (self._is_over() and (last.rung < rungs - 1 or begun < candidates or unfinished))
        if not self.complete:
            self.notes.append(
                f"the time budget ended the search in rung {last.rung + 1} of {rungs}, after {begun} of {candidates} "
                f"candidates began, with fits on {last.images:,.0f} images; more time may find better parameters"
            )
        failed = [row for row in self.table if row.note.startswith("failed")]
        if failed:
            words = ", ".join(f"{name}={value!r}" for name, value in failed[0].parameters.items())
            count = len({row.trial for row in failed})
            self.notes.append(f"{count} of {candidates} candidates failed, such as {words}: {failed[0].note}")
        lax = {row.trial for row in self.table if row.note.startswith("no convergence")}
        if lax:
            self.notes.append(f"fits of {len(lax)} of {candidates} candidates did not converge; their scores count")


def rung_fractions(images: int, classes: int, candidates: int) -> list[float]:
    """Return the fraction of the training images that each rung has, ascending; the last is 1."""
    # a rung is added in front while it has enough images and more candidates than would continue anyway
    minimum = max(MIN_IMAGES, 20 * classes)
    rungs = 1
    while rungs < MAX_RUNGS and images / ETA**rungs >= minimum and candidates / ETA ** (rungs - 1) > FINALISTS + 1:
        rungs += 1
    return [1 / ETA**power for power in reversed(range(rungs))]


def check_seconds(name: str, owner: str, seconds: Any) -> None:
    """Check a time budget."""
    if not is_number(seconds) or not 0 <= seconds < math.inf:
        raise ParameterError(f"parameter {name} of {owner} must be a number of seconds of at least 0, got {seconds!r}")


def fit_in_fold(
    head: Any, cache: FeatureCache, fold: Split, groups: Groups | None, metric: str, deadline: float | None
) -> Fit | None:
    """Fit a head on the training part of a fold and score it on the other; return None after the deadline."""
    # an exception of the head is a failure of its parameters and does not end the search; an error of the cache does
    if deadline is not None and time.time() >= deadline:
        return None
    try:
        # no validation data: a head that stops early by them would be scored on what stopped it
        seconds = fit_head(head, cache, replace(fold, test=fold.test[:0], method="none"), groups)
        score = score_head("", head, cache, fold.test).scores[metric]
    except CacheError:
        raise
    except Exception as error:
        return Fit(math.nan, math.nan, f"{type(error).__name__}: {first_line(error)}")
    if score is None or not math.isfinite(score):
        return Fit(math.nan, seconds, f"its {metric} is {score}")
    return Fit(float(score), seconds, converged=has_converged(head))


def _summarize(number: int, rung: int, images: float, parameters: dict[str, Any], fits: list[Fit | None]) -> Trial:
    finished = [fit for fit in fits if fit is not None]
    failures = [fit.failure for fit in finished if fit.failure]
    lax = sum(not fit.converged for fit in finished)
    scores, note = [fit.score for fit in finished], ""
    if failures:
        scores, note = [], f"failed: {failures[0]}"
    elif len(finished) < len(fits):  # the mean over some folds is not comparable
        scores, note = [], f"{UNFINISHED} {len(finished)} of {len(fits)} folds"
    elif lax:
        note = f"no convergence in {lax} of {len(fits)} folds"
    seconds = [fit.seconds for fit in finished if math.isfinite(fit.seconds)]
    return Trial(
        trial=number,
        rung=rung,
        images=images,
        parameters=parameters,
        score=float(np.mean(scores)) if scores else math.nan,
        sd=float(np.std(scores, ddof=1)) if len(scores) > 1 else math.nan,
        fit_seconds=float(np.mean(seconds)) if seconds else math.nan,
        note=note,
    )


def _without_needless_fits(head: Any, metric: str) -> Any:
    """Turn off the fits that only probabilities need, where the metric does not use them."""
    from ...heads import CalibratedMarginHead

    if not METRICS[metric].of_probabilities and isinstance(head, CalibratedMarginHead):
        head.set_params(probability=False)
    return head
