"""Fits of many heads, which a grid of comparisons shares."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ...errors import EmbedonceError
from ...heads.numerics import is_sharing, shared
from .fitting import fit_and_score
from .parallel import run_as_finished
from .results import HeadResult


def fit_unshared(
    work: Mapping[str, tuple[Any, ...]], jobs: int, dask: Any, announce: Callable[[int], None]
) -> Iterator[tuple[int, HeadResult | EmbedonceError]]:
    """Fit and score all heads; those that an earlier comparison of a grid fitted are taken from it."""
    if not is_sharing():
        yield from run_as_finished(fit_and_score, work, jobs, dask, announce)
        return
    keys = []
    for name, head, _, split, groups, views in work.values():
        # a grid has one set of caches, which names tell apart
        about = name, type(head), repr(sorted(head.get_params().items()))
        keys.append(("fit", *about, id(split), id(groups), None if views is None else views.names))
    fits: list[dict[Any, HeadResult]] = [shared(key, dict) for key in keys]
    missing = [number for number, fit in enumerate(fits) if not fit]
    names = list(work)
    new = {names[number]: work[names[number]] for number in missing}
    yield from ((number, fit["result"]) for number, fit in enumerate(fits) if fit)
    for place, outcome in run_as_finished(fit_and_score, new, jobs, dask, lambda place: announce(missing[place])):
        if not isinstance(outcome, EmbedonceError):
            fits[missing[place]]["result"] = outcome
        yield missing[place], outcome
