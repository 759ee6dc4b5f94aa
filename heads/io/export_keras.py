"""Fitted heads as Keras models of plain layers, from features to probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._keras import import_keras
from ...errors import HeadError
from ..keras_model import dense_model
from ..numerics import Affine, Array, pair_signs

EXPORTABLE = ("softmax", "logreg", "linear-svm", "svm")


def require_exportable(head: Any) -> None:
    """Raise `HeadError` unless a head is softmax, logreg, linear-svm or svm with probabilities."""
    name = getattr(type(head), "head_name", type(head).__name__)
    if name not in EXPORTABLE:
        raise HeadError(f"head {name!r} cannot be exported. The heads that can be are {', '.join(EXPORTABLE)}")
    if not hasattr(head, "predict_proba"):
        raise HeadError(
            f"head {name!r} was trained with probability=False, and an exported model gives probabilities. Train it "
            "again with probability=True"
        )


def keras_head(head: Any) -> Any:
    """Return a fitted head as a Keras model named "head": features (m, d) in, probabilities (m, k) in float32 out."""
    require_exportable(head)
    if head.head_name == "svm":
        return _rbf_model(head)
    # not compiled, as model_ of softmax is: Keras would warn of its optimizer whenever the file is loaded
    kernel, bias = head.affine_log_scores()
    return dense_model(kernel, bias, float(getattr(head, "dropout", 0.0)))


def _rbf_model(head: Any) -> Any:
    """Return exp(2 u.v - |v|^2 - |u|^2), of rows u and vectors v times the root of gamma, then dense, as layers."""
    keras = import_keras()
    layers = keras.layers
    machine = head.machine()
    vectors = machine.vectors.astype(np.float64) * np.sqrt(machine.gamma)
    features = keras.Input((head.n_features_in_,), name="features")
    scaled = layers.Normalization(mean=head.mean_, variance=np.square(head.scale_) / head.gamma_, name="standardise")(
        features
    )
    products = _dense(scaled, "support_vectors", 2 * vectors.T, -np.square(vectors).sum(axis=1))
    exponent = layers.Subtract(name="distances")([products, layers.Dot(axes=1, name="norms")([scaled, scaled])])
    similar = layers.Activation("exponential", name="kernel")(exponent)

    factor = head.inverse_temperature_
    if len(head.classes_) == 2:
        affine = Affine.of_margins(factor * machine.coefficients.T, factor * machine.intercept)
        output = _dense(similar, "probabilities", *affine, activation="softmax")
    else:
        margins = _dense(similar, "margins", machine.coefficients, machine.intercept)
        output = layers.Softmax(name="probabilities")(_log_scores(margins, len(head.classes_), factor))
    return keras.Model(features, output, name="head")


def _log_scores(margins: Any, k: int, inverse_temperature: float) -> Any:
    """Return log scores as layers, aligned with the votes: `pair_log_scores`, `ovr_scores` and `align_argmax`."""
    ops = import_keras().ops
    signs = pair_signs(k)  # (pairs, k)
    first, second = np.maximum(signs, 0), np.maximum(-signs, 0)
    lost = ops.cast(ops.less(margins, 0.0), "float32")
    votes = _dense(lost, "votes", second - first, first.sum(axis=0))
    scores = votes + _dense(margins, "sums", first - second, activation="softsign") / 3.0
    both = np.eye(len(first)) * inverse_temperature
    pairs = _dense(margins, "pairs", np.hstack([both, -both]), activation="log_sigmoid")
    log_scores = _dense(pairs, "log_scores", np.vstack([first, second]))
    below = log_scores - ops.max(log_scores, axis=1, keepdims=True)
    # above 0, the log score of the class that was highest
    return ops.where(ops.equal(scores, ops.max(scores, axis=1, keepdims=True)), 1e-6, below)


def _dense(inputs: Any, name: str, kernel: Array, bias: Array | None = None, activation: str | None = None) -> Any:
    layer = import_keras().layers.Dense(kernel.shape[1], activation=activation, use_bias=bias is not None, name=name)
    output = layer(inputs)
    layer.set_weights([kernel] if bias is None else [kernel, bias])
    return output
