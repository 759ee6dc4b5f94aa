"""Checks of the arrays and numbers of a head in a model file: what its predictor reads, and what it can have."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from ...errors import describe, is_number
from ..numerics import Array
from .metadata import is_float, is_history

# k classes, d features, m margins, p pairs of classes, s support vectors, n training rows
_STANDARDISED = {"mean_": "d", "var_": "d", "scale_": "d"}
_LINEAR = _STANDARDISED | {"coef_": "md", "intercept_": "m"}
_SHAPES = {
    "softmax": {"coef_": "kd", "intercept_": "k"},
    "logreg": _LINEAR,
    "linear-svm": _LINEAR,
    "svm": _STANDARDISED | {"support_vectors_": "sd", "support_": "s", "intercept_": "p"},
    "knn": {"rows_": "nd", "codes_": "n", "class_weights_": "k"},
    "dummy": {"class_prior_": "k"},
    "calibrated": {},
}
_EXACT_SVM, _APPROXIMATE_SVM = {"dual_coef_": "qs", "n_support_": "k"}, {"pair_coef_": "sp"}
_INDICES = {"support_", "codes_", "n_support_"}
_POSITIVE = {"scale_", "class_weights_", "gamma_", "inverse_temperature_", "temperature_"}
_NUMBERS = {"gamma_", "inverse_temperature_", "temperature_"}
_COUNTS = {"n_features_in_", "n_iter_", "n_samples_seen_", "n_calibration_rows_"}
_FLAGS = {"approximate_", "at_bound_", "converged_"}
_OTHER = {"classes_", "uncalibrated_classes_", "feature_names_in_", "history_", "curves_", "head_"} | _FLAGS


def check_head(name: str, parameters: dict[str, Any], attributes: dict[str, Any], complete: bool = True) -> None:
    """Raise ValueError if attributes are not those of a fitted head; an incomplete one may lack arrays."""
    shapes = _shapes_of(name, parameters, attributes) if complete else {}
    if name in _SHAPES:
        used = {*_SHAPES[name], *_EXACT_SVM, *_APPROXIMATE_SVM, *_NUMBERS, *_COUNTS, *_OTHER}
        unknown = sorted(attributes.keys() - used)
        if unknown:
            raise ValueError(f"a head {name!r} has no attribute {unknown[0]}")
    for attribute, value in attributes.items():
        if attribute in _NUMBERS and not (is_float(value) and 0 < value < np.inf):
            raise _wrong(attribute, "a finite number above 0", value)
        if attribute in _COUNTS and not _is_count(value):
            raise _wrong(attribute, "a count", value)
    if not is_history(attributes.get("history_", {})):
        raise _wrong("history_", "lists of numbers", attributes["history_"])
    for attribute in _FLAGS:
        if not isinstance(attributes.get(attribute, False), bool):
            raise _wrong(attribute, "true or false", attributes[attribute])
    if "classes_" in attributes:
        check_classes(attributes["classes_"])
        classes = attributes["classes_"]
        if len(classes) < 2 or not (classes[:-1] < classes[1:]).all():
            raise ValueError("its classes_ must be at least two, sorted")
    for attribute in ("uncalibrated_classes_", "feature_names_in_"):
        value = attributes.get(attribute, np.zeros(0))
        if not isinstance(value, np.ndarray) or value.ndim != 1 or value.dtype.kind not in "biufUSO":
            raise _wrong(attribute, "an array", attributes[attribute])
    if shapes:
        _check_arrays(shapes, attributes)
    neighbors = parameters.get("n_neighbors", 1)
    if complete and name == "knn" and is_number(neighbors) and neighbors > len(attributes["rows_"]):
        raise ValueError("its n_neighbors must be at most the number of its rows_")
    if complete and name == "calibrated":
        inner, classes = attributes["head_"], attributes["classes_"]
        if not np.array_equal(getattr(inner, "classes_", ()), classes) or not hasattr(inner, "predict_proba"):
            raise ValueError("its head_ must have probabilities of the same classes")


def _is_count(value: Any) -> bool:
    return is_number(value) and isinstance(value, int | np.integer) and 0 <= int(value) < 2**63


def check_classes(classes: Any) -> None:
    """Raise ValueError unless class labels are one row of different numbers or strings."""
    if not isinstance(classes, np.ndarray) or classes.ndim != 1 or classes.dtype.kind not in "biufUSO":
        raise _wrong("classes_", "an array of labels", classes)
    if classes.dtype.kind == "f" and not np.isfinite(classes).all():
        raise ValueError("its classes_ must be finite")
    if classes.dtype.kind == "U" and classes.dtype.itemsize:
        characters = np.ascontiguousarray(classes).view(np.dtype(np.uint32).newbyteorder(classes.dtype.byteorder))
        if (characters > sys.maxunicode).any():
            raise ValueError("its classes_ must be text")
    if not len(classes) or len(set(classes.tolist())) != len(classes):
        raise ValueError("its classes_ must be different from each other")


def _shapes_of(name: str, parameters: dict[str, Any], attributes: dict[str, Any]) -> dict[str, str]:
    """Return the shapes of the arrays that a head predicts from, once it has all that it predicts from."""
    shapes, needed = dict(_SHAPES.get(name, {})), {"classes_"}
    if name == "svm":
        needed |= {"gamma_", "approximate_"}
        shapes |= _APPROXIMATE_SVM if attributes.get("approximate_") is True else _EXACT_SVM
    if name in ("svm", "linear-svm") and parameters.get("probability", True):
        needed.add("inverse_temperature_")
    if name == "calibrated":
        needed.add("head_")
        if parameters.get("method") == "sigmoid":
            shapes["curves_"] = "k2"
        else:
            needed.add("temperature_")
    else:
        needed.add("n_features_in_")
    missing = (needed | shapes.keys()) - attributes.keys()
    if missing:
        raise ValueError(f"it has no {sorted(missing)[0]}")
    return shapes


def _check_arrays(shapes: dict[str, str], attributes: dict[str, Any]) -> None:
    """Raise ValueError unless arrays are finite and their shapes fit the classes, the features and each other."""
    k = len(attributes["classes_"])
    sizes = {"k": k, "m": k if k > 2 else 1, "p": k * (k - 1) // 2, "q": k - 1, "2": 2}
    sizes["d"] = attributes.get("n_features_in_", 1)
    if sizes["d"] < 1:
        raise ValueError("its n_features_in_ must be at least 1")
    for attribute, letters in shapes.items():
        value = attributes[attribute]
        kinds = "i" if attribute in _INDICES else "f"
        if not isinstance(value, np.ndarray) or value.dtype.kind not in kinds or value.dtype.itemsize > 8:
            raise _wrong(attribute, "an array of integers" if kinds == "i" else "an array of floats", value)
        expected = [sizes.setdefault(letter, length) for letter, length in zip(letters, value.shape, strict=False)]
        if len(letters) != value.ndim or list(value.shape) != expected:
            raise ValueError(f"its {attribute} has shape {value.shape}, which does not fit its other parts")
        if not np.isfinite(value).all():
            raise ValueError(f"its {attribute} must be finite")
        if attribute in _POSITIVE and not (value > 0).all():
            raise ValueError(f"its {attribute} must be above 0")
        if attribute in _INDICES and not (value >= 0).all():
            raise ValueError(f"its {attribute} must not be negative")
    if "codes_" in shapes and not (attributes["codes_"] < k).all():
        raise ValueError("its codes_ must be indices of classes_")
    if "n_support_" in shapes and int(attributes["n_support_"].sum(dtype=np.float64)) != sizes["s"]:
        raise ValueError("its n_support_ must add up to its support vectors")
    if "class_prior_" in shapes:
        prior: Array = attributes["class_prior_"]
        if (prior < 0).any() or abs(prior.sum() - 1) > 1e-6:
            raise ValueError("its class_prior_ must be fractions that add up to 1")


def _wrong(attribute: str, allowed: str, value: Any) -> ValueError:
    got = f"an array of {value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else describe(value)
    return ValueError(f"its {attribute} must be {allowed}, got {got}")
