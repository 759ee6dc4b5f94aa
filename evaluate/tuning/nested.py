"""Tuning inside a comparison: every fold that is scored has a search of its own, in its training part.

This is nested cross-validation: a test image of a fold took no part in choosing the parameters that it is scored with,
so the score is never one that a search made best (Varma and Simon 2006, Bias in error estimation when using
cross-validation for model selection; Cawley and Talbot 2010). Folds may end up with different parameters: what is
scored is the whole way to a head, search included. It looks for accuracy, or for balanced accuracy where classes are
skewed, as the comparison orders heads.

A single split with a random one beside it has one search, in the training part of the honest one. Both take what it
found, so that their gap is due to copies alone. Test images of the random split are then among those that were
searched on, which can only add to what it promises too much. Random folds beside grouped ones have searches of their
own, as somebody who knows of no groups would do it.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from ...cache import FeatureCache, display
from ...errors import SplitError
from ...heads import HEADS, Space, candidates, head_class, make_head
from ..metrics import METRICS, are_skewed, leading_metric
from ..scoring import job_label, name_and_parameters
from ..splits import Groups, Split, inner_folds
from .rungs import FOLDS
from .successive_halving import TRIALS, Search

Found: TypeAlias = list[list[dict[str, dict[str, Any]]]]
"""Search results by plan, split and head, as ``tuning`` of a `HeadResult`."""

_SHOWN = 3  # parameters that a note tells of


def search_spaces(heads: Sequence[str] | Mapping[str, Any], made: Mapping[str, Any]) -> dict[str, Space]:
    """Return what is searched of every head: what has a range of its own and was not given; nothing of some heads.

    Of an instance, what differs from its default was given.

    Parameters
    ----------
    heads : sequence of str, or mapping of str to dict or classifier
        As :func:`embedonce.compare` takes them.
    made : mapping of str to classifier
        The unfitted heads.
    """
    spaces: dict[str, Space] = {}
    for name, head in made.items():
        kind = getattr(type(head), "head_name", "")
        if kind not in HEADS or type(head) is not head_class(kind):  # what somebody made of a head of ours is not ours
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


def tune_heads(
    cache: FeatureCache,
    made: Mapping[str, Any],
    spaces: Mapping[str, Space],
    plans: Sequence[Sequence[Split]],
    groups: Groups | None,
    seed: int,
    seconds: float,
    jobs: int = 1,
    dask: Any = None,
    on_head: Callable[[str], None] | None = None,
) -> Found:
    """Search parameters of heads in the training part of every fold, or in that of one split.

    Parameters
    ----------
    cache : FeatureCache
    made : mapping of str to classifier
        Unfitted; none is changed.
    spaces : mapping of str to Space
        Of every head, from :func:`search_spaces`. Nothing is searched of one whose space is empty.
    plans : sequence of sequence of Split
        As :func:`embedonce.evaluate.comparison.run.plan_splits` returns them. The folds of each are searched; of
        single splits the first is, and the other takes what was found there.
    groups : Groups, optional
    seed : int
        Of the candidates, and of the inner folds where a split has no seed of its own.
    seconds : float
        For each head in all; every search of it gets the same share. The parameters that a head has are always scored.
    jobs, dask, on_head
        See :func:`embedonce.compare`.

    Raises
    ------
    HeadError
        When no candidate of a head can be scored.
    SplitError
        When a training part cannot be parted again.
    """
    found: Found = [[{} for _ in splits] for splits in plans]
    searched = plans if len(plans[0]) > 1 else plans[:1]
    share = seconds / sum(map(len, searched))
    taking_part = np.concatenate([plans[0][0].train, plans[0][0].test])
    metric = leading_metric(are_skewed(cache.labels[taking_part]))
    for name, space in spaces.items():
        if not space:
            continue
        for number, splits in enumerate(searched):
            for turn, split in enumerate(splits):
                if on_head is not None:
                    on_head(f"{job_label(name, searched, number, turn)} (tuning)")
                found[number][turn][name] = _search(
                    cache, name, made[name], space, split, groups, metric, seed, share, jobs, dask
                )
    return found if len(searched) == len(plans) else [found[0] for _ in plans]


def with_found(made: Mapping[str, Any], found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the heads of one split, those that were tuned with the parameters that were found for it."""
    from sklearn.base import clone

    return {
        name: clone(head).set_params(**found[name]["parameters"]) if name in found else head
        for name, head in made.items()
    }


def tuning_notes(made: Mapping[str, Any], splits: Sequence[Split], found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return, for every head, what was chosen how often on the splits of one plan, and whether time was short."""
    notes = []
    for name, head in made.items():
        if name not in found[0]:
            notes.append(f"{display(name)} was not tuned, since no range of its parameters is left to search")
            continue
        searches = [of_split[name] for of_split in found]
        standing = head.get_params(deep=False)
        chosen = Counter(_words(search["parameters"], standing) for search in searches)
        if len(splits) == 1:
            text = f"training images of the {splits[0].method} split: {next(iter(chosen))}"
        else:
            parts = [f"{words} in {count}" for words, count in chosen.most_common(_SHOWN)]
            rest = len(searches) - sum(count for _, count in chosen.most_common(_SHOWN))
            parts += [f"others in {rest}"] if rest else []
            text = f"training images of each of the {len(splits)} {splits[0].method} folds: {'; '.join(parts)}"
        cut = sum(not search["complete"] for search in searches)
        if cut:
            where = "the search" if len(splits) == 1 else f"{cut} of the {len(searches)} searches"
            text += f" (its time ended {where} early: longer may find better ones)"
        aim = "" if searches[0]["metric"] == "accuracy" else f" for {METRICS[searches[0]['metric']].title}"
        notes.append(f"{display(name)} was tuned{aim} in the {text}")
    return notes


def _search(
    cache: FeatureCache,
    name: str,
    head: Any,
    space: Space,
    split: Split,
    groups: Groups | None,
    metric: str,
    seed: int,
    seconds: float,
    jobs: int,
    dask: Any,
) -> dict[str, Any]:
    """Search in the training part of one split and return what is known of it."""
    from sklearn.base import clone

    def make(**parameters: Any) -> Any:
        return clone(head).set_params(**parameters)

    standing = head.get_params(deep=False)
    default = {key: standing[key] for key in space}
    own = seed if split.seed is None else split.seed
    inner = inner_folds(cache, split, groups, _inner_count(cache, split, groups), own)
    search = Search(cache, name, make, inner, groups, metric, own, jobs, dask, time.time() + seconds, None)
    best = search.run(candidates(space, default, TRIALS, seed))
    start = search.default_of(best)["score"]
    about = {} if split.fold is None else {"repeat": split.repeat, "fold": split.fold}
    return about | {
        "parameters": best["parameters"],
        "metric": metric,
        "score": best["score"],
        "default_score": None if math.isnan(start) else start,
        "trials": len({row["trial"] for row in search.table}),
        "complete": search.complete,
    }


def _inner_count(cache: FeatureCache, split: Split, groups: Groups | None) -> int:
    """Return how many folds a search has: as many as in ``embedonce tune``, fewer where a class has fewer units."""
    kept = groups is not None and split.method != "random"
    units = groups.ids if groups is not None and kept else np.arange(len(cache))
    pairs = np.unique(np.stack([cache.labels[split.train], units[split.train]]), axis=1)
    labels, counts = np.unique(pairs[0], return_counts=True)
    if counts.min() < 2:
        raise SplitError(
            f"parameter tune of compare needs two {'groups' if kept else 'images'} of every class in every training "
            f"part, but {display(cache.class_names[labels[counts.argmin()]])} has one; leave out tune or add images"
        )
    return int(min(FOLDS, counts.min()))


def _words(parameters: Mapping[str, Any], standing: Mapping[str, Any]) -> str:
    words = ", ".join(f"{key} {value}" for key, value in parameters.items())
    return f"{words} (as without tuning)" if all(standing[key] == parameters[key] for key in parameters) else words
