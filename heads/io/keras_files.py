"""Softmax heads in Keras's own file format, alone or inside a whole image model."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..._keras import import_keras
from ...cache import write_atomically
from ...errors import ModelFileError, first_line
from .keras_weights import read_dense
from .metadata import encode, read_entry, with_entry

if TYPE_CHECKING:
    from ..softmax import SoftmaxHead


def describe_head(head: SoftmaxHead) -> dict[str, Any]:
    """Return what a Keras file does not hold of a fitted softmax head, for JSON.

    Parameters
    ----------
    head : SoftmaxHead
        Fitted.

    Returns
    -------
    dict
        "name", "params", "history", and "classes" with their dtype.

    Raises
    ------
    ModelFileError
        If the class labels are neither strings nor numbers.
    """
    return {
        "name": head.head_name,
        "params": {name: _plain(value) for name, value in head.get_params(deep=False).items()},
        "history": head.history_,
        "classes": {"values": _class_values(head.classes_), "dtype": head.classes_.dtype.str},
    }


def save_keras_head(head: SoftmaxHead, path: Path, metadata: Mapping[str, Any] | None) -> None:
    """Write a fitted softmax head as a ``.keras`` file: features in, probabilities out.

    Raises
    ------
    ModelFileError
        If metadata or class labels do not fit into JSON.
    OutputError
        If the file cannot be written.
    """
    document = encode(metadata, describe_head(head))
    write_atomically(path, with_entry(model_archive(head.model_), document))


def model_archive(model: Any) -> bytes:
    """Return a Keras model as the bytes of a ``.keras`` file."""
    # Keras writes to a path of its own choosing only
    with tempfile.TemporaryDirectory(prefix="embedonce-") as folder:
        saved = Path(folder) / "head.keras"
        model.save(saved)
        return saved.read_bytes()


def write_keras_metadata(path: str | Path, metadata: Mapping[str, Any], head: SoftmaxHead | None = None) -> None:
    """Add embedonce's JSON document to a ``.keras`` file, replacing one that it has.

    Parameters
    ----------
    path : path-like
        A file that Keras wrote: a head, or a whole model with a sub-model named "head".
    metadata : mapping
        To be returned by `embedonce.heads.io.files.read_metadata`. Without `head`, its "class_names" (one
        for each output, in order) become the classes of the loaded head.
    head : SoftmaxHead, optional
        The head inside, to keep its classes with their dtype, its parameters and its history.

    Raises
    ------
    ModelFileError
        If the file is not a zip archive, or something does not fit into JSON.
    OutputError
        If the file cannot be written.
    """
    path = Path(path)
    document = encode(metadata, None if head is None else describe_head(head))
    try:
        archive = with_entry(path.read_bytes(), document)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # whatever zipfile and zlib say of a damaged archive
        raise ModelFileError(f"{path}: damaged, or not a .keras file: {first_line(error)}") from error
    write_atomically(path, archive)


def load_model(path: Path, shown: str) -> Any:
    """Read a Keras model, not compiled, without running code from its file.

    Parameters
    ----------
    path : Path
    shown : str
        The file, for messages.

    Returns
    -------
    keras.Model

    Raises
    ------
    ModelFileError
        If Keras cannot read it, or it would run code.
    """
    keras = import_keras()
    try:
        # safe_mode refuses Lambda layers, which hold code
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises whatever the damaged part leads to
        raise ModelFileError(f"{shown}: Keras cannot load it: {first_line(error)}") from error


def load_keras_head(path: Path) -> SoftmaxHead:
    """Read the softmax head of a ``.keras`` file without running code from it, and without Keras where that can be.

    Parameters
    ----------
    path : Path
        A head, or a whole model whose sub-model "head" is one.

    Returns
    -------
    SoftmaxHead
        Fitted: it predicts, and can be fitted again with the parameters it had.

    Raises
    ------
    ModelFileError
        If the file is damaged, was not written by embedonce, would run code, or holds no softmax head.
    """
    from ..softmax import SoftmaxHead

    document = read_entry(path)
    kernel, bias = read_dense(path) or _dense_weights(path, _head_model(path))
    described = document["head"] or {}
    try:
        head = SoftmaxHead(**described.get("params", {}))
        head.classes_ = _classes(described, document["metadata"])
        head.history_ = {str(k): [float(x) for x in v] for k, v in described.get("history", {}).items()}
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise ModelFileError(f"{path}: embedonce.json in it is damaged: {first_line(error)}") from error
    if kernel.shape[1] != len(head.classes_):
        raise ModelFileError(
            f"{path}: the model 'head' has {kernel.shape[1]} outputs for {len(head.classes_)} class names"
        )
    head.coef_, head.intercept_ = np.ascontiguousarray(kernel.T), bias
    head.n_features_in_ = len(kernel)
    head.n_iter_ = len(head.history_.get("loss", []))
    return head


def _head_model(path: Path) -> Any:
    """Return the Keras model named "head" of a file."""
    model = load_model(path, str(path))
    if model.name == "head":
        return model
    inner = [layer for layer in getattr(model, "layers", []) if layer.name == "head"]
    if not inner:
        raise ModelFileError(f"{path}: holds no model named 'head'; its model is {model.name!r}")
    return inner[0]


def _dense_weights(path: Path, model: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return kernel (d, k) and bias (k,) of a head's model, after checking that it is dropout and dense softmax."""
    layers = [layer for layer in getattr(model, "layers", []) if type(layer).__name__ != "InputLayer"]
    kinds = [type(layer).__name__ for layer in layers]
    if (
        not kinds
        or kinds[-1] != "Dense"
        or any(kind != "Dropout" for kind in kinds[:-1])
        or getattr(layers[-1].activation, "__name__", "") != "softmax"
    ):
        raise ModelFileError(
            f"{path}: the model 'head' must be dropout and one dense softmax layer, got {' '.join(kinds) or 'none'}"
        )
    weights = layers[-1].get_weights()
    if len(weights) != 2:
        raise ModelFileError(f"{path}: the dense layer of the model 'head' must have a kernel and a bias")
    return weights[0], weights[1]


def _classes(described: Mapping[str, Any], metadata: Mapping[str, Any]) -> NDArray[Any]:
    """Return the class labels that a document names."""
    if "classes" in described:
        values, dtype = described["classes"]["values"], np.dtype(described["classes"]["dtype"])
    else:
        values, dtype = metadata["class_names"], None
    if not isinstance(values, list) or len(values) < 2:
        raise ValueError("it names fewer than two classes")
    classes = np.array(values, dtype=dtype)
    if classes.ndim != 1:
        raise ValueError("its class names are not a list of names")
    return classes


def _class_values(classes: NDArray[Any]) -> list[Any]:
    """Return class labels as JSON values."""
    values: list[Any] = classes.tolist()
    if not all(isinstance(value, str | int | float) for value in values):
        raise ModelFileError(f"class labels must be strings or numbers to be saved, got {classes.dtype}")
    return values


def _plain(value: Any) -> Any:
    """Return a NumPy number as a Python number, anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value
