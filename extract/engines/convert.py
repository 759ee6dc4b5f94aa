"""Conversion of the Keras model to a LiteRT model of equal features. Imports TensorFlow when called."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..._keras import quiet_native_output
from .litert import Interpreter
from .protocol import check_against_reference


def convert(embedder: Any, image_size: int) -> bytes:
    """Convert an embedder of Keras to a LiteRT model, float32 (1, s, s, 3) to (1, d), and check it against Keras."""
    with quiet_native_output():
        model: bytes = converter_of(embedder, image_size).convert()

    def keras(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return np.asarray(embedder(images, training=False))

    check_against_reference(keras, Interpreter(model), image_size, ("litert", "Keras"))
    return model


def converter_of(embedder: Any, image_size: int) -> Any:
    """Return a ``tf.lite.TFLiteConverter`` of an embedder, for one image at a time."""
    return converter_for(embedder, (1, image_size, image_size, 3))


def converter_for(model: Any, shape: tuple[int | None, ...], dtype: str = "float32") -> Any:
    """Return a ``tf.lite.TFLiteConverter`` of a Keras model for images of this shape and dtype."""
    import tensorflow as tf

    def embed(image: Any) -> Any:
        return model(tf.cast(image, tf.float32), training=False)

    function = tf.function(embed, input_signature=[tf.TensorSpec(shape, dtype)]).get_concrete_function()
    # Without the Keras model as second argument the weights become constants, which XNNPACK needs; with it
    # they stay variables, and LiteRT 2.3 computes NaN. from_keras_model gives the same model in four times the time.
    return tf.lite.TFLiteConverter.from_concrete_functions([function])
