"""Weights of MobileNetV2 from the files that Keras writes, without Keras.

Two forms are read: that of the files that Keras distributes, whose groups have the names of layers, and
``.weights.h5`` of Keras 3, whose groups count the layers of each kind. Whatever else there is, Keras reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .architecture import (
    NORMALISATION,
    Weights,
    is_depthwise,
    kernel_shapes,
    normalisation_of,
    random_weights,
    weight_shapes,
)
from .resolve import WeightsSource


def weights_from(source: WeightsSource, alpha: float) -> Weights | None:
    """Return the weights of a source, without Keras; None when only Keras can tell what its file holds.

    The content of a file decides, not its name.
    """
    if source.seed is not None:
        return random_weights(source.seed, alpha)
    assert source.path is not None
    return read_weights(source.path, alpha)


def read_weights(path: Path, alpha: float) -> Weights | None:
    """Read the weights of a backbone of this width.

    Parameters
    ----------
    path : Path
    alpha : float

    Returns
    -------
    Weights or None
        In Keras's order; None when the file has another form, other layers or shapes, or values that are not finite.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            found = _by_name(file) if "layer_names" in file.attrs else _by_number(file, alpha)
    except (OSError, KeyError, ValueError, RuntimeError, AttributeError, TypeError):
        return None
    shapes = weight_shapes(alpha)
    if set(found) != set(shapes) or any(found[name].shape != shape for name, shape in shapes.items()):
        return None
    weights = {name: np.ascontiguousarray(found[name], np.float32) for name in shapes}
    return weights if all(np.isfinite(value).all() for value in weights.values()) else None


def _by_name(file: Any) -> dict[str, npt.NDArray[Any]]:
    """Read a file whose groups are named as layers, each with the list of its weights' names."""
    found = {}
    for layer in map(_text, file.attrs["layer_names"]):
        for name in map(_text, file[layer].attrs["weight_names"]):
            variable = name.rpartition("/")[2].removesuffix(":0").replace("depthwise_kernel", "kernel")
            found[f"{layer}/{variable}"] = file[layer][name][()]
    return found


def _by_number(file: Any, alpha: float) -> dict[str, npt.NDArray[Any]]:
    """Read a file whose groups are ``conv2d``, ``conv2d_1`` and so on, each with its variables ``0``, ``1``, …."""
    found = {}
    counts = {"conv2d": 0, "depthwise_conv2d": 0, "batch_normalization": 0}

    def variables(kind: str) -> Any:
        number = counts[kind]
        counts[kind] += 1
        return file[f"layers/{kind}_{number}/vars" if number else f"layers/{kind}/vars"]

    for name in kernel_shapes(alpha):
        found[f"{name}/kernel"] = variables("depthwise_conv2d" if is_depthwise(name) else "conv2d")["0"][()]
        group = variables("batch_normalization")
        for place, part in enumerate(NORMALISATION):
            found[f"{normalisation_of(name)}/{part}"] = group[str(place)][()]
    for kind, number in counts.items():
        if f"{kind}_{number}" in file["layers"]:
            raise ValueError("more layers than MobileNetV2 has")
    return found


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
