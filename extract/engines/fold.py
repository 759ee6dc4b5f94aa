"""The backbone as 52 convolutions with biases: batch normalisation folded into the kernels, for the native engine."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from ...errors import EngineError, first_line
from ..backbone import EPSILON, NORMALISATION, Weights, is_depthwise, kernel_shapes, normalisation_of

Folded = Mapping[str, npt.NDArray[np.float32]]
"""``NAME.kernel`` and ``NAME.bias`` of every convolution: float32, kernels of shape (rows, columns, in, out), those of
depthwise ones (rows, columns, channels)."""

_NAMES = [f"{name}.{part}" for name in kernel_shapes(1.0) for part in ("kernel", "bias")]


def fold(weights: Weights) -> Folded:
    """Fold batch normalisation, in float64, into the kernels and biases of the convolutions before it."""
    folded = {}
    for name in kernel_shapes(1.0):  # the names are those of every width
        norm = normalisation_of(name)
        gamma, beta, mean, variance = (np.asarray(weights[f"{norm}/{part}"], np.float64) for part in NORMALISATION)
        scale = gamma / np.sqrt(variance + EPSILON)
        kernel = np.asarray(weights[f"{name}/kernel"], np.float64)
        if is_depthwise(name):
            kernel = kernel[..., 0]
        folded[f"{name}.kernel"] = (kernel * scale).astype(np.float32)
        folded[f"{name}.bias"] = (beta - mean * scale).astype(np.float32)
    return folded


def to_bytes(folded: Folded) -> bytes:
    """Return folded weights as a ``.npz`` file."""
    file = io.BytesIO()
    np.savez(file, **folded)  # type: ignore[arg-type]  # names are those of layers, none of them a parameter
    return file.getvalue()


def from_bytes(data: bytes) -> Folded:
    """Read what `to_bytes` wrote, or raise EngineError."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return {name: file[name] for name in _NAMES}
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise EngineError(
            f"the folded weights cannot be read: {first_line(error)}; empty embedonce's folder of converted models"
        ) from error
