"""MobileNetV2 in plain NumPy, slow and simple: the reference of the native kernels on every machine."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..backbone import BLOCKS, block_prefix
from .fold import Folded

Array = npt.NDArray[np.float32]


def reference_features(folded: Folded, images: Array) -> Array:
    """Embed images of shape (n, s, s, 3), 0 to 255: float32, shape (n, d)."""
    return np.stack([reference_map(folded, image).mean(axis=(0, 1)) for image in images])


def reference_map(folded: Folded, image: Array) -> Array:
    """Return the last feature map (h, w, d) of an image (s, s, 3), 0 to 255: float32."""

    def weights(name: str) -> tuple[Array, Array]:
        return folded[f"{name}.kernel"], folded[f"{name}.bias"]

    maps = image * np.float32(1 / 127.5) - np.float32(1)
    kernel, bias = weights("Conv1")
    patches = np.concatenate(_taps(maps, 2), axis=-1)
    maps = _relu6(patches @ kernel.reshape(-1, kernel.shape[-1]) + bias)
    for number, (_, stride) in enumerate(BLOCKS):
        before, prefix = maps, block_prefix(number)
        if number:
            kernel, bias = weights(f"{prefix}expand")
            maps = _relu6(maps @ kernel[0, 0] + bias)
        kernel, bias = weights(f"{prefix}depthwise")
        taps = _taps(maps, stride)
        maps = _relu6(sum((tap * row for tap, row in zip(taps, kernel.reshape(9, -1), strict=True)), start=bias))
        kernel, bias = weights(f"{prefix}project")
        maps = maps @ kernel[0, 0] + bias
        if stride == 1 and maps.shape == before.shape:
            maps = maps + before
    kernel, bias = weights("Conv_1")
    return _relu6(maps @ kernel[0, 0] + bias)


def _taps(maps: Array, stride: int) -> list[Array]:
    """Return the inputs of the nine weights of a 3 x 3 kernel, with zeros around the map as Keras pads it."""
    size = len(maps)
    before = 1 if stride == 1 else size % 2
    out = -(-size // stride)
    padded = np.pad(maps, ((before, 1), (before, 1), (0, 0)))
    last = stride * (out - 1) + 1
    return [padded[y : y + last : stride, x : x + last : stride] for y in range(3) for x in range(3)]


def _relu6(maps: Array) -> Array:
    return np.clip(maps, 0, 6)
