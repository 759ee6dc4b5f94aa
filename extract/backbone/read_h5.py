"""Weights of MobileNetV2 from the files of Keras 2 and 3, alone or in a larger model, without Keras."""

from __future__ import annotations

import io
import json
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...cache import display
from ...errors import WeightsError, first_line
from .architecture import (
    NORMALISATION,
    Weights,
    is_depthwise,
    kernel_shapes,
    normalisation_of,
    random_weights,
    weight_shapes,
)
from .file_kinds import AGAIN, kind_of_file, kind_of_zip
from .resolve import IMAGENET_ALPHAS, WeightsSource

Datasets = dict[str, Any]
"""HDF5 datasets by ``LAYER/VARIABLE``."""
_LAYERS = frozenset(name.partition("/")[0] for name in weight_shapes(1.0))
_FIRST = {"Conv1/kernel", "block_1_expand/kernel"}
_OTHERS = {
    "conv_dw_1": "MobileNetV1",
    "squeeze_excite": "MobileNetV3",
    "stem_conv": "EfficientNet",
    "conv1_conv": "ResNet",
}
"""Parts of the names of layers by which other networks are known."""
_OLD = "_layer_checkpoint_dependencies"
"""The name of groups ``layers`` in files of Keras 2.12 to 2.14."""
_ADVICE = "Give the weights of one keras.applications.MobileNetV2"


def weights_from(source: WeightsSource, alpha: float) -> Weights:
    """Return the weights of a source."""
    if source.seed is not None:
        return random_weights(source.seed, alpha)
    assert source.path is not None
    return read_weights(source.path, alpha)


def read_weights(path: Path, alpha: float) -> Weights:
    """Read weights of this width, in Keras's order, by the file's content; WeightsError says what else the file is."""
    import h5py

    try:
        with open(path, "rb") as file:
            start, size = file.read(512), file.seek(0, 2)
        names: dict[str, str] = {}
        content: Any = path
        if start.startswith(b"PK\x03\x04"):
            with zipfile.ZipFile(path) as archive:
                members = archive.namelist()
                if "model.weights.h5" not in members:
                    raise _UnusableError(*kind_of_zip(members))
                content = io.BytesIO(archive.read("model.weights.h5"))
                if "config.json" in members:
                    names = dict(_layer_names(json.loads(archive.read("config.json")), ""))
        elif not start.startswith(b"\x89HDF") and not h5py.is_hdf5(path):
            raise _UnusableError(*kind_of_file(path, start, size))
        with h5py.File(content, "r") as file:
            return _checked(_mobilenet_of(file, names), alpha)
    except _UnusableError as error:
        what, advice = error.args
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, KeyError, ValueError, TypeError) as error:
        text = first_line(error)[:200]
        what = "truncated" if "truncated" in text or "not a zip file" in text else f"damaged ({text})"
        advice = AGAIN
    raise WeightsError(
        f"weights must be those of a MobileNetV2, got {display(str(path))}: this file is {what}. {advice}"
    )


class _UnusableError(Exception):
    """A readable file without the weights; arguments: what it is, and what to do."""


def _checked(datasets: Datasets, alpha: float) -> Weights:
    """Return the weights as arrays, if they are complete, of this width, and finite."""
    shapes = weight_shapes(alpha)
    if missing := [name for name in shapes if name not in datasets]:
        raise _UnusableError(f"of a part of the network: {missing[0]} and {len(missing) - 1} more are missing", _ADVICE)
    if any(datasets[name].shape != shape for name, shape in shapes.items()):
        raise _UnusableError(*_other_width(datasets, alpha))
    weights = {}
    for name in shapes:
        if datasets[name].dtype.kind != "f":
            raise _UnusableError(f"of integers or an unknown type ({name})", "Save the weights as float32")
        weights[name] = np.ascontiguousarray(datasets[name][()], np.float32)
        if not np.isfinite(weights[name]).all():
            raise _UnusableError(f"of values that are not finite ({name})", "Give another file")
    return weights


def _other_width(datasets: Datasets, alpha: float) -> tuple[str, str]:
    found = {name: datasets[f"{name}/kernel"].shape for name in kernel_shapes(alpha)}
    percents = sorted(range(5, 301), key=lambda percent: (percent % 10 > 0, percent % 5 > 0))  # round numbers first
    for other in (*IMAGENET_ALPHAS, *(percent / 100 for percent in percents)):
        if kernel_shapes(other) == found:
            advice = f"Extract with --alpha {other:g}, or give a file for alpha {alpha:g}"
            return f"for alpha {other:g}, not for alpha {alpha:g}", advice
    return "of other layers than those of any alpha", _ADVICE


def _mobilenet_of(file: Any, names: dict[str, str]) -> Datasets:
    """Find the network in a file; ``names`` has the names of layers by their path, if the configuration is known."""
    root = file.get("model_weights", file)
    layers = _attribute(root, "layer_names")
    models = _by_number(file, names) if layers is None else _by_name(root, layers)
    networks = [model for model in models if set(model) >= _FIRST]
    if len(networks) == 1:
        return networks[0]
    if networks:
        raise _UnusableError(f"of a model with {len(networks)} of these networks", _ADVICE)
    raise _UnusableError(_other_network({name.rpartition("/")[0] for model in models for name in model}), _ADVICE)


def _other_network(layers: set[str]) -> str:
    """Say which network the layers are of."""
    counts = Counter(_kind(layer)[0] for layer in layers)
    full, depthwise = counts["conv2d"], counts["depthwise_conv2d"]
    for part, network in _OTHERS.items():
        if any(part in layer for layer in layers):
            return f"of {network}"
    if full in (14, 15) and depthwise == 13:
        return "of MobileNetV1"
    if depthwise:
        return f"of another network: it has {full} conv2d and {depthwise} depthwise_conv2d layers, not 35 and 17"
    if layers:
        return f"of another network, with the layers {', '.join(sorted(layers)[:3])}{', …' * (len(layers) > 3)}"
    return "an HDF5 file without layers of Keras"


def _by_name(root: Any, layers: list[str]) -> list[Datasets]:
    """Read groups named as layers, each with the list of its weights' names; a model in the model is one layer."""
    whole: Datasets = {}
    models = [whole]
    for layer in layers:
        inner: Datasets = {}
        for name in _attribute(root[layer], "weight_names") or ():
            path, _, variable = name.removesuffix(":0").rpartition("/")
            last = path.rpartition("/")[2]
            candidates = (layer, last, re.sub(r"_\d+$", "", last))  # TensorFlow 1 numbered equal names
            owner = next((known for known in candidates if known in _LAYERS), f"{layer}/{path}")
            inner[f"{owner}/{variable.replace('depthwise_kernel', 'kernel')}"] = root[layer][name]
        if set(inner) >= _FIRST:
            models.append(inner)
        else:
            whole |= inner
    return models


def _attribute(group: Any, name: str) -> list[str] | None:
    """Return a list of names, which Keras splits into NAME0, NAME1, … if it is long; None if there is none."""
    parts = [name] if name in group.attrs else sorted(key for key in group.attrs if re.fullmatch(rf"{name}\d", key))
    values = [value for part in parts for value in group.attrs[part]]
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values] if parts else None


def _by_number(file: Any, names: dict[str, str]) -> list[Datasets]:
    """Read groups ``conv2d``, ``conv2d_1``, …, each with its variables ``0``, ``1``, …; one result for each model."""
    models: dict[str, dict[str, Any]] = {}

    def visit(path: str, item: Any) -> None:
        layer, _, last = path.rpartition("/")
        if last == "vars" and len(item):
            models.setdefault(layer.rpartition("/")[0], {})[layer] = item

    file.visititems(visit)
    return [_named(layers, names) for layers in models.values()]


def _named(layers: dict[str, Any], names: dict[str, str]) -> Datasets:
    """Name the layers of a model: as the file or its configuration says, or by their numbers."""
    stored = {
        path: variables.attrs.get("name") or names.get(path.replace(_OLD, "layers"))
        for path, variables in layers.items()
    }
    if "Conv1" not in stored.values():
        stored |= _numbered(layers)
    datasets: Datasets = {}
    for path, variables in layers.items():
        name = stored[path] or path.rpartition("/")[2]
        parts = NORMALISATION if _kind(path)[0] == "batch_normalization" else ("kernel", "bias")
        datasets |= {
            f"{name}/{part}": variables[key] for key, part in zip("0123", parts, strict=False) if key in variables
        }
    return datasets


def _numbered(layers: dict[str, Any]) -> dict[str, str]:
    """Return the names of layers, by path, if their kinds and numbers are those of MobileNetV2."""
    names: dict[tuple[str, int], str] = {}
    counts: Counter[str] = Counter()
    for convolution in kernel_shapes(1.0):
        kind = "depthwise_conv2d" if is_depthwise(convolution) else "conv2d"
        names[kind, counts[kind]] = convolution
        names["batch_normalization", counts.total()] = normalisation_of(convolution)
        counts[kind] += 1
    found = {path: key for path in layers if (key := _kind(path))[0] in (*counts, "batch_normalization")}
    return {path: names[key] for path, key in found.items()} if set(found.values()) == set(names) else {}


def _kind(path: str) -> tuple[str, int]:
    """Return kind and number of the last name in a path, such as conv2d and 3 for conv2d_3."""
    kind, _, number = path.rpartition("/")[2].rpartition("_")
    return (kind, int(number)) if number.isdigit() else (path.rpartition("/")[2], 0)


def _layer_names(config: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
    """Yield path in the HDF5 file and name of every layer of a model's configuration."""
    counts: Counter[str] = Counter()
    for layer in config["config"].get("layers", ()):
        kind = re.sub("([a-z])([A-Z])", r"\1_\2", re.sub("(.)([A-Z][a-z]+)", r"\1_\2", layer["class_name"])).lower()
        inner = f"{path}layers/{kind}" + f"_{counts[kind]}" * (counts[kind] > 0)
        counts[kind] += 1
        yield inner, layer["config"].get("name")
        yield from _layer_names(layer, f"{inner}/")
