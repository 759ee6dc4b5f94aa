"""Weights of MobileNetV2 from the files that Keras distributes and from ``.weights.h5`` of Keras 3, without Keras."""

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
    """Return the weights of a source without Keras, by the file's content; None for a file that only Keras can read."""
    if source.seed is not None:
        return random_weights(source.seed, alpha)
    assert source.path is not None
    return read_weights(source.path, alpha)


def read_weights(path: Path, alpha: float) -> Weights | None:
    """Read weights of this width, in Keras's order; None for another form or shape, or values that are not finite."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            values = _by_name(file) if "layer_names" in file.attrs else _by_number(file, alpha)
    except (OSError, KeyError, ValueError, RuntimeError, AttributeError, TypeError):
        return None
    shapes = weight_shapes(alpha)
    if set(values) != set(shapes) or any(values[name].shape != shape for name, shape in shapes.items()):
        return None
    weights = {name: np.ascontiguousarray(values[name], np.float32) for name in shapes}
    return weights if all(np.isfinite(value).all() for value in weights.values()) else None


def _by_name(file: Any) -> dict[str, npt.NDArray[Any]]:
    """Read a file with groups named as layers, each with the list of its weights' names."""
    values = {}
    for layer in map(_text, file.attrs["layer_names"]):
        for name in map(_text, file[layer].attrs["weight_names"]):
            variable = name.rpartition("/")[2].removesuffix(":0").replace("depthwise_kernel", "kernel")
            values[f"{layer}/{variable}"] = file[layer][name][()]
    return values


def _by_number(file: Any, alpha: float) -> dict[str, npt.NDArray[Any]]:
    """Read a file with groups ``conv2d``, ``conv2d_1`` and so on, each with its variables ``0``, ``1``, …."""
    values = {}
    counts = {"conv2d": 0, "depthwise_conv2d": 0, "batch_normalization": 0}

    def variables(kind: str) -> Any:
        number = counts[kind]
        counts[kind] += 1
        return file[f"layers/{kind}_{number}/vars" if number else f"layers/{kind}/vars"]

    for name in kernel_shapes(alpha):
        values[f"{name}/kernel"] = variables("depthwise_conv2d" if is_depthwise(name) else "conv2d")["0"][()]
        group = variables("batch_normalization")
        for index, part in enumerate(NORMALISATION):
            values[f"{normalisation_of(name)}/{part}"] = group[str(index)][()]
    for kind, number in counts.items():
        if f"{kind}_{number}" in file["layers"]:
            raise ValueError("more layers than MobileNetV2 has")
    return values


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
