"""Heads on their way into a comparison: made, with class weights, calibrated; how they are named there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...cache import display
from ...errors import HeadError, HeadParameterError
from ...heads import make_head
from ..splits import Split


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
        made = {name: _make(name, entry) if isinstance(entry, Mapping) else entry for name, entry in heads.items()}
    else:
        made = {name: make_head(name) for name in heads}
        if len(made) < len(heads):
            raise HeadError(f"parameter heads of compare names a head twice: {', '.join(heads)}")
    if not made:
        raise HeadError("parameter heads of compare must name at least one head, got none")
    return made


def name_and_parameters(name: str, entry: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return which head an entry means, and its parameters: its name says it, or ``head`` among the parameters."""
    parameters = dict(entry)
    return (parameters.pop("head") if isinstance(entry.get("head"), str) else name), parameters


def _make(name: str, entry: Mapping[str, Any]) -> Any:
    kind, parameters = name_and_parameters(name, entry)
    return make_head(kind, **parameters)


def job_label(name: str, plans: Sequence[Sequence[Split]], plan: int, turn: int) -> str:
    """Return a head's name with the split and the fold that it is worked on, where there are several."""
    splits = plans[plan]
    label = name + f" ({splits[turn].method})" * (len(plans) > 1)
    return label + f" (fold {turn + 1} of {len(splits)})" * (len(splits) > 1)


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


def check_calibration(method: str | None) -> None:
    """Check the parameter ``calibrate``.

    Raises
    ------
    HeadParameterError
        When there is no such method.
    """
    from ...heads import METHODS

    if method is not None and method not in METHODS:
        raise HeadParameterError(f"parameter calibrate of compare must be {' or '.join(METHODS)}, got {method!r}")


def calibrate_heads(by_split: Sequence[dict[str, Any]], method: str | None) -> list[str]:
    """Wrap every head that has probabilities, for all splits, and return notes on the others."""
    if method is None:
        return []
    from ...heads import CalibratedHead

    without = [name for name, head in by_split[0].items() if not hasattr(head, "predict_proba")]
    for made in by_split:
        made |= {name: CalibratedHead(head, method) for name, head in made.items() if name not in without}
    return [f"{', '.join(map(display, without))} has no probabilities to calibrate"] if without else []
