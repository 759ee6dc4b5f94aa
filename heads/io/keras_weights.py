"""The weights of a softmax head in a ``.keras`` file, read without Keras, whose import alone takes seconds.

Only what `embedonce.heads.io.keras_files.dense_model` makes is read, alone or in a whole model. Whatever else there is,
Keras reads, and says what is wrong with it.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def read_dense(path: Path) -> tuple[Floats, Floats] | None:
    """Return the kernel (d, k) and the bias (k,) of a head; None when the file is not such a plain one, or damaged."""
    import h5py

    try:
        with zipfile.ZipFile(path) as archive:
            place = _place_of_head(json.loads(archive.read("config.json")))
            if place is None:
                return None
            stored = archive.read("model.weights.h5")
        with h5py.File(io.BytesIO(stored), "r") as file:
            head = _inside(file, place)
            variables = _inside(head, ["layers", "dense", "vars"])
            if _name(_inside(head, ["vars"])) != "head" or sorted(variables) != ["0", "1"]:
                return None
            kernel, bias = (_plain(_inside(variables, [name]), len(stored)) for name in ("0", "1"))
    except Exception:  # whatever zipfile, json and h5py say of a damaged file
        return None
    return (kernel, bias) if kernel.ndim == 2 and bias.shape == kernel.shape[1:] else None


def _place_of_head(model: dict[str, Any]) -> list[str] | None:
    """Return where the weights of the head stand, from a model's configuration; None when it is not a plain head."""
    head, place = model, []
    if model["config"]["name"] != "head":
        # groups are numbered by kind, so it must be the only one of its kind
        found = [layer for layer in model["config"]["layers"] if layer["class_name"] == "Sequential"]
        if len(found) != 1 or found[0]["config"]["name"] != "head":
            return None
        head, place = found[0], ["layers", "sequential"]
    layers = [layer for layer in head["config"]["layers"] if layer["class_name"] != "InputLayer"]
    kinds = [(layer["module"], layer["class_name"]) for layer in layers]
    dense = layers[-1]["config"]
    is_plain = (
        (head["module"], head["class_name"]) == ("keras", "Sequential")
        and kinds == [("keras.layers", "Dropout"), ("keras.layers", "Dense")]
        and dense["activation"] == "softmax"
        and dense["use_bias"]
        and not dense.get("quantization_config")
        and not dense.get("lora_rank")
    )
    return place if is_plain else None


def _inside(group: Any, names: list[str]) -> Any:
    """Return what stands in a group, found by names in this file and no other."""
    import h5py

    for name in names:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise KeyError(name)
        group = group[name]
    return group


def _name(group: Any) -> str:
    name = group.attrs["name"]
    return name.decode() if isinstance(name, bytes) else str(name)


def _plain(dataset: Any, most: int) -> Floats:
    """Return the values of a dataset that stands in its file, plainly."""
    if dataset.external or dataset.is_virtual or dataset.dtype != np.float32 or dataset.nbytes > most:
        raise ValueError("not the weights of a layer")
    values: Floats = dataset[()]
    return values
