"""The softmax head as a Keras model."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from .._keras import import_keras


def dense_model(kernel: NDArray[Any], bias: NDArray[Any], dropout: float) -> Any:
    """Return dropout and a dense softmax layer of a kernel (d, k) and a bias (k,) as a Keras model named "head"."""
    keras = import_keras()
    # nothing that Keras would draw a seed for from a global generator
    dense = keras.layers.Dense(kernel.shape[1], activation="softmax", kernel_initializer="zeros", name="probabilities")
    model = keras.Sequential(
        [keras.Input((len(kernel),)), keras.layers.Dropout(dropout, seed=0, name="dropout"), dense], name="head"
    )
    dense.set_weights([kernel, bias])
    return model
