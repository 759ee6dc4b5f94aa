"""Checks of head parameters, made when a head is fitted.

scikit-learn's contract forbids checking in a constructor (``clone`` and ``set_params`` bypass it), so a
head checks its parameters at the start of ``fit``. Every message has one shape: which parameter of
which head, what is allowed, what it got.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np

from ..errors import HeadParameterError


def wrong_value(head: str, name: str, allowed: str, value: object) -> HeadParameterError:
    """Return the error for one wrong value.

    Parameters
    ----------
    head, name : str
        The head's registry name and the parameter's name.
    allowed : str
        What the parameter takes, as the end of "must be ...".
    value : object
        What it got.

    Returns
    -------
    HeadParameterError
        To be raised by the caller.
    """
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
    """Check that a parameter is a finite number within bounds.

    Parameters
    ----------
    head, name : str
        The head's registry name and the parameter's name.
    value : Any
        The value to check; NumPy numbers count as numbers, ``bool`` does not.
    above, at_least, below : float, optional
        Exclusive lower, inclusive lower and exclusive upper bound.
    integer : bool
        Whether only integers are allowed.

    Raises
    ------
    HeadParameterError
        If the value is no such number.
    """
    bounds = [
        *([f"above {above:g}"] if above is not None else []),
        *([f"of at least {at_least:g}"] if at_least is not None else []),
        *([f"below {below:g}"] if below is not None else []),
    ]
    allowed = f"{'an integer' if integer else 'a number'} {' and '.join(bounds)}".rstrip()
    kind: Any = Integral if integer else Real
    # a bool is an Integral in Python, but nobody means C=True
    if isinstance(value, bool | np.bool_) or not isinstance(value, kind) or not math.isfinite(value):
        raise wrong_value(head, name, allowed, value)
    if (
        (above is not None and not value > above)
        or (at_least is not None and not value >= at_least)
        or (below is not None and not value < below)
    ):
        raise wrong_value(head, name, allowed, value)


def check_choice(head: str, name: str, value: Any, choices: Sequence[str]) -> None:
    """Check that a parameter is one of several strings.

    Raises
    ------
    HeadParameterError
        If it is none of `choices`.
    """
    if not isinstance(value, str) or value not in choices:
        raise wrong_value(head, name, " or ".join(repr(choice) for choice in choices), value)


def check_flag(head: str, name: str, value: Any) -> None:
    """Check that a parameter is True or False.

    Raises
    ------
    HeadParameterError
        If it is neither.
    """
    if not isinstance(value, bool | np.bool_):
        raise wrong_value(head, name, "True or False", value)


def check_class_weight(head: str, value: Any, classes: np.ndarray[Any, Any]) -> None:
    """Check ``class_weight``: None, "balanced", or a mapping from some of the classes to weights above 0.

    Parameters
    ----------
    head : str
        The head's registry name.
    value : Any
        The value to check.
    classes : ndarray of shape (k,)
        The class labels that the training labels hold.

    Raises
    ------
    HeadParameterError
        If the value is something else, or names a class that is not in `classes`.
    """
    if value is None or (isinstance(value, str) and value == "balanced"):
        return
    allowed = "None, 'balanced' or a mapping from class to a weight above 0"
    if not isinstance(value, Mapping):
        raise wrong_value(head, "class_weight", allowed, value)
    known = set(classes.tolist())
    for label, weight in value.items():
        if label not in known:
            names = ", ".join(repr(name) for name in classes.tolist()[:10])
            raise wrong_value(head, "class_weight", f"{allowed}; the classes are {names}", label)
        check_number(head, f"class_weight[{label!r}]", weight, above=0)


def check_random_state(head: str, value: Any) -> None:
    """Check that ``random_state`` is an integer from 0 to 2**32 - 1.

    ``None`` is refused on purpose: a head that cannot be repeated cannot be compared.

    Raises
    ------
    HeadParameterError
        If it is not.
    """
    check_number(head, "random_state", value, at_least=0, below=2**32, integer=True)


def weights_of_classes(value: Any, classes: np.ndarray[Any, Any], codes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the weight of each class that a checked ``class_weight`` means, float64, shape (k,).

    Parameters
    ----------
    value : None, "balanced" or mapping
        "balanced" is n / (k n_j) for a class of n_j of the n training rows, as scikit-learn has it.
    classes : ndarray of shape (k,)
        The class labels.
    codes : ndarray of shape (n,), intp
        Each training row's index into `classes`.
    """
    from sklearn.utils.class_weight import compute_class_weight

    weights: np.ndarray[Any, Any] = compute_class_weight(value, classes=classes, y=classes[codes])
    return weights
