"""Heads on their way into a comparison: made, with class weights, tuned, calibrated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..cache.errors import HeadError, HeadParameterError, SplitError
from ..cache.names import display
from ..cache.reader import FeatureCache
from ..heads.registry import HEADS, make_head
from .groups_file import Groups
from .split import Split


def make_heads(heads: Sequence[str] | Mapping[str, Any]) -> dict[str, Any]:
    """Return the unfitted heads by name: see :func:`embedonce.compare`.

    Raises
    ------
    HeadError, HeadParameterError
        When a head is unknown, named twice, or has no such parameter.
    """
    if isinstance(heads, str):
        heads = [heads]
    if isinstance(heads, Mapping):
        made = {
            name: make_head(name, **value) if isinstance(value, Mapping) else value for name, value in heads.items()
        }
    else:
        made = {name: make_head(name) for name in heads}
        if len(made) < len(heads):
            raise HeadError(f"parameter heads of compare names a head twice: {', '.join(heads)}")
    if not made:
        raise HeadError("parameter heads of compare must name at least one head, got none")
    return made


def weigh_classes(made: dict[str, Any], class_weight: str | None) -> list[str]:
    """Set ``class_weight`` of every head that has it, and return notes on the others.

    Raises
    ------
    HeadParameterError
        When it is neither None nor ``balanced``.
    """
    if class_weight is None:
        return []
    if class_weight != "balanced":
        raise HeadParameterError(f"parameter class_weight of compare must be None or 'balanced', got {class_weight!r}")
    without = []
    for name, head in made.items():
        if "class_weight" in head.get_params(deep=False):
            head.set_params(class_weight=class_weight)
        else:
            without.append(name)
    if without:
        return [f"{', '.join(map(display, without))} cannot weigh classes and trained without class weights"]
    return []


def calibrate_heads(made: dict[str, Any], method: str | None) -> list[str]:
    """Wrap every head that has probabilities, and return notes on the others.

    Raises
    ------
    HeadParameterError
        When there is no such method.
    """
    if method is None:
        return []
    from ..heads.calibrated import METHODS, CalibratedHead

    if method not in METHODS:
        raise HeadParameterError(f"parameter calibrate of compare must be {' or '.join(METHODS)}, got {method!r}")
    without = [name for name, head in made.items() if not hasattr(head, "predict_proba")]
    for name, head in made.items():
        if name not in without:
            made[name] = CalibratedHead(head, method)
    return [f"{', '.join(map(display, without))} has no probabilities to calibrate"] if without else []


def tune_heads(
    cache: FeatureCache,
    heads: Sequence[str] | Mapping[str, Any],
    made: dict[str, Any],
    plans: list[list[Split]],
    groups: Groups | None,
    seed: int,
    budget: float,
    jobs: int,
    dask: Any,
    on_head: Callable[[str], None] | None,
) -> list[str]:
    """Set the parameters that a search in the training part finds, and return notes on what it found.

    Raises
    ------
    SplitError
        When there are folds.
    HeadError
        See :func:`embedonce.evaluate.tune.tune`.
    """
    from .tune import tune as search

    if len(plans[0]) > 1:
        raise SplitError(
            "parameter tune of compare is for one split, since every fold would need a search of its own; leave out "
            "folds, or tune first and give the parameters"
        )
    notes = []
    for name in made:
        given = heads.get(name, {}) if isinstance(heads, Mapping) else {}
        if not isinstance(given, Mapping) or not (name in HEADS and set(HEADS[name].space) - set(given)):
            notes.append(f"{display(name)} was not tuned, since it has no range of parameters to search")
            continue
        if on_head is not None:
            on_head(f"{name} (tuning)")
        found = search(
            cache,
            name,
            parameters=given,
            split=plans[0][0],
            groups=groups,
            seed=seed,
            budget=budget,
            jobs=jobs,
            dask=dask,
        )
        made[name].set_params(**found.best_parameters)
        shown = ", ".join(f"{key} {value}" for key, value in found.best_parameters.items())
        notes.append(f"{name} was tuned in the training images of the {plans[0][0].method} split: {shown}")
    return notes
