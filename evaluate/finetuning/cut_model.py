"""Division of an image model into a frozen part, which each image passes once, and a trained part."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ..._keras import import_keras
from .image_reader import ImageReader, Indices

Activations = npt.NDArray[np.float32]

ROOM = 2**30
"""Bytes of activations that are stored; others are computed again."""

_BACK = 12  # layers, about a block: so far before the first trained one the activations may be smaller


def cut_model(whole: Any) -> tuple[Any, Any]:
    """Cut an image model before the first trainable layer of its backbone, into a frozen and a trained part."""
    # They have the model's own layers: from images (b, s, s, 3), 0 to 255, to activations, and to probabilities (b, k).
    # Batch normalisation normalises by its own statistics in both.
    keras = import_keras()
    backbone = whole.get_layer("mobilenetv2")
    where = _cut(backbone)
    image = keras.Input(backbone.input_shape[1:], name="image")
    below = keras.Model(backbone.input, where)
    frozen = keras.Model(image, below(whole.get_layer("scaling")(image), training=False))
    inside = keras.Input(where.shape[1:], name="activations")
    maps = keras.Model(where, backbone.output)(inside, training=False)
    return frozen, keras.Model(inside, whole.get_layer("head")(whole.get_layer("pooling")(maps)))


def _cut(backbone: Any) -> Any:
    """Return a small tensor that alone leads from the layers before a place to those behind it."""
    # the place is at most a block before the first layer with something to train
    layers = backbone.layers
    outputs = [layer.output for layer in layers]
    maker = {id(tensor): number for number, tensor in enumerate(outputs)}
    last_use = [0] * len(layers)
    for number, layer in enumerate(layers):
        inputs = layer.input if isinstance(layer.input, (list, tuple)) else [layer.input]
        for tensor in inputs:
            last_use[maker[id(tensor)]] = number
    last_use[maker[id(backbone.output)]] = len(layers)
    first = next((number for number, layer in enumerate(layers) if layer.trainable_variables), len(layers))
    alone = [
        number
        for number in range(first)
        # behind layer `number` nothing older is used any more
        if all(last_use[earlier] <= number for earlier in range(number))
    ]
    near = [number for number in alone if number >= first - _BACK] or alone[-1:]
    return outputs[min(near, key=lambda number: (int(np.prod(outputs[number].shape[1:])), -number))]


class FrozenPart:
    """Activations of the frozen layers, computed once for each of `maximum` augmented views while there is room."""

    def __init__(self, model: Any, reader: ImageReader, maximum: int) -> None:
        self._run = _traced(model)
        self._reader = reader
        self._shape = tuple(model.output_shape[1:])
        room = min(maximum, ROOM // (4 * int(np.prod(self._shape))))
        # the system gives memory to what is written, not to what is asked for
        self._kept = np.empty((room, *self._shape), np.float32)
        self._places: dict[tuple[int, int], int] = {}

    def batches(self, rows: Indices, size: int, views: Indices | None = None) -> Iterator[tuple[Indices, Activations]]:
        """Yield positions in ``rows``, intp (b,), and activations of these images, float32 (b, ...)."""
        turns = np.zeros(len(rows), np.intp) if views is None else views
        keys = list(zip(rows.tolist(), turns.tolist(), strict=True))
        new = [key not in self._places for key in keys]
        computed = self._compute(rows[new], turns[new], size)
        for start in range(0, len(rows), size):
            places = np.arange(start, min(start + size, len(rows)))
            out = np.empty((len(places), *self._shape), np.float32)
            for number, place in enumerate(places.tolist()):
                out[number] = next(computed) if new[place] else self._kept[self._places[keys[place]]]
            yield places, out

    def _compute(self, rows: Indices, views: Indices, size: int) -> Iterator[Activations]:
        """Yield the activations of one image after the other, and keep those that there is room for."""
        for places, pixels in self._reader.batches(rows, size, views):
            activations = np.asarray(self._run(pixels))
            for place, one in zip(places.tolist(), activations, strict=True):
                if len(self._places) < len(self._kept):
                    key = int(rows[place]), int(views[place])
                    self._kept[self._places.setdefault(key, len(self._places))] = one
                yield one


def _traced(model: Any) -> Any:
    """Return a model as a function that is compiled once: ``predict_on_batch`` is again for another batch size."""
    import tensorflow as tf

    spec = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
    return tf.function(lambda batch: model(batch, training=False), input_signature=[spec], autograph=False)
