"""Checks of head parameters in ``fit`` and `make_head`: ``clone`` and ``set_params`` bypass a constructor's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, Literal, TypeAlias

import numpy as np

from ..errors import HeadParameterError

ClassWeight: TypeAlias = Mapping[Any, float] | Literal["balanced"] | None


def wrong_value(head: str, name: str, allowed: str, value: object) -> HeadParameterError:
    """Return the error for one incorrect value; `allowed` ends the sentence "must be ..."."""
    return HeadParameterError(f"parameter {name} of head {head!r} must be {allowed}, got {value!r}")


def check_number(
    head: str,
    name: str,
    value: Any,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    integer: bool = False,
) -> None:
    """Raise `HeadParameterError` unless a parameter is a finite number, not a bool, within the bounds."""
    bounds = {"above": above, "of at least": at_least, "below": below}
    words = [f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None]
    allowed = f"{'an integer' if integer else 'a number'} {' and '.join(words)}".rstrip()
    kind: Any = Integral if integer else Real
    # a bool is an Integral in Python, but C=True is a mistake
    if isinstance(value, bool | np.bool_) or not isinstance(value, kind) or not abs(value) < math.inf:
        raise wrong_value(head, name, allowed, value)
    if (
        (above is not None and not value > above)
        or (at_least is not None and not value >= at_least)
        or (below is not None and not value < below)
    ):
        raise wrong_value(head, name, allowed, value)


def check_choice(head: str, name: str, value: Any, choices: Sequence[str]) -> None:
    """Raise `HeadParameterError` unless a parameter is one of several strings."""
    if not isinstance(value, str) or value not in choices:
        raise wrong_value(head, name, " or ".join(repr(choice) for choice in choices), value)


def check_flag(head: str, name: str, value: Any) -> None:
    """Raise `HeadParameterError` unless a parameter is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise wrong_value(head, name, "True or False", value)


def check_class_weight(head: str, value: Any, classes: np.ndarray[Any, Any]) -> None:
    """Raise `HeadParameterError` unless a value is None, "balanced", or a mapping from classes to weights above 0."""
    if value is None or (isinstance(value, str) and value == "balanced"):
        return
    allowed = "None, 'balanced' or a mapping from class to a weight above 0"
    if not isinstance(value, Mapping):
        raise wrong_value(head, "class_weight", allowed, value)
    for label, weight in value.items():
        if label not in set(classes.tolist()):
            names = ", ".join(repr(name) for name in classes.tolist()[:10])
            raise wrong_value(head, "class_weight", f"{allowed}; the classes are {names}", label)
        check_number(head, f"class_weight[{label!r}]", weight, above=0)


def check_random_state(head: str, value: Any) -> None:
    """Raise `HeadParameterError` unless a value is a seed; None makes heads that cannot be repeated."""
    check_number(head, "random_state", value, at_least=0, below=2**32, integer=True)


def weights_of_rows(
    value: Any,
    classes: np.ndarray[Any, Any],
    codes: np.ndarray[Any, Any],
    sample_weight: np.ndarray[Any, Any] | None,
) -> np.ndarray[Any, Any] | None:
    """Return the product of class weight and sample weight of each row (n,); None if neither is given."""
    if value is None:
        return sample_weight
    weights: np.ndarray[Any, Any] = weights_of_classes(value, classes, codes, sample_weight)[codes]
    return weights if sample_weight is None else np.where(sample_weight > 0, weights, 0) * sample_weight


def weights_of_classes(
    value: Any,
    classes: np.ndarray[Any, Any],
    codes: np.ndarray[Any, Any],
    sample_weight: np.ndarray[Any, Any] | None = None,
) -> np.ndarray[Any, Any]:
    """Return the weight (k,) of each class, of class indices (n,); "balanced" is n / (k n_j) as in scikit-learn."""
    from sklearn.utils.class_weight import compute_class_weight

    weights: np.ndarray[Any, Any] = compute_class_weight(
        value, classes=classes, y=classes[codes], sample_weight=sample_weight
    )
    return weights
