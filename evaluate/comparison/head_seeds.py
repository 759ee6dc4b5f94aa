"""Training of random heads with several seeds on the same split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...cache import display
from ...errors import EmbedonceError, first_line
from ...extract import Progress
from ..scoring import (
    HeadResult,
    HeadsOnPlan,
    SeedScores,
    Views,
    fit_unshared,
    mean_over_repeats,
    pool,
)
from ..shared import Records
from .result import Comparison


def score_head_seeds(
    comparison: Comparison,
    heads: HeadsOnPlan,
    count: int,
    views: Views | None,
    jobs: int,
    dask: Any,
    progress: Progress,
) -> tuple[Records[SeedScores], list[str]]:
    """Score random heads with ``random_state`` 0 to ``count - 1``, and return notes on heads that are left out."""
    from sklearn.base import clone

    results: dict[tuple[str, int], dict[int, HeadResult]] = {}
    work: dict[str, tuple[Any, ...]] = {}
    tasks: list[tuple[str, int, int]] = []
    fixed = []
    for name, result in heads.splits[0].results.items():
        if name not in heads.splits[0].heads:  # an image model
            continue
        if not _is_random(result.head):
            fixed.append(display(name))
            continue
        for seed in range(count):
            for number, on_split in enumerate(heads.splits):
                head = clone(on_split.heads[name])
                states = _random_states(head)
                if set(states.values()) == {seed}:  # it is trained already
                    results.setdefault((name, seed), {})[number] = on_split.results[name]
                    continue
                head.set_params(**dict.fromkeys(states, seed))
                work[f"head {name!r} with random_state={seed}{on_split.label}"] = (
                    name, head, comparison.cache_of(name), on_split.split, comparison.groups, views,
                )  # fmt: skip
                tasks.append((name, seed, number))

    def announce(task: int) -> None:
        name, _, number = tasks[task]
        progress.now(f"training {display(name)} with other seeds{heads.splits[number].label} …")

    notes = []
    for task, outcome in fit_unshared(work, jobs, dask, announce):
        name, seed, number = tasks[task]
        if isinstance(outcome, EmbedonceError):
            notes.append(f"{display(name)} with random_state={seed} is left out: {first_line(outcome)}")
        else:
            results.setdefault((name, seed), {})[number] = replace(outcome, head=None)
    rows = []
    for name in heads.splits[0].heads:
        of_seeds = [results.get((name, seed), {}) for seed in range(count)]
        scores = tuple(_score(comparison, heads, one) for one in of_seeds if len(one) == len(heads.splits))
        if len(scores) > 1:
            rows.append(
                SeedScores(name, comparison.ranked_by, *comparison.result(name).intervals[comparison.ranked_by], scores)
            )
    if fixed:
        verb = "has no randomness, so it was" if len(fixed) == 1 else "have no randomness, so they were"
        notes.append(f"{', '.join(fixed)} {verb} not trained with other seeds")
    return Records(rows), notes


def _score(comparison: Comparison, heads: HeadsOnPlan, results: Mapping[int, HeadResult]) -> float:
    of_splits = [results[number] for number in range(len(heads.splits))]
    if not heads.plan.has_folds:
        return float(of_splits[0].scores[comparison.ranked_by])
    return float(mean_over_repeats(pool(comparison.cache, heads.plan.splits, of_splits))[comparison.ranked_by])


def _random_states(head: Any) -> dict[str, Any]:
    """Return the parameters random_state of a head and of estimators inside it."""
    parameters = head.get_params()
    return {name: value for name, value in parameters.items() if name.split("__")[-1] == "random_state"}


def _is_random(fitted: Any) -> bool:
    """Return whether a fitted head depends on its seed, as far as it can be known."""
    return bool(_random_states(fitted)) and getattr(getattr(fitted, "head_", fitted), "is_random", True)
