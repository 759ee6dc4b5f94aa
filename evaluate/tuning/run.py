"""Tuning of one head: a search for parameters in the training part, and its test scores.

The score of a search is too optimistic, since it is the best of many noisy scores (Cawley and Talbot 2010, On
over-fitting in model selection; Varma and Simon 2006); the difference is reported as ``optimism``.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...cache import FeatureCache, open_cache
from ...errors import ParameterError, SplitError, check_choice, check_int, check_mapping
from ...extract import Progress, as_progress
from ...heads import candidates, make_head, search_space
from ..duplicates import groups_for
from ..metrics import METRICS, MetricName, compare_pair, leading_metric
from ..scoring import check_jobs, fit_and_score, notes_on_fits, record_scores, run_jobs
from ..shared import Records
from ..splits import GroupsLike, SplitLike, check_class_sizes, check_test_fraction, inner_folds, notes_on, plan_splits
from .result import Tuning
from .successive_halving import FOLDS, TRIALS, Search, check_seconds


def tune(
    cache: FeatureCache | Path | str,
    head: str,
    *,
    parameters: Mapping[str, Any] | None = None,
    space: Mapping[str, Sequence[Any]] | None = None,
    split: SplitLike | None = None,
    groups: GroupsLike | None = None,
    seed: int = 0,
    test_fraction: float | None = None,
    metric: MetricName | None = None,
    folds: int = FOLDS,
    trials: int = TRIALS,
    time_budget: float | None = None,
    jobs: int = 1,
    dask: Any = None,
    progress: Progress | None = None,
) -> Tuning:
    """Search for good parameters of a head in the training part, and score them on the test part.

    Parameters
    ----------
    cache : FeatureCache or path-like
    head : str
        A name as `make_head` takes it.
    parameters : mapping, default=None
        Parameters with fixed values, which are not searched.
    space : mapping of str to sequence, default=None
        Values of every parameter to search; by default the head's own ranges, which only heads of embedonce have.
    split, groups, dask
        See `compare`; the split must have one training and one test part.
    seed : int, default=0
        Random seed of the split, the folds, the candidates and the images of each rung. The same seed gives the same
        result, unless the time budget ends the search.
    test_fraction : float, default=None
        Fraction of the images, or groups, for testing, of a random or grouped split; by default 0.2.
    metric : str, default=None
        Score whose mean over the folds is optimized, by default accuracy, or balanced accuracy if the classes differ
        much in size. Of equal candidates the default wins, or the one that was better
        on fewer images.
    folds : int, default=5
        Number of folds of the training part, at least 2. A split with validation rows has no folds: candidates are
        scored on these rows.
    trials : int, default=16
        Number of candidates besides the default parameters.
    time_budget : float, default=None
        Seconds after which no fit of the search begins. The default parameters are always scored, and the two final
        fits are not limited. On a cluster the clocks of the workers count.
    jobs : int, default=1
        Number of processes that fit at the same time.
    progress : Progress, default=None
        Shows the search for near-duplicates and the rungs.

    Returns
    -------
    Tuning

    Raises
    ------
    HeadError, HeadParameterError
        When the head, a parameter or the space is invalid, before anything is fitted, or when every candidate fails.
    ParameterError
        When another parameter is invalid.
    SplitError, GroupsError
        When the split or its folds are impossible.
    CacheError, ClusterError
        See `compare`.

    See Also
    --------
    embedonce.compare : Compare heads; its parameter ``tune`` tunes each of them in every fold.

    Examples
    --------
    >>> import embedonce as eo, numpy as np
    >>> X = np.random.default_rng(0).normal(size=(60, 1280)).astype(np.float32)
    >>> cache = eo.FeatureCache.from_arrays(X, ["cat", "dog"] * 30)
    >>> tuning = eo.tune(cache, "knn", space={"n_neighbors": [1, 3]}, split="random", folds=2)
    >>> tuning.trials
    3
    """
    begin = time.monotonic()
    check_jobs("tune", jobs, dask)
    _check(head, trials, metric, time_budget)
    progress = as_progress(progress, "tune")
    fixed = check_mapping("parameters", "tune", parameters)
    searched = search_space(head, None if space is None else check_mapping("space", "tune", space), fixed)
    make = functools.partial(make_head, head, **fixed)
    unfitted = make()
    if metric is not None and METRICS[metric].of_probabilities and not hasattr(unfitted, "predict_proba"):
        raise ParameterError(f"parameter metric of tune cannot be {metric} for head {head!r}: it has no probabilities")
    values = unfitted.get_params(deep=False)
    opened = open_cache(cache, "tune").labelled("tune")
    optimized: str = leading_metric(opened.labels) if metric is None else metric
    check_int("folds", "the search", folds, 2)
    check_test_fraction("tune", test_fraction, opened, split)
    check_class_sizes(opened, split, folds + 1)  # the training part needs an image for each fold
    row_groups, notes = groups_for(opened, groups, split, progress)
    (plan, *_), split_notes = plan_splits(opened, split, seed, row_groups, test_fraction=test_fraction)
    outer = plan[0]
    if plan.has_folds or not len(outer.test):
        raise SplitError(
            "parameter split of tune must have one training and one test part, got "
            f"{'folds' if plan.has_folds else 'no test images'}. Give a split file with both, random or grouped"
        )
    inner = inner_folds(opened, outer, row_groups, folds, seed)
    search = Search(
        opened, head, make, inner, row_groups, optimized, seed, jobs, dask,
        deadline=None if time_budget is None else time.time() + time_budget,
        progress=progress,
    )  # fmt: skip
    best = search.run(candidates(searched, {name: values[name] for name in searched}, trials, seed))
    default = search.default_of(best)
    default_fits = not math.isnan(default.score)
    heads = {f"head {head!r} (tuned)": make(**best.parameters)}
    if best.trial and default_fits:
        heads[f"head {head!r} (default)"] = make(**default.parameters)
    fits = {label: (head, unfitted, opened, outer, row_groups) for label, unfitted in heads.items()}
    results = list(run_jobs(fit_and_score, fits, jobs, dask))
    difference = None
    if len(results) > 1:
        true = opened.labels[outer.test]
        ids = None if row_groups is None else row_groups.ids[outer.test]
        classes = true.astype(np.intp) if leading_metric(opened.labels) == "balanced_accuracy" else None
        difference = compare_pair(results[0].predicted == true, results[1].predicted == true, ids, classes)
    tuning = Tuning(
        opened, head, optimized, searched, best, default, Records(search.table),
        results[0], results[-1] if default_fits else None, outer, inner, seed, difference,
    )  # fmt: skip
    scored = (head, results[0].predicted == opened.labels[outer.test])
    notes = (
        notes + split_notes + notes_on(opened, outer, groups=row_groups, scored=scored) + search.notes + _notes(tuning)
    )
    named = [replace(each, name=label) for each, label in zip(results, ("tuned", "default"), strict=False)]
    earlier, ledger_notes = record_scores(opened.source, opened, outer.test, named, "tune", outer.method, outer.seed)
    return replace(tuning, notes=notes + ledger_notes, seconds=time.monotonic() - begin, earlier=earlier)


def _notes(tuning: Tuning) -> list[str]:
    notes = notes_on_fits({tuning.head: tuning.result.head})
    if not tuning.best.trial:
        notes.append("no candidate was better than the default parameters in the search")
    elif tuning.default_result is None:
        notes.append("the default parameters cannot be fitted on this cache, so there is no comparison with them")
    elif tuning.gain <= 0:
        notes.append("on the test images the tuned parameters are not better than the default parameters")
    test = tuning.difference
    if test is not None:
        change, low, high = (100 * value for value in (test.difference, test.low, test.high))
        title = METRICS[test.metric].title
        numbers = f"{change:+.1f} points (95 % interval {low:+.1f} to {high:+.1f}, p = {test.p:.2g})"
        if low <= 0 <= high or test.p > 0.05:
            notes.append(
                f"no significant difference in {title} between the tuned and the default parameters: {numbers}"
            )
        else:
            notes.append(f"tuning changed the {title} on the test images by {numbers}")
    for name, values in tuning.space.items():
        if tuning.best.trial and values.at_its_end(tuning.best_parameters[name]):
            notes.append(
                f"the best {name} is at the end of the searched values ({tuning.best_parameters[name]!r}). Search "
                f"beyond it with --space {name}=VALUE,VALUE"
            )
    return notes


def _check(head: str, trials: Any, metric: str | None, time_budget: Any) -> None:
    if not isinstance(head, str):
        raise ParameterError(f"parameter head of tune must be the name of a head, got {head!r}")
    check_int("trials", "tune", trials, 1)
    if metric is not None:
        check_choice("metric", "tune", metric, METRICS)
    if time_budget is not None:
        check_seconds("time_budget", "tune", time_budget)
