"""Parameters of a head to tune, and the combinations of values that a search tries.

Combinations come from a Halton sequence (Halton 1960), shifted by a random vector modulo 1 (Cranley and Patterson
1976), which leaves smaller gaps than independent draws (Bergstra and Bengio 2012, Random search for hyper-parameter
optimization). Lists of values are a grid if the trials suffice for all of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import HeadError, is_number
from .registry import HEADS, make_head
from .spaces import Choice, Space

_DRAWS = 64  # points for every combination that is wanted: whole numbers and choices meet the same one again


def search_space(
    head: str, given: Mapping[str, Sequence[Any]] | None = None, fixed: Mapping[str, Any] | None = None
) -> Space:
    """Return the search space of a head: values that the user gave, otherwise those of the registry.

    `given` are values of every parameter to search, `fixed` those of parameters that are not searched.
    """
    fixed = fixed or {}
    make_head(head, **fixed)
    if given is not None:
        return _given_space(head, given, fixed)
    if head not in HEADS:
        raise HeadError(
            f"parameter space of tune must name values for head {head!r}, which has no search space (only "
            f"{', '.join(name for name, spec in HEADS.items() if spec.space)} have one). Give some, such as "
            f"--space {head}.NAME=VALUE,VALUE"
        )
    full = HEADS[head].space
    space = {name: values for name, values in full.items() if name not in fixed}
    if not space:
        has = "has no parameters to tune" if not full else f"has nothing left to tune besides {', '.join(fixed)}"
        raise HeadError(f"head {head!r} {has}. Tune another head, or name values of other parameters of it")
    return space


def _given_space(head: str, given: Mapping[str, Any], fixed: Mapping[str, Any]) -> Space:
    if not given:
        raise HeadError(f"parameter space of tune must name at least one parameter of head {head!r}, got none")
    given = {name: values.tolist() if isinstance(values, np.ndarray) else values for name, values in given.items()}
    for name, values in given.items():
        if isinstance(values, str | bytes) or not isinstance(values, Sequence) or not len(values):
            raise HeadError(
                f"parameter space of tune must be a list of values for {name} of head {head!r}, got {values!r}"
            )
        if name in fixed:
            raise HeadError(
                f"parameter space of tune must not name {name} of head {head!r}, whose value is given: "
                f"{fixed[name]!r}. Leave out one of them"
            )
        for value in values:  # knows whether there is such a parameter, and what it takes
            make_head(head, **fixed, **{name: value})
    return {
        name: Choice(tuple(value.item() if isinstance(value, np.generic) else value for value in values))
        for name, values in given.items()
    }


def candidates(space: Space, default: Mapping[str, Any], trials: int, seed: int) -> list[dict[str, Any]]:
    """Return the default, then at most `trials` other combinations, each once; the same seed gives the same list."""
    combinations = {_key(default): dict(default)}
    for combination in _combinations(space, trials, seed):
        if len(combinations) > trials:
            break
        combinations.setdefault(_key(combination), combination)
    return list(combinations.values())


def _combinations(space: Space, trials: int, seed: int) -> Iterable[dict[str, Any]]:
    lists = {name: values.values for name, values in space.items() if isinstance(values, Choice)}
    if len(lists) == len(space) and math.prod(map(len, lists.values())) <= trials:
        from sklearn.model_selection import ParameterGrid

        return list(ParameterGrid(lists))
    from scipy.stats import qmc

    # the generator's scrambling has changed its parameters between versions; a shift is the same in all
    shift = np.random.default_rng(seed).random(len(space))
    points = (qmc.Halton(len(space), scramble=False).random(_DRAWS * trials) + shift) % 1
    return ({name: space[name].at(float(share)) for name, share in zip(space, point, strict=True)} for point in points)


def _key(combination: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    # 1 and 1.0 are one value; lists and other things that cannot be hashed are values too
    return tuple(
        (name, repr(float(value)) if is_number(value) else repr(value)) for name, value in sorted(combination.items())
    )
