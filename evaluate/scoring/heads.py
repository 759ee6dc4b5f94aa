"""Heads of a comparison: their names, how they are made, class weights, calibration, and the splits they are for."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...cache import display
from ...errors import EmbedonceError, HeadError, HeadParameterError, check_mapping, describe
from ...heads import make_head, unfitted_copy
from ..splits import Split, SplitPlan
from .results import HeadResult, TuningResult


@dataclass(eq=False)
class HeadsOnSplit:
    """Unfitted heads for one split; ``label`` is the text after their names, such as " (fold 1 of 5)"."""

    split: Split
    label: str
    heads: dict[str, Any]
    searches: dict[str, TuningResult] = field(default_factory=dict)
    results: dict[str, HeadResult] = field(default_factory=dict)


@dataclass(eq=False)
class HeadsOnPlan:
    """Heads on the splits of one plan."""

    plan: SplitPlan
    splits: list[HeadsOnSplit]
    failed: dict[str, EmbedonceError] = field(default_factory=dict)

    def drop(self, failed: Mapping[str, EmbedonceError]) -> None:
        """Leave out heads that failed on a split, on all splits."""
        self.failed |= failed
        for on_split in self.splits:
            for by_head in (on_split.heads, on_split.searches, on_split.results):
                for name in failed:
                    by_head.pop(name, None)


def heads_on_plans(heads: Mapping[str, Any], plans: Sequence[SplitPlan]) -> list[HeadsOnPlan]:
    """Return the heads on every split of every plan."""
    return [
        HeadsOnPlan(
            plan,
            [
                HeadsOnSplit(
                    split,
                    f" ({split.method})" * (len(plans) > 1) + f" (fold {number} of {len(plan)})" * plan.has_folds,
                    dict(heads),
                )
                for number, split in enumerate(plan, start=1)
            ],
        )
        for plan in plans
    ]


def name_heads(heads: Any) -> dict[str, Any]:
    """Return heads as `compare` takes them, by name: parameters or a classifier of each."""
    if isinstance(heads, Mapping):
        named = dict(heads)
        for name, entry in named.items():
            if not isinstance(name, str) or not (isinstance(entry, Mapping) or hasattr(entry, "fit")):
                raise HeadError(
                    "parameter heads of compare must map names to parameters or scikit-learn classifiers, got "
                    f"{describe(entry)} for {name!r}"
                )
    else:
        if not isinstance(heads, Iterable) and not hasattr(heads, "fit"):
            raise HeadError(
                "parameter heads of compare must be names, scikit-learn classifiers or a mapping of names to them, got "
                f"{describe(heads)}"
            )
        listed = [heads] if isinstance(heads, str) or hasattr(heads, "fit") else list(heads)
        for head in listed:
            if not isinstance(head, str) and not hasattr(head, "fit"):
                raise HeadError(
                    "a head in parameter heads of compare must be a name or a scikit-learn classifier, got "
                    f"{describe(head)}"
                )
        named = {_name_of(head): {} if isinstance(head, str) else head for head in listed}
        if len(named) < len(listed):
            names = ", ".join(map(_name_of, listed))
            raise HeadError(
                f"parameter heads of compare must name each head once, got {names}. Give a mapping of names to heads"
            )
    if not named:
        raise HeadError("parameter heads of compare must name at least one head, got none")
    return named


def _name_of(head: Any) -> str:
    kind = head if inspect.isclass(head) else type(head)  # a class is refused by its name
    return head if isinstance(head, str) else getattr(head, "head_name", kind.__name__)


def make_heads(named: Mapping[str, Any]) -> dict[str, Any]:
    """Return the unfitted heads by name, from `name_heads`."""
    return {
        name: _make(name, entry) if isinstance(entry, Mapping) else unfitted_copy(name, entry)
        for name, entry in named.items()
    }


def name_and_parameters(name: str, entry: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the head that an entry asks for, ``entry["head"]`` or its name, and the other parameters."""
    parameters = dict(entry)
    return (parameters.pop("head") if isinstance(entry.get("head"), str) else name), parameters


def _make(name: str, entry: Mapping[str, Any]) -> Any:
    kind, parameters = name_and_parameters(name, check_mapping(f"heads[{name!r}]", "compare", entry))
    return make_head(kind, **parameters)


def weigh_classes(heads: Mapping[str, Any], class_weight: str | None) -> list[str]:
    """Set ``class_weight`` of every head that has it, and return notes on the others."""
    if class_weight is None:
        return []
    if not isinstance(class_weight, str) or class_weight != "balanced":
        raise HeadParameterError(
            f"parameter class_weight of compare must be None or 'balanced', got {describe(class_weight)}"
        )
    without = []
    for name, head in heads.items():
        if "class_weight" in head.get_params(deep=False):
            head.set_params(class_weight=class_weight)
        else:
            without.append(name)
    text = f"{', '.join(map(display, without))} cannot weigh classes and trained without class weights"
    return [text] if without else []


def notices_of_cost(heads: Mapping[str, Any], rows: int, features: int, classes: int) -> list[str]:
    """Return a sentence for each head whose training or predictions take minutes."""
    found = []
    for name, head in heads.items():
        notice = getattr(head, "cost_notice", None)
        text = "" if notice is None else notice(rows, features, classes)
        if text:
            found.append(f"{display(name)} takes {text}.")
    return found


def check_calibration(method: str | None) -> None:
    """Raise a HeadParameterError when there is no such calibration."""
    from ...heads import METHODS

    if method is not None and not (isinstance(method, str) and method in METHODS):
        raise HeadParameterError(
            f"parameter calibrate of compare must be {' or '.join(METHODS)}, got {describe(method)}"
        )


def calibrate_heads(plans: Iterable[HeadsOnPlan], method: str | None) -> list[str]:
    """Wrap every head that has probabilities, on all splits, and return notes on the others."""
    if method is None:
        return []
    from ...heads import CalibratedHead

    without: dict[str, None] = {}
    for plan in plans:
        for on_split in plan.splits:
            for name, head in on_split.heads.items():
                if hasattr(head, "predict_proba"):
                    on_split.heads[name] = CalibratedHead(head, method)
                else:
                    without[name] = None
    return [f"{', '.join(map(display, without))} has no probabilities to calibrate"] if without else []
