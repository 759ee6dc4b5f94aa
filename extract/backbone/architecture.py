"""MobileNetV2 (Sandler et al., 2018, arXiv:1801.04381, table 2) with Keras's names, shapes and order, without Keras."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Weights = Mapping[str, npt.NDArray[np.float32]]
"""``LAYER/VARIABLE`` of every weight, in Keras's order."""

BLOCKS = (
    *((16, 1), (24, 2), (24, 1), (32, 2), (32, 1), (32, 1), (64, 2), (64, 1), (64, 1), (64, 1)),
    *((96, 1), (96, 1), (96, 1), (160, 2), (160, 1), (160, 1), (320, 1)),
)
"""Output channels at alpha 1.0, and stride, of each inverted residual block."""
EPSILON = 1e-3
"""Term that batch normalisation adds to every variance."""
NORMALISATION = ("gamma", "beta", "moving_mean", "moving_variance")
_EXPANSION = 6


def block_prefix(number: int) -> str:
    """Return the prefix of the names of a block's layers."""
    return f"block_{number}_" if number else "expanded_conv_"


def normalisation_of(convolution: str) -> str:
    """Return the name of the batch normalisation behind a convolution."""
    return {"Conv1": "bn_Conv1", "Conv_1": "Conv_1_bn"}.get(convolution, f"{convolution}_BN")


def kernel_shapes(alpha: float) -> dict[str, tuple[int, int, int, int]]:
    """Return the kernel shapes, in order: (rows, columns, channels in, channels out), or (3, 3, channels, 1)."""
    channels = _rounded(32 * alpha)
    shapes: dict[str, tuple[int, int, int, int]] = {"Conv1": (3, 3, 3, channels)}
    for number, (filters, _) in enumerate(BLOCKS):
        prefix = block_prefix(number)
        expanded = channels * _EXPANSION if number else channels
        if number:
            shapes[f"{prefix}expand"] = (1, 1, channels, expanded)
        shapes[f"{prefix}depthwise"] = (3, 3, expanded, 1)
        channels = _rounded(int(filters * alpha))
        shapes[f"{prefix}project"] = (1, 1, expanded, channels)
    shapes["Conv_1"] = (1, 1, channels, _rounded(1280 * alpha) if alpha > 1 else 1280)
    return shapes


def weight_shapes(alpha: float) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight, by ``LAYER/VARIABLE``, in Keras's order."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in kernel_shapes(alpha).items():
        shapes[f"{name}/kernel"] = shape
        channels = shape[2] if is_depthwise(name) else shape[3]
        shapes |= {f"{normalisation_of(name)}/{part}": (channels,) for part in NORMALISATION}
    return shapes


def is_depthwise(convolution: str) -> bool:
    """Return whether a convolution has one filter per channel."""
    return convolution.endswith("depthwise")


def multiply_accumulates(alpha: float, image_size: int) -> int:
    """Return the multiply-accumulates of one image (s, s, 3) in all convolutions: the cost of the backbone."""
    strides = {"Conv1": 2} | {f"{block_prefix(number)}depthwise": stride for number, (_, stride) in enumerate(BLOCKS)}
    total, size = 0, image_size
    for name, shape in kernel_shapes(alpha).items():
        size = -(-size // strides.get(name, 1))
        total += size * size * math.prod(shape)
    return total


def random_weights(seed: int, alpha: float) -> Weights:
    """Return normal kernels, from the NumPy generator whose stream never changes, and neutral normalisation."""
    # 2 / fan-in before a ReLU (He et al., 2015, arXiv:1502.01852) and 1 / fan-in elsewhere keep the scale of signals
    generator = np.random.RandomState(seed)
    weights = {}
    for path, shape in weight_shapes(alpha).items():
        layer, _, variable = path.partition("/")
        if variable == "kernel":
            fan_in = shape[0] * shape[1] * (1 if is_depthwise(layer) else shape[2])
            gain = 1.0 if layer.endswith("project") else 2.0
            value = generator.standard_normal(shape) * np.sqrt(gain / fan_in)
        else:
            value = np.full(shape, float(variable in ("gamma", "moving_variance")))
        weights[path] = value.astype(np.float32)
    return weights


def weights_sha256(weights: Weights) -> str:
    """Return the SHA-256 over all weights of a backbone; it does not depend on the kind of file."""
    state = hashlib.sha256()
    for path, weight in weights.items():
        value = np.ascontiguousarray(weight, dtype="<f4")
        state.update(f"{path} {value.shape}\n".encode())
        state.update(value.tobytes())
    return state.hexdigest()


def _rounded(channels: float) -> int:
    """Return the nearest multiple of 8, at least 8 and 90 % of ``channels``."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
