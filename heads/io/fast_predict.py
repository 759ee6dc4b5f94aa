"""Saved heads as arrays: predicting without scikit-learn and skops, whose imports take a second and more.

A ``.skops`` file is a zip archive of NumPy files and a ``schema.json`` that says which object has which. Of the heads
logreg, linear-svm and svm a handful of its arrays decide every prediction. Whatever in the file is not as expected is
left to skops: see `embedonce.heads.io.files.load_head`.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ModelFileError, first_line
from ..numerics import (
    Affine,
    Array,
    RBFMachine,
    of_classes,
    ovr_scores,
    pair_coefficients,
    pair_log_scores,
    predicted_indices,
    probabilities,
)
from .metadata import ZIP_ERRORS, read_entry

_PROTOCOL = 2  # of skops's schema


class PlainHead:
    """A fitted head that can predict, and nothing else; the base of the two kinds below.

    Attributes
    ----------
    classes_ : ndarray of shape (k,)
    """

    def __init__(self, classes: Array) -> None:
        self.classes_ = classes

    def _read(self, X: Array) -> tuple[Array, Array]:
        """Return scores for `predicted_indices`, and log scores, of features (m, d)."""
        raise NotImplementedError

    def predict(self, X: Array) -> Array:
        """Return the class label of each row of features (m, d)."""
        return self.classes_[predicted_indices(self._read(X)[0])]

    def predict_proba(self, X: Array) -> Array:
        """Return class probabilities, shape (m, k), float64."""
        scores, log_scores = self._read(X)
        return probabilities(log_scores, predicted_indices(scores))


class PlainLinear(PlainHead):
    """Logistic regression or a linear support vector machine."""

    def __init__(self, classes: Array, affine: Affine) -> None:
        super().__init__(classes)
        self._affine = affine

    def _read(self, X: Array) -> tuple[Array, Array]:
        log_scores: Array = X.astype(np.float64) @ self._affine.kernel + self._affine.bias
        return log_scores, log_scores


class PlainRBF(PlainHead):
    """A support vector machine with RBF kernel."""

    def __init__(self, classes: Array, mean: Array, scale: Array, machine: RBFMachine, sharpness: float) -> None:
        super().__init__(classes)
        self._mean, self._scale = mean, scale
        self._machine = machine
        self._sharpness = sharpness

    def _read(self, X: Array) -> tuple[Array, Array]:
        # the order and the types of StandardScaler
        scaled = X.astype(self._machine.vectors.dtype)
        scaled -= self._mean
        scaled /= self._scale
        margins, k = of_classes(self._machine.margins(scaled)), len(self.classes_)
        return ovr_scores(margins, k), pair_log_scores(margins, k, self._sharpness)


def load_plain(path: Path | str) -> PlainHead | None:
    """Read a head as arrays; None when the file is of another kind, another head, or not as expected.

    Raises
    ------
    ModelFileError
        If the file is damaged or was not written by embedonce.
    """
    path = Path(path)
    if path.suffix.lower() != ".skops":
        return None
    read_entry(path)
    try:
        with zipfile.ZipFile(path) as archive:
            schema = json.loads(archive.read("schema.json"))
            if schema["protocol"] != _PROTOCOL:
                return None
            return _head(_Object(schema, archive, _by_id(schema)))
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    except (OSError, *ZIP_ERRORS) as error:
        raise ModelFileError(f"{path}: damaged: {first_line(error)}") from error


class _Object:
    """The attributes of an object in a schema, each read when it is asked for."""

    def __init__(self, node: Any, archive: zipfile.ZipFile, nodes: dict[int, Any]) -> None:
        if node["__loader__"] != "ObjectNode":
            raise ValueError(f"no object: {node['__loader__']}")
        self.kind = f"{node['__module__']}.{node['__class__']}"
        self._attributes = node["content"]["content"]
        self._archive = archive
        self._nodes = nodes

    def __contains__(self, name: str) -> bool:
        return name in self._attributes

    def __getitem__(self, name: str) -> Any:
        return self._value(self._attributes[name])

    def _value(self, node: Any) -> Any:
        loader = node["__loader__"]
        if loader == "CachedNode":  # an object that stands in the schema before
            return self._value(self._nodes[node["__id__"]])
        if loader == "JsonNode" and node["is_json"]:
            return json.loads(node["content"])
        if loader == "NdArrayNode" and node["type"] == "numpy":
            return np.load(io.BytesIO(self._archive.read(node["file"])), allow_pickle=False)
        if loader in ("ListNode", "TupleNode"):
            return [self._value(part) for part in node["content"]]
        return _Object(node, self._archive, self._nodes)


def _by_id(node: Any) -> dict[int, Any]:
    """Return all nodes of a schema that are no references, by their numbers."""
    found: dict[int, Any] = {}
    if isinstance(node, dict):
        if "__id__" in node and node.get("__loader__") != "CachedNode":
            found[node["__id__"]] = node
        for part in node.values():
            found |= _by_id(part)
    elif isinstance(node, list):
        for part in node:
            found |= _by_id(part)
    return found


def _head(head: _Object) -> PlainHead | None:
    module, _, kind = head.kind.rpartition(".")
    if module == "embedonce.heads.linear" and kind in ("LogisticRegressionHead", "LinearSVMHead"):
        if kind == "LinearSVMHead" and not head["probability"]:
            return None
        sharpness = head["sharpness_"] if kind == "LinearSVMHead" else 1.0
        (_, scaler), (_, linear) = head["model_"]["steps"]
        affine = Affine.of_standardised(
            linear["coef_"], linear["intercept_"], scaler["mean_"], scaler["scale_"], sharpness
        )
        return PlainLinear(head["classes_"], affine)
    if head.kind == "embedonce.heads.svm.SVMHead" and head["probability"]:
        scaler = head["scaler_"]
        approximate = "approximate_" in head and head["approximate_"]
        coefficients = head["pair_coef_"] if approximate else pair_coefficients(head["dual_coef_"], head["n_support_"])
        machine = RBFMachine(head["support_vectors_"], coefficients, head["intercept_"], head["gamma_"])
        return PlainRBF(head["classes_"], scaler["mean_"], scaler["scale_"], machine, head["sharpness_"])
    return None
