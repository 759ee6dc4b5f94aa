"""Tuning one head: good parameters, and what they are worth on images that the search has not seen.

The cache is split as :func:`embedonce.compare` splits it. The search sees the training part only, in folds that keep
groups together when the split does; the winner is fitted on the whole training part and scored once on the test part.
The score of the search itself is no estimate: the best of many noisy scores is too good (Cawley and Talbot 2010, On
over-fitting in model selection; Varma and Simon 2006). The difference is reported as ``optimism``, and the default
parameters go through all of it as well, so that what tuning brought can be seen.

The search itself is successive halving: see :mod:`embedonce.evaluate.tuning.successive_halving`.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...cache import FeatureCache
from ...errors import ParameterError, SplitError, check_int
from ...extract import Progress
from ...heads import candidates, make_head, search_space
from ..duplicates import groups_for
from ..metrics import METRICS, compare_pair
from ..scoring import check_jobs, fit_and_score, run_jobs
from ..splits import GroupsLike, SplitLike, inner_folds, notes_on, plan_splits
from .result import Tuning
from .rungs import FOLDS
from .successive_halving import TRIALS, Search, check_seconds


def tune(
    cache: FeatureCache | Path | str,
    head: str,
    *,
    space: Mapping[str, Sequence[Any]] | None = None,
    parameters: Mapping[str, Any] | None = None,
    split: SplitLike | None = None,
    groups: GroupsLike | None = None,
    seed: int = 0,
    folds: int = FOLDS,
    trials: int = TRIALS,
    metric: str = "accuracy",
    budget: float | None = None,
    jobs: int = 1,
    dask: Any = None,
    on_rung: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> Tuning:
    """Search good parameters of a head in the training part, and score them on the test part.

    Parameters
    ----------
    cache : FeatureCache or path-like
    head : str
        A name as :func:`embedonce.make_head` takes it.
    space : mapping of str to sequence, optional
        Values of every parameter to search; needed for a head that is not one of ours.
    parameters : mapping, optional
        Parameters that stay as they are given, in the default as well.
    split, groups, jobs, dask
        See :func:`embedonce.compare`. Jobs are fits of the search.
    seed : int
        Of the split, the folds, the candidates and the images of each rung. The same seed gives the same result, unless
        the budget ends the search.
    folds : int
        Of the search, at least 2.
    trials : int
        Candidates besides the default.
    metric : str
        A score of ``results.json``, such as ``accuracy``, ``log_loss`` or ``mcc``, whose mean over the folds is made
        best. Of equals the default is taken, or the one that was better on fewer images.
    budget : float, optional
        Seconds after which no fit of the search begins; what has begun is finished and counts. The defaults are
        scored, and two heads are fitted in the end, however short it is. On a cluster the workers' clocks count.
    on_rung : callable, optional
        Called with a line of text before each rung.
    progress : Progress, optional
        Of finding groups.

    Returns
    -------
    Tuning

    Raises
    ------
    HeadError, HeadParameterError
        Before anything is fitted when the head, a parameter or the space cannot be; later when every candidate fails.
    SplitError, GroupsError
        When the split or its folds are impossible.
    CacheError, ClusterError
        See :func:`embedonce.compare`.
    """
    begin = time.monotonic()
    check_jobs("tune", jobs, dask)
    _check(head, trials, metric, budget)
    searched = search_space(head, space, parameters)
    unfitted = make_head(head, **(parameters or {}))
    if METRICS[metric].of_probabilities and not hasattr(unfitted, "predict_proba"):
        raise ParameterError(f"parameter metric of tune cannot be {metric} for head {head!r}: it has no probabilities")
    standing = unfitted.get_params(deep=False)
    default = {name: standing[name] for name in searched}
    opened = cache if isinstance(cache, FeatureCache) else FeatureCache.open(cache)
    known, notes = groups_for(opened, groups, split, progress)
    plans, note = plan_splits(opened, split, seed, known)
    outer = plans[0][0]
    if len(plans[0]) > 1 or not len(outer.test):
        raise SplitError(
            "parameter split of tune must have one training and one test part, got "
            f"{'folds' if len(plans[0]) > 1 else 'no test images'}; give a split file with both, random or grouped"
        )
    inner = inner_folds(opened, outer, known, folds, seed)

    ends = None if budget is None else time.time() + budget
    make = functools.partial(make_head, head, **(parameters or {}))
    search = Search(opened, head, make, inner, known, metric, seed, jobs, dask, ends, on_rung)
    best = search.run(candidates(searched, default, trials, seed))
    chosen = best["parameters"]
    start = search.default_of(best)
    work = {f"head {head!r} (tuned)": make(**chosen)}
    if best["trial"] and not math.isnan(start["score"]):
        work[f"head {head!r} (default)"] = make(**default)
    fits = {name: (head, made, opened, outer, known) for name, made in work.items()}
    results = list(run_jobs(fit_and_score, fits, jobs, dask))
    tuned = Tuning(
        opened, head, metric, searched, chosen, default, search.table, best["score"], start["score"], results[0],
        None if math.isnan(start["score"]) else results[-1], outer, inner, seed,
    )  # fmt: skip
    if tuned.default is not None and tuned.default is not tuned.result:
        true = opened.labels[outer.test]
        ids = None if known is None else known.ids[outer.test]
        tuned.difference = compare_pair(tuned.result.predicted == true, tuned.default.predicted == true, ids)
    tuned.notes = notes + note + notes_on(opened, outer) + search.notes + _notes(tuned)
    tuned.trials = len({row["trial"] for row in search.table})
    tuned.seconds = time.monotonic() - begin
    return tuned


def _notes(tuned: Tuning) -> list[str]:
    notes = []
    if tuned.best_parameters == tuned.default_parameters:
        notes.append("no candidate was better than the default parameters in the search")
    elif tuned.default is None:
        notes.append("the default parameters cannot be fitted on this cache, so there is nothing to compare with")
    elif tuned.gain <= 0:
        notes.append("on the test part the tuned parameters are no better than the defaults")
    if tuned.difference is not None:
        test = tuned.difference
        low, high, change = 100 * test.low, 100 * test.high, 100 * test.difference
        notes.append(
            f"tuning changed the accuracy on the test part by {change:+.1f} points (95 % interval {low:+.1f} to "
            f"{high:+.1f}, p = {test.p:.2g})" + (", which may be chance" if low <= 0 <= high or test.p > 0.05 else "")
        )
    for name, values in tuned.space.items():
        if tuned.best_parameters != tuned.default_parameters and values.at_its_end(tuned.best_parameters[name]):
            notes.append(
                f"the best {name} is at the end of what was searched ({tuned.best_parameters[name]!r}); there may be a "
                f"better one beyond: search there, such as with --space {tuned.head}.{name}=VALUE,VALUE"
            )
    return notes


def _check(head: str, trials: Any, metric: str, budget: Any) -> None:
    if not isinstance(head, str):
        raise ParameterError(f"parameter head of tune must be the name of a head, got {head!r}")
    check_int("trials", "tune", trials, 1)
    if metric not in METRICS:
        raise ParameterError(f"parameter metric of tune must be one of {', '.join(METRICS)}, got {metric!r}")
    if budget is not None:
        check_seconds("budget", "tune", budget)
