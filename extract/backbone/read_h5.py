"""Weights of MobileNetV2 from the files of Keras 2 and 3, alone or in a larger model, without Keras."""

from __future__ import annotations

import hashlib
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
import numpy.typing as npt

from ..._hdf5 import Hdf5Content, Hdf5Error, arrays_limit, is_hdf5, read_hdf5
from ...cache import display, printable
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
from .resolve import IMAGENET_ALPHAS, WeightsSource, read_file

Arrays = dict[str, npt.NDArray[Any]]
"""Arrays by ``LAYER/VARIABLE``."""
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
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, LookupError, ValueError, TypeError),
    AttributeError,
)
"""Errors that damaged archives and forged configurations raise."""


def weights_from(source: WeightsSource, alpha: float) -> Weights:
    """Return the weights of a source."""
    if source.seed is not None:
        return random_weights(source.seed, alpha)
    assert source.path is not None
    return read_weights(source.path, alpha, source.identity)


def read_weights(path: Path, alpha: float, sha256: str | None = None) -> Weights:
    """Read weights of this width, in Keras's order, by the file's content; WeightsError says what else the file is."""
    data = read_file(path)
    if sha256 not in (None, hashlib.sha256(data).hexdigest()):
        raise WeightsError(f"the weights file {display(str(path))} changed while it was read. Run the command again")
    try:
        names: dict[str, str] = {}
        if data.startswith(b"PK\x03\x04"):
            data, names = _unpacked(data)
        elif not is_hdf5(data):
            what, advice = kind_of_file(path, data[:512], len(data))
            raise _UnusableError(f"is {what}", advice)
        return _checked(_mobilenet_of(read_hdf5(data), names), alpha)
    except _UnusableError as error:
        what, advice = error.args
    except Hdf5Error as error:
        what, advice = str(error), _ADVICE
        if "is truncated" in what or "is damaged" in what:
            advice = AGAIN
    except _DAMAGE as error:
        text = f"there is no {error} in it" if isinstance(error, KeyError) else first_line(error)
        what = "is truncated" if "not a zip file" in text else f"is damaged ({text[:200]})"
        advice = AGAIN
    raise WeightsError(
        f"weights must be those of a MobileNetV2, got {display(str(path))}: this file {printable(what)}. {advice}"
    )


class _UnusableError(Exception):
    """A readable file without the weights; arguments: the predicate of a sentence about it, and what to do."""


def _unpacked(data: bytes) -> tuple[bytes, dict[str, str]]:
    """Return the HDF5 file of a ``.keras`` file, and the names of its layers by their path."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.namelist()
        if "model.weights.h5" not in members:
            what, advice = kind_of_zip(members)
            raise _UnusableError(f"is {what}", advice)
        wanted = [archive.getinfo(name) for name in ("model.weights.h5", "config.json") if name in members]
        for info in wanted:
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise zipfile.BadZipFile(f"{info.filename} is compressed in an unknown way")
            if info.file_size > arrays_limit(len(data)):
                what = (
                    f"claims {info.file_size:,} bytes for {info.filename} in it, too many for a file of {len(data):,}"
                )
                raise _UnusableError(what, _ADVICE)
        weights, *configs = (archive.read(info) for info in wanted)
    return weights, {path: name for config in configs for path, name in _layer_names(json.loads(config), "")}


def _checked(arrays: Arrays, alpha: float) -> Weights:
    """Return the weights, if they are complete, of this width, and finite."""
    shapes = weight_shapes(alpha)
    if missing := [name for name in shapes if name not in arrays]:
        more = f" and {len(missing) - 1} more of {len(shapes)} weights are" if len(missing) > 1 else " is"
        raise _UnusableError(f"holds only a part of the network: {missing[0]}{more} missing", _ADVICE)
    found = {name: arrays[name].shape for name in shapes}
    if found != shapes:
        raise _UnusableError(*_other_width(found, alpha))
    weights = {}
    for name in shapes:
        if arrays[name].dtype.kind != "f":
            kind = arrays[name].dtype.name
            raise _UnusableError(f"holds {name} as {kind}, not as floating-point numbers", "Save it as float32")
        with np.errstate(over="ignore"):
            weights[name] = np.array(arrays[name], np.float32, order="C")
        if not np.isfinite(weights[name]).all():
            raise _UnusableError(f"holds values that are not finite numbers, in {name}", "Give another file")
    return weights


def _other_width(found: dict[str, tuple[int, ...]], alpha: float) -> tuple[str, str]:
    percents = sorted(range(5, 301), key=lambda percent: (percent % 10 > 0, percent % 5 > 0))  # round numbers first
    for other in (*IMAGENET_ALPHAS, *(percent / 100 for percent in percents)):
        if weight_shapes(other) == found:
            advice = f"Extract with --alpha {other:g}, or give a file for alpha {alpha:g}"
            return f"holds the weights for alpha {other:g}, not for alpha {alpha:g}", advice
    name, shape = next(item for item in weight_shapes(alpha).items() if found[item[0]] != item[1])
    return f"holds {name} with the shape {found[name]}, not {shape}, which alpha {alpha:g} has", _ADVICE


def _mobilenet_of(file: Hdf5Content, names: dict[str, str]) -> Arrays:
    """Find the network in a file; ``names`` has the names of layers by their path, if the configuration is known."""
    root = "model_weights" if "model_weights" in file.attributes else ""
    layers = _attribute(file.attributes[root], "layer_names")
    models = _by_number(file, names) if layers is None else _by_name(file, root, layers)
    networks = [model for model in models if set(model) >= _FIRST]
    if len(networks) == 1:
        return networks[0]
    if networks:
        raise _UnusableError(f"holds {len(networks)} networks with the layers of MobileNetV2", _ADVICE)
    raise _UnusableError(_other_network({name.rpartition("/")[0] for model in models for name in model}), _ADVICE)


def _other_network(layers: set[str]) -> str:
    """Say which network the layers are of."""
    counts = Counter(_kind(layer)[0] for layer in layers)
    full, depthwise = counts["conv2d"], counts["depthwise_conv2d"]
    for part, network in _OTHERS.items():
        if any(part in layer for layer in layers):
            return f"holds {network}"
    if full in (14, 15) and depthwise == 13:
        return "holds MobileNetV1"
    if depthwise:
        return f"holds another network: it has {full} conv2d and {depthwise} depthwise_conv2d layers, not 35 and 17"
    if layers:
        names = sorted({layer.rpartition("/")[2][:60] for layer in layers})
        return f"holds another network, with the layers {', '.join(names[:3])}{', …' * (len(names) > 3)}"
    return "is an HDF5 file without layers of Keras"


def _by_name(file: Hdf5Content, root: str, layers: list[str]) -> list[Arrays]:
    """Read groups named as layers, each with the list of its weights' names; a model in the model is one layer."""
    whole: Arrays = {}
    models = [whole]
    for layer in layers:
        group = f"{root}/{layer}".strip("/")
        inner: Arrays = {}
        for name in _attribute(file.attributes[group], "weight_names") or ():
            path, _, variable = name.removesuffix(":0").rpartition("/")
            last = path.rpartition("/")[2]
            candidates = (layer, last, re.sub(r"_\d+$", "", last))  # TensorFlow 1 numbered equal names
            owner = next((known for known in candidates if known in _LAYERS), f"{layer}/{path}")
            inner[f"{owner}/{variable.replace('depthwise_kernel', 'kernel')}"] = file.arrays[f"{group}/{name}"]
        if set(inner) >= _FIRST:
            models.append(inner)
        else:
            whole |= inner
    return models


def _attribute(attributes: dict[str, str | list[str]], name: str) -> list[str] | None:
    """Return a list of names, which Keras splits into NAME0, NAME1, … if it is long; None if there is none."""
    parts = [name] if name in attributes else sorted(key for key in attributes if re.fullmatch(rf"{name}\d", key))
    return [text for part in parts for text in attributes[part]] if parts else None


def _by_number(file: Hdf5Content, names: dict[str, str]) -> list[Arrays]:
    """Read groups ``conv2d``, ``conv2d_1``, …, each with its variables ``0``, ``1``, …; one result for each model."""
    models: dict[str, dict[str, Arrays]] = {}
    for path, array in file.arrays.items():
        group, _, variable = path.rpartition("/")
        layer, _, last = group.rpartition("/")
        if last == "vars":
            models.setdefault(layer.rpartition("/")[0], {}).setdefault(layer, {})[variable] = array
    return [_named(file, layers, names) for layers in models.values()]


def _named(file: Hdf5Content, layers: dict[str, Arrays], names: dict[str, str]) -> Arrays:
    """Name the layers of a model: as the file or its configuration says, or by their numbers."""
    stored = {
        path: file.attributes[f"{path}/vars"].get("name") or names.get(path.replace(_OLD, "layers")) for path in layers
    }
    if "Conv1" not in stored.values():
        stored |= _numbered(layers)
    arrays: Arrays = {}
    for path, variables in layers.items():
        name = stored[path] or path.rpartition("/")[2]
        parts = NORMALISATION if _kind(path)[0] == "batch_normalization" else ("kernel", "bias")
        arrays |= {
            f"{name}/{part}": variables[key] for key, part in zip("0123", parts, strict=False) if key in variables
        }
    return arrays


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
