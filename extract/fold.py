"""The backbone as 52 convolutions with a bias each: batch normalisation folded into the kernels.

This is what the native engine computes with. It is made from the Keras model once, and kept in a file of its own, so
that neither Keras nor another runtime is needed to read it.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..cache.errors import EngineError, first_line

BLOCKS = 17
Folded = Mapping[str, npt.NDArray[np.float32]]
"""``NAME.kernel`` and ``NAME.bias`` of every convolution: float32, kernels of shape (rows, columns, in, out), those of
depthwise ones (rows, columns, channels)."""


def convolutions() -> list[tuple[str, str]]:
    """Return the names of every convolution of MobileNetV2 in Keras and of its normalisation, in order."""
    names = [("Conv1", "bn_Conv1")]
    for number in range(BLOCKS):
        prefix = f"block_{number}_" if number else "expanded_conv_"
        kinds = ("expand", "depthwise", "project") if number else ("depthwise", "project")
        names += [(f"{prefix}{kind}", f"{prefix}{kind}_BN") for kind in kinds]
    return [*names, ("Conv_1", "Conv_1_bn")]


def fold(backbone: Any) -> Folded:
    """Fold the normalisation of a backbone into its convolutions.

    Parameters
    ----------
    backbone : keras.Model
        As :func:`embedonce.extract.backbone.build_backbone` makes it.

    Returns
    -------
    Folded
        ``kernel * s`` and ``beta - mean * s`` with ``s = gamma / sqrt(variance + epsilon)``, computed in float64.
    """
    folded = {}
    for name, norm in convolutions():
        layer = backbone.get_layer(norm)
        gamma, beta, mean, variance = (np.asarray(weight, np.float64) for weight in layer.weights)
        scale = gamma / np.sqrt(variance + layer.epsilon)
        kernel = np.asarray(backbone.get_layer(name).weights[0], np.float64)
        if name.endswith("depthwise"):
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
    """Read what :func:`to_bytes` wrote.

    Raises
    ------
    EngineError
        When it is something else.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            names = [f"{name}.{part}" for name, _ in convolutions() for part in ("kernel", "bias")]
            return {name: file[name] for name in names}
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise EngineError(
            f"the folded weights cannot be read: {first_line(error)}; empty embedonce's folder of converted models"
        ) from error
