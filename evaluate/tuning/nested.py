"""Tuning inside a comparison: nested cross-validation.

Every fold has a search in its training part, so that no test image of a fold takes part in the choice of the parameters
that it is scored with (Varma and Simon 2006, Bias in error estimation when using cross-validation for model selection;
Cawley and Talbot 2010). Folds may have different parameters: the score is that of the procedure, search included.
"""

from __future__ import annotations

import functools
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ...cache import FeatureCache, display
from ...errors import EmbedonceError, HeadError, SplitError
from ...heads import HEADS, Space, candidates, head_class, make_head
from ..metrics import METRICS, leading_metric
from ..scoring import TuningResult, name_and_parameters
from ..splits import Groups, Split, SplitPlan, inner_folds
from .successive_halving import FOLDS, TRIALS, Search

_LISTED = 3  # combinations of parameters that a note lists


def search_spaces(heads: Sequence[str] | Mapping[str, Any], unfitted: Mapping[str, Any]) -> dict[str, Space]:
    """Return what is searched of every head: the parameters that have a range and were not given by the user."""
    # the given parameters of an instance are those that differ from their defaults
    spaces: dict[str, Space] = {}
    for name, head in unfitted.items():
        kind = getattr(type(head), "head_name", "")
        if kind not in HEADS or type(head) is not head_class(kind):  # a subclass may mean something else
            spaces[name] = {}
            continue
        entry = heads.get(name) if isinstance(heads, Mapping) else {}
        if isinstance(entry, Mapping):
            given = set(name_and_parameters(name, entry)[1])
        else:
            default = make_head(kind).get_params(deep=False)
            given = {key for key, value in head.get_params(deep=False).items() if repr(value) != repr(default[key])}
        spaces[name] = {key: values for key, values in HEADS[kind].space.items() if key not in given}
    return spaces


def tune_plan(
    cache: FeatureCache,
    heads: Mapping[str, Any],
    spaces: Mapping[str, Space],
    plan: SplitPlan,
    groups: Groups | None,
    *,
    seed: int,
    seconds: float,
    jobs: int = 1,
    dask: Any = None,
    announce: Callable[[str, int], None] | None = None,
) -> tuple[list[dict[str, TuningResult]], dict[str, EmbedonceError]]:
    """Search parameters of heads in the training part of every split; return the results by split and head.

    A head whose every candidate fails is in the other dictionary, with its error.
    """
    # heads stay unfitted; seconds is the time budget of each search; announce is called with head and split before it
    metric = leading_metric(cache.labels)
    results: list[dict[str, TuningResult]] = [{} for _ in plan]
    failed: dict[str, EmbedonceError] = {}
    for name, space in spaces.items():
        for index, split in enumerate(plan if space else ()):
            if announce is not None:
                announce(name, index)
            split_seed = seed if split.seed is None else split.seed
            count = FOLDS if len(split.validation) else _count_folds(cache, split, groups)
            folds = inner_folds(cache, split, groups, count, split_seed)
            make, deadline = functools.partial(_clone, heads[name]), time.time() + seconds
            search = Search(cache, name, make, folds, groups, metric, split_seed, jobs, dask, deadline)
            given = heads[name].get_params(deep=False)
            try:
                best = search.run(candidates(space, {key: given[key] for key in space}, TRIALS, seed))
            except HeadError as error:
                failed[name] = error
                break
            default_score = search.default_of(best).score
            results[index][name] = TuningResult(
                parameters=best.parameters,
                metric=metric,
                score=best.score,
                default_score=None if math.isnan(default_score) else default_score,
                trials=len({row.trial for row in search.table}),
                complete=search.complete,
                repeat=split.repeat if split.fold is not None else None,
                fold=split.fold,
            )
    return results, failed


def _clone(head: Any, **parameters: Any) -> Any:
    from sklearn.base import clone

    return clone(head).set_params(**parameters)


def with_tuned(heads: Mapping[str, Any], tuned: Mapping[str, TuningResult]) -> dict[str, Any]:
    """Return the heads of one split; tuned ones are copies with the parameters of their search."""
    return {name: _clone(head, **tuned[name].parameters) if name in tuned else head for name, head in heads.items()}


def tuning_notes(heads: Mapping[str, Any], plan: SplitPlan, tuned: Sequence[Mapping[str, TuningResult]]) -> list[str]:
    """Return a note per head: how often each combination was chosen, and whether the time budget ended a search."""
    notes = []
    for name, head in heads.items():
        if name not in tuned[0]:
            notes.append(f"{display(name)} was not tuned, because no parameter with a range is left to search")
            continue
        searches = [by_head[name] for by_head in tuned]
        given = head.get_params(deep=False)
        chosen = Counter(_words(search.parameters, given) for search in searches)
        if not plan.has_folds:
            text = f"training images of the {plan.method} split: {next(iter(chosen))}"
        else:
            counts = [f"{words} in {count}" for words, count in chosen.most_common(_LISTED)]
            rest = len(searches) - sum(count for _, count in chosen.most_common(_LISTED))
            counts += [f"others in {rest}"] if rest else []
            text = f"training images of each of the {len(plan)} {plan.method} folds: {'; '.join(counts)}"
        cut = sum(not search.complete for search in searches)
        if cut:
            which = "the search" if not plan.has_folds else f"{cut} of {len(searches)} searches"
            text += f"; the time budget ended {which} early, and more time may find better parameters"
        metric = searches[0].metric
        target = "" if metric == "accuracy" else f" for {METRICS[metric].title}"
        notes.append(f"{display(name)} was tuned{target} in the {text}")
    return notes


def _count_folds(cache: FeatureCache, split: Split, groups: Groups | None) -> int:
    """Return the number of inner folds: fewer than usual where a class has fewer groups or images."""
    grouped = groups is not None and split.method != "random"
    units = groups.ids if groups is not None and grouped else np.arange(len(cache))
    pairs = np.unique(np.stack([cache.labels[split.train], units[split.train]]), axis=1)
    labels, counts = np.unique(pairs[0], return_counts=True)
    if counts.min() < 2:
        raise SplitError(
            f"parameter tune of compare needs two {'groups' if grouped else 'images'} of every class in every training "
            f"part, but {display(cache.class_names[labels[counts.argmin()]])} has one. Leave out tune or add images"
        )
    return int(min(FOLDS, counts.min()))


def _words(parameters: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    words = ", ".join(f"{key} {value}" for key, value in parameters.items())
    return f"{words} (not changed)" if all(given[key] == parameters[key] for key in parameters) else words
