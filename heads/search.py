"""Which parameters of a head are worth tuning, and which combinations of their values are tried.

Combinations come from a Halton sequence (Halton 1960), shifted by a random vector modulo 1 (Cranley and Patterson
1976). Random search finds good parameters with fewer trials than a grid, because it tries a new value of every
parameter in every trial, and low-discrepancy sequences leave smaller gaps than independent draws (Bergstra and Bengio
2012, Random search for hyper-parameter optimization). Lists of values are a grid when the trials suffice for all of it.
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
    """Return what is searched for a head: what the user gave, otherwise what the table has.

    Parameters
    ----------
    head : str
        As :func:`embedonce.make_head` takes it.
    given : mapping of str to sequence, optional
        Values of every parameter that is to be searched; others stay as they are.
    fixed : mapping, optional
        Parameters that are not searched, and their values.

    Returns
    -------
    mapping of str to Range or Choice
        At least one parameter.

    Raises
    ------
    HeadError
        When there is no such head, or nothing to search.
    HeadParameterError
        When the head has no parameter of that name.
    """
    fixed = fixed or {}
    make_head(head, **fixed)
    if given is not None:
        return _given_space(head, given, fixed)
    if head not in HEADS:
        raise HeadError(
            f"parameter space of tune must name values for head {head!r}, which has no search space of its own (only "
            f"{', '.join(name for name, known in HEADS.items() if known.space)} have); give some, such as "
            f"--space {head}.NAME=VALUE,VALUE"
        )
    own = HEADS[head].space
    space = {name: values for name, values in own.items() if name not in fixed}
    if not space:
        has = "has no parameters to tune" if not own else f"has nothing left to tune beside {', '.join(fixed)}"
        raise HeadError(f"head {head!r} {has}; tune another head, or name values of other parameters of it")
    return space


def _given_space(head: str, given: Mapping[str, Sequence[Any]], fixed: Mapping[str, Any]) -> Space:
    if not given:
        raise HeadError(f"parameter space of tune must name at least one parameter of head {head!r}, got none")
    for name, values in given.items():
        if isinstance(values, str | bytes) or not isinstance(values, Sequence) or not len(values):
            raise HeadError(
                f"parameter space of tune must be a list of values for {name} of head {head!r}, got {values!r}"
            )
        if name in fixed:
            raise HeadError(
                f"parameter space of tune must not name {name} of head {head!r}, whose value is given: "
                f"{fixed[name]!r}; leave out one of them"
            )
        for value in values:  # knows whether there is such a parameter, and what it takes
            make_head(head, **fixed, **{name: value})
    return {name: Choice(tuple(values)) for name, values in given.items()}


def candidates(space: Space, default: Mapping[str, Any], trials: int, seed: int) -> list[dict[str, Any]]:
    """Return combinations of values, the default first.

    Parameters
    ----------
    space : mapping of str to Range or Choice
    default : mapping
        Value of every parameter of the space, with which the head is made when nothing is said.
    trials : int
        Combinations besides the default; fewer where there are no more.
    seed : int
        Of the shift of the sequence.

    Returns
    -------
    list of dict
        Each once; the same seed gives the same list.
    """
    made = {_key(default): dict(default)}
    for combination in _combinations(space, trials, seed):
        if len(made) > trials:
            break
        made.setdefault(_key(combination), combination)
    return list(made.values())


def _combinations(space: Space, trials: int, seed: int) -> Iterable[dict[str, Any]]:
    lists = {name: values.values for name, values in space.items() if isinstance(values, Choice)}
    if len(lists) == len(space) and math.prod(map(len, lists.values())) <= trials:
        from sklearn.model_selection import ParameterGrid

        return list(ParameterGrid(lists))
    from scipy.stats import qmc

    # the generator's own scrambling has changed its parameters between versions; a shift is the same in all
    shift = np.random.default_rng(seed).random(len(space))
    points = (qmc.Halton(len(space), scramble=False).random(_DRAWS * trials) + shift) % 1
    return ({name: space[name].at(float(share)) for name, share in zip(space, point, strict=True)} for point in points)


def _key(combination: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    # 1 and 1.0 are one value; lists and other things that cannot be hashed are values too
    return tuple(
        (name, repr(float(value)) if is_number(value) else repr(value)) for name, value in sorted(combination.items())
    )
