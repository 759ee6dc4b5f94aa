"""Heads of embedonce as JSON and arrays: the parts of a model file that need NumPy alone to be read.

Numbers, strings, None and lists are themselves; an array is ``{"array": entry}``, one of Python objects ``{"values":
[...], "dtype": "|O"}``, a mapping ``{"mapping": [[key, value], ...]}``, a head its name, parameters and attributes.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ...errors import ModelFileError, first_line
from ..numerics import Array
from ..registry import HEADS, head_class
from .check_head import check_head

CALIBRATED = "calibrated"


class StoredHead(NamedTuple):
    """Head in a model file: its name, parameters and fitted attributes (of an unfitted head none)."""

    name: str
    parameters: dict[str, Any]
    attributes: dict[str, Any]

    def estimator(self) -> Any:
        """Return the head as an estimator, once its parameters are checked."""
        head = _class_of(self.name)(**self.parameters)
        head.check_parameters()
        vars(head).update(self.attributes)
        return head


def has_arrays(head: Any) -> bool:
    """Return whether a head is one that this format holds."""
    name = getattr(type(head), "head_name", "")
    if name == CALIBRATED:
        return type(head) is _class_of(name) and has_arrays(head.head)
    return name in HEADS and type(head) is _class_of(name)


def check_fitted(head: Any) -> None:
    """Raise ValueError if a head of this format is fitted and its attributes are not those of a fitted head."""
    if has_arrays(head) and "classes_" in vars(head):
        head.check_parameters()
        derived = getattr(head, "derived", ())
        attributes = {n: value for n, value in vars(head).items() if n.endswith("_") and n not in derived}
        check_head(head.head_name, head.get_params(deep=False), attributes)


def pack_head(head: Any, folder: str = "") -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the description of a fitted head, and the arrays that it names by entries of a folder."""
    arrays: dict[str, Array] = {}
    return _pack(head, folder, arrays), arrays


def _pack(value: Any, path: str, arrays: dict[str, Array]) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_pack(item, f"{path}{index}.", arrays) for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        pairs = enumerate(value.items())
        return {"mapping": [[_pack(k, path, arrays), _pack(v, f"{path}{index}.", arrays)] for index, (k, v) in pairs]}
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        entry = f"{path.removesuffix('.')}.npy"
        arrays[entry] = value
        return {"array": entry}
    if isinstance(value, np.ndarray) and value.ndim == 1 and all(isinstance(v, str | int | float) for v in value):
        return {"values": value.tolist(), "dtype": value.dtype.str}
    if has_arrays(value):
        parameters = value.get_params(deep=False)
        attributes = {name: item for name, item in value.__getstate__().items() if name not in parameters}
        return {
            "name": value.head_name,
            "parameters": {name: _pack(item, f"{path}{name}.", arrays) for name, item in parameters.items()},
            "attributes": {name: _pack(item, f"{path}{name}.", arrays) for name, item in attributes.items()},
        }
    raise ModelFileError(f"a {type(value).__name__} does not fit into a model file of arrays. Use .joblib")


def unpack_head(description: Mapping[str, Any], array: Callable[[str], Array]) -> StoredHead:
    """Return the head of a description; `array` returns the array of an entry."""

    def unpack(value: Any) -> Any:
        if isinstance(value, list):
            return [unpack(item) for item in value]
        if not isinstance(value, dict):
            return value
        if "array" in value:
            return array(value["array"])
        if "values" in value:
            values, dtype = np.array(value["values"]), np.dtype(value["dtype"])
            if dtype.itemsize > max(8, values.itemsize):
                raise ValueError(f"its values {value['values']!r} do not need a {dtype}")
            return np.array(value["values"], dtype)
        if "mapping" in value:
            return {unpack(key): unpack(item) for key, item in value["mapping"]}
        head = unpack_head(value, array)
        if head.attributes:
            check_head(*head)
        return head.estimator()

    parameters, attributes = description["parameters"], description["attributes"]
    _require_name(description["name"])
    if not all(name.isidentifier() and name.endswith("_") and not name.startswith("_") for name in attributes):
        raise ValueError(f"its head {description['name']!r} has attributes of other names than those of fitted heads")
    # the first files of svm heads do not name their scaling
    parameters = {"scaling": "standard"} | parameters if description["name"] == "svm" else parameters
    return StoredHead(
        description["name"],
        {name: unpack(value) for name, value in parameters.items()},
        {name: unpack(value) for name, value in attributes.items()},
    )


def array_bytes(array: Array) -> bytes:
    """Return an array as the bytes of a ``.npy`` file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def read_array(archive: zipfile.ZipFile, entry: str) -> Array:
    """Return the array of an uncompressed entry; it takes no more memory than the file has bytes."""
    info = archive.getinfo(entry)
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
        raise ValueError(f"its entry {entry} is compressed")
    stream = io.BytesIO(archive.read(info))
    try:
        return _read_npy(stream, info.file_size)
    except MemoryError:
        raise
    except Exception as error:  # a damaged header leads to any error
        raise ValueError(f"its entry {entry} is not an array of plain values: {first_line(error)}") from error


def _read_npy(stream: io.BytesIO, size: int) -> Array:
    version = np.lib.format.read_magic(stream)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(stream)
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != size - stream.tell():
        raise ValueError(f"it claims {dtype} of shape {shape}")
    stream.seek(0)
    array: Array = np.load(stream, allow_pickle=False)
    return array


def _require_name(name: Any) -> None:
    if not isinstance(name, str) or name not in (*HEADS, CALIBRATED):
        raise ValueError(f"there is no head {name!r}")


def _class_of(name: str) -> Any:
    _require_name(name)
    if name == CALIBRATED:
        from ..calibrated import CalibratedHead

        return CalibratedHead
    return head_class(name)
