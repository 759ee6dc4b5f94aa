"""The resizing of an extraction as part of a Keras model, in operations that LiteRT has."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._keras import import_keras


def resized_as_trained(image: Any, size: int, how: str, antialias: bool) -> Any:
    """Return symbolic images (b, h, w, 3) as (b, size, size, 3), by the options of `extract_features`."""
    keras = import_keras()
    if how != "pad" and not antialias:
        crop = how == "crop"
        return keras.layers.Resizing(size, size, "bilinear", crop_to_aspect_ratio=crop, name="resize")(image)
    # neither the padding of resize_with_pad nor ScaleAndTranslate exists there, but products of matrices
    ops = keras.ops
    rows, columns = ops.ones_like(image[0, :, 0, 0]), ops.ones_like(image[0, 0, :, 0])
    vertical = _weights(ops, rows, columns, size, how, antialias)
    horizontal = _weights(ops, columns, rows, size, how, antialias)
    channels_first = ops.transpose(image, (0, 3, 1, 2))
    resized = ops.matmul(ops.matmul(vertical, channels_first), ops.transpose(horizontal))
    return ops.transpose(resized, (0, 2, 3, 1))


def _weights(ops: Any, own: Any, other: Any, size: int, how: str, antialias: bool) -> Any:
    """Return the weights (size, n) of the n lines of an image for those of its square; `own` and `other` are ones."""
    length, across = ops.sum(own), ops.sum(other)
    lines, targets = ops.cumsum(own) - 0.5, np.arange(size, dtype=np.float32) + np.float32(0.5)
    start, first, filled = 0.0, 0.0, float(size)  # of the image, and of the lines of the square that it fills
    used = length
    if how == "crop":
        used = ops.maximum(ops.minimum(length, ops.floor(across * size / size)), 1.0)
        start = ops.floor((length - used) / 2)
    elif how == "pad":
        resized = length / (ops.maximum(length, across) / size)
        filled = ops.maximum(ops.floor(resized), 1.0)
        first = ops.minimum(ops.maximum(ops.floor((size - resized) / 2), 0.0), size - filled)
    scale = used / filled
    radius = ops.maximum(scale, 1.0) if antialias else 1.0
    centers = ops.multiply(ops.subtract(targets, first), scale)
    centers = ops.minimum(ops.maximum(centers, 0.5), used - 0.5)  # the borders are repeated
    distances = ops.absolute((lines - start)[None, :] - centers[:, None])
    weights = ops.maximum(1.0 - distances / radius, 0.0)
    if how == "crop":
        inside = ops.absolute(lines - start - used / 2) < used / 2
        weights = weights * ops.cast(inside, "float32")
    weights = weights / ops.sum(weights, axis=1, keepdims=True)
    if how == "pad":
        shown = ops.absolute(ops.subtract(targets, first + filled / 2)) < filled / 2
        weights = weights * ops.cast(shown, "float32")[:, None]
    return weights
