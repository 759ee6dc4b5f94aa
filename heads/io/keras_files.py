"""Heads in Keras's file format: a softmax head alone, or any head inside an image model.

Such a file also holds the head's JSON and arrays, with the SHA-256 of Keras's part. Where that was changed since, or
the file is of the first format, Keras reads the weights.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import threading
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..._hdf5 import Hdf5Error, arrays_limit, read_hdf5
from ..._keras import import_keras
from ...cache import display, temporary_folder, write_atomically
from ...errors import ModelFileError, OutputError, first_line
from .head_arrays import StoredHead, array_bytes, check_fitted, pack_head
from .metadata import FOLDER, ZIP_ERRORS, encode, with_entries

if TYPE_CHECKING:
    from ..softmax import SoftmaxHead

_loading = threading.Lock()


def save_keras_head(head: SoftmaxHead, path: Path, metadata: Mapping[str, Any] | None) -> None:
    """Write a fitted softmax head as a ``.keras`` file: features in, probabilities out."""
    with saved_model(head.model_) as saved:
        write_atomically(path, _with_head(saved.read_bytes(), metadata, head))


@contextlib.contextmanager
def saved_model(model: Any) -> Iterator[Path]:
    """Write a Keras model to a temporary file: Keras writes to a path with its suffix only, and not atomically."""
    with temporary_folder() as folder:
        path = folder / "model.keras"
        try:
            model.save(path)
        except Exception as error:  # of a full disk, Keras and h5py raise various errors
            raise OutputError(
                getattr(error, "errno", None),
                f"cannot write a model to the temporary folder {display(folder.parent)}: {first_line(error)}. Free "
                "some space, or set TMPDIR to another folder",
            ) from error
        yield path


def write_keras_metadata(path: str | Path, metadata: Mapping[str, Any], head: Any = None) -> None:
    """Add the JSON document, and the arrays of a head, to a ``.keras`` file, replacing those that it has.

    Without a head, the "class_names" of the metadata (one for each output, in order) are the classes of the loaded one.
    """
    path = Path(path)
    try:
        archive = _with_head(path.read_bytes(), metadata, head)
    except ModelFileError:
        raise
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # any error of zipfile and zlib over a damaged archive
        raise ModelFileError(f"{path}: damaged, or not a .keras file: {first_line(error)}") from error
    write_atomically(path, archive)


def _with_head(archive: bytes, metadata: Mapping[str, Any] | None, head: Any) -> bytes:
    """Return a Keras archive with the document and, if there is a head, its arrays."""
    if head is None:
        return with_entries(archive, encode(metadata))
    description, arrays = pack_head(head, FOLDER)
    with zipfile.ZipFile(io.BytesIO(archive)) as keras_part:
        document = encode(metadata, head=description, model_sha256=model_sha256(keras_part))
    return with_entries(archive, document, {name: array_bytes(array) for name, array in arrays.items()})


def model_sha256(archive: zipfile.ZipFile) -> str:
    """Return the SHA-256 of configuration and weights of a Keras archive."""
    digest = hashlib.sha256(archive.read("config.json"))
    digest.update(archive.read("model.weights.h5"))
    return digest.hexdigest()


def load_model(path: Path, shown: str) -> Any:
    """Read a Keras model, not compiled, without running code from its file; `shown` names it in messages."""
    try:
        with zipfile.ZipFile(path) as archive:
            weights = archive.read("model.weights.h5")
        read_hdf5(weights, arrays=False)
    except Hdf5Error as error:
        raise ModelFileError(f"{shown}: model.weights.h5 in it {error}") from error
    except KeyError as error:
        raise ModelFileError(f"{shown}: holds no model.weights.h5") from error
    except (OSError, ValueError, *ZIP_ERRORS) as error:
        raise ModelFileError(f"{shown}: damaged, or not a .keras file: {first_line(error)}") from error
    keras = import_keras()
    try:
        # safe_mode refuses Lambda layers, which hold code
        with _limited_weights(keras.layers.Layer, arrays_limit(len(weights))):
            return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises any error over a damaged file
        raise ModelFileError(f"{shown}: Keras cannot load it: {first_line(error)}") from error


@contextlib.contextmanager
def _limited_weights(layer_class: Any, limit: int) -> Iterator[None]:
    """Let layers have no more bytes of weights than the file can hold: Keras makes what a configuration claims."""
    claimed = 0

    def add_limited(layer: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal claimed
        claimed += 4 * math.prod(options.get("shape") or ())
        if claimed > limit:
            raise MemoryError(f"its layers claim more than {limit:,} bytes of weights, too many for the file")
        return add_weight(layer, *arguments, **options)

    with _loading:
        add_weight = layer_class.add_weight
        layer_class.add_weight = add_limited
        try:
            yield
        finally:
            layer_class.add_weight = add_weight


def load_keras_head(path: Path, metadata: Mapping[str, Any], stored: StoredHead | None) -> SoftmaxHead:
    """Read the dense softmax layer of a ``.keras`` file through Keras, without running code from the file.

    The classes are those of `stored`, otherwise the "class_names" of the metadata.
    """
    kernel, bias = _dense_weights(path, _head_model(path))
    attributes = {} if stored is None else stored.attributes
    parameters = stored.parameters if stored is not None and stored.name == "softmax" else {}
    try:
        classes = attributes["classes_"] if "classes_" in attributes else np.array(metadata["class_names"])
        head = dense_softmax(kernel, bias, classes, parameters, attributes.get("history_", {}))
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise ModelFileError(f"{path}: embedonce.json in it is damaged: {first_line(error)}") from error
    if kernel.shape[1] != len(head.classes_):
        raise ModelFileError(
            f"{path}: the model 'head' has {kernel.shape[1]} outputs for {len(head.classes_)} class names"
        )
    try:
        check_fitted(head)
    except ValueError as error:
        raise ModelFileError(f"{path}: damaged: {first_line(error)}") from error
    return head


def dense_softmax(
    kernel: NDArray[Any],
    bias: NDArray[Any],
    classes: NDArray[Any],
    parameters: Mapping[str, Any],
    history: Mapping[str, list[float]],
) -> SoftmaxHead:
    """Return a fitted softmax head of a kernel (d, k), a bias (k,) and class labels (k,)."""
    from ..softmax import SoftmaxHead

    if classes.ndim != 1 or len(classes) < 2:
        raise ValueError("it names fewer than two classes")
    head = SoftmaxHead(**parameters)
    head.coef_, head.intercept_ = np.ascontiguousarray(kernel.T), bias
    head.classes_, head.n_features_in_ = classes, len(kernel)
    head.history_ = {name: [float(value) for value in values] for name, values in history.items()}
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
