"""Which parameters of a head are worth tuning, and which combinations of their values are tried.

Combinations come from a Halton sequence (Halton 1960), shifted by a random vector modulo 1 (Cranley and Patterson
1976). Random search finds good parameters with fewer trials than a grid, because it tries a new value of every
parameter in every trial, and low-discrepancy sequences leave smaller gaps than independent draws (Bergstra and Bengio
2012, Random search for hyper-parameter optimization). Lists of values are a grid when the trials suffice for all of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, TypeAlias

import numpy as np

from ..cache.errors import HeadError
from .registry import head_names, make_head

_DRAWS = 64  # points for every combination that is wanted: whole numbers and choices meet the same one again
_EDGE = 0.05  # share of a range that is its end


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``.

    Attributes
    ----------
    low, high : float
        With ``log`` both are above 0.
    log : bool
        Whether equal ratios, not equal differences, are equally far apart.
    integer : bool
    """

    low: float
    high: float
    log: bool = True
    integer: bool = False

    def at(self, share: float) -> float | int:
        """Return the number at a share of the way, from 0 to 1.

        It has two significant digits, so that who types it gets the same head: finer steps decide nothing.
        """
        span = self.high - self.low
        exact = self.low * (self.high / self.low) ** share if self.log else self.low + span * share
        value = min(max(float(f"{exact:.2g}"), self.low), self.high)
        return round(value) if self.integer else value

    def at_its_end(self, value: Any) -> bool:
        """Tell whether a number lies in the first or the last twentieth of the way."""
        if not _is_number(value):
            return False
        ends = [self.low, self.high]
        value, low, high = np.log([value, *ends]) if self.log and value > 0 else (value, *ends)
        return not _EDGE < (value - low) / (high - low) < 1 - _EDGE


@dataclass(frozen=True)
class Choice:
    """Some values, in the order in which a figure shows them."""

    values: tuple[Any, ...]

    def at(self, share: float) -> Any:
        """Return the value at a share of the way, from 0 to below 1."""
        return self.values[int(share * len(self.values))]

    def at_its_end(self, value: Any) -> bool:
        """Tell whether a number is the smallest or largest of three or more; words have no order."""
        if len(self.values) < 3 or not all(map(_is_number, self.values)):
            return False
        return value in (min(self.values), max(self.values))


Space: TypeAlias = Mapping[str, Range | Choice]

# One entry per head of the registry. The ranges are for MobileNetV2's 1,280 features: with so many, linear heads need
# small C, and gamma="scale" is 1 / 1280, about 0.0008.
SPACES: dict[str, Space] = {
    "softmax": {
        "learning_rate": Range(1e-4, 2e-2),
        "dropout": Range(0.0, 0.6, log=False),
        "epochs": Range(3, 20, integer=True),
        "batch_size": Choice((32, 64, 128, 256)),
    },
    "logreg": {"C": Range(1e-5, 10.0)},
    "svm": {"C": Range(0.1, 1000.0), "gamma": Range(5e-5, 3e-3)},
    "linear-svm": {"C": Range(1e-6, 0.1)},
    "knn": {
        "n_neighbors": Range(1, 50, integer=True),
        "metric": Choice(("euclidean", "cosine")),
        "weights": Choice(("uniform", "distance")),
    },
    "dummy": {},
}


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
    if head not in SPACES:
        raise HeadError(
            f"parameter space of tune must name values for head {head!r}, which has no search space of its own (only "
            f"{', '.join(name for name in head_names() if SPACES[name])} have); give some, such as "
            f"--space {head}.NAME=VALUE,VALUE"
        )
    space = {name: values for name, values in SPACES[head].items() if name not in fixed}
    if not space:
        has = "has no parameters to tune" if not SPACES[head] else f"has nothing left to tune beside {', '.join(fixed)}"
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
        make_head(head, **fixed, **{name: values[0]})  # knows whether there is such a parameter
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
        (name, repr(float(value)) if _is_number(value) else repr(value)) for name, value in sorted(combination.items())
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
