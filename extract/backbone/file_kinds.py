"""What a file or folder without Keras weights is instead, and what to do, so that an error can say so."""

from __future__ import annotations

import os
from pathlib import Path

from ...cache import kind_of_path

_KERAS_FILE = "Give a Keras file: .h5, .weights.h5 or .keras"
AGAIN = "Delete it and download or copy it again"
_UNPACK = "Unpack it and give the file inside"
_FROM_TENSORFLOW = "Load it in TensorFlow and save the weights: model.save_weights('x.weights.h5')"
_PAGE = "a web page, such as one that a proxy or a login sends"
_STARTS = (
    (b"version https://git-lfs", "a pointer of Git LFS and not the file itself", "Fetch the file with git lfs pull"),
    (b"/annex/objects/", "a pointer of git-annex and not the file itself", "Fetch the file with git annex get"),
    (b"<!doctype html", _PAGE, AGAIN),
    (b"<html", _PAGE, AGAIN),
    (b"<?xml", "an XML file, such as the error message of a server", AGAIN),
    (b"{", "a JSON file, which holds no weights", _KERAS_FILE),
    (b"\x1f\x8b", "compressed (gzip)", _UNPACK),
    (b"bzh", "compressed (bzip2)", _UNPACK),
    (b"\xfd7zxz", "compressed (xz)", _UNPACK),
    (b"7z\xbc\xaf", "a 7z archive", _UNPACK),
    (b"rar!", "a RAR archive", _UNPACK),
    (b"\x93numpy", "a NumPy array", _KERAS_FILE),
    (b"\x80", "a pickle, such as those of PyTorch and joblib", _KERAS_FILE),
)
"""First bytes of files, in lower case, what the file is, and what to do."""
_SUFFIXES = (
    (("onnx",), "an ONNX model", _KERAS_FILE),
    (("pb", "pbtxt"), "a graph of TensorFlow", _KERAS_FILE),
    (
        ("index", "meta", "ckpt", "data-00000-of-00001"),
        "a part of a TensorFlow checkpoint",
        _FROM_TENSORFLOW,
    ),
)
"""Suffixes of files whose first bytes vary, what the file is, and what to do."""


def kind_of_file(path: Path, data: bytes, size: int) -> tuple[str, str]:
    """Return what a file is, neither HDF5 nor zip, by its name, first bytes and size."""
    if not size:
        return "empty", AGAIN
    if data[4:8] == b"TFL3":
        return "a TensorFlow Lite model", "Give the Keras file that it was converted from"
    if data[8:9] == b"{" and int.from_bytes(data[:8], "little") < size:
        return "a safetensors file", _KERAS_FILE
    if data[:1] == b"\x08" and (b"onnx" in data or b"pytorch" in data):
        return "an ONNX model", _KERAS_FILE
    if data[257:262] == b"ustar":
        return "a tar archive", _UNPACK
    for suffixes, what, advice in _SUFFIXES:
        if path.suffix[1:] in suffixes:
            return what, advice
    start = data.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for first, what, advice in _STARTS:
        if start.startswith(first):
            return what, advice
    return kind_of_path(path) or f"not a Keras file: it begins with {data[:12]!r}", _KERAS_FILE


def kind_of_zip(members: list[str]) -> tuple[str, str]:
    """Return what a zip archive without Keras weights is, by the names of its members."""
    if "embedonce.json" in members:
        return "a model of embedonce, which has no backbone", _KERAS_FILE
    if any(name.endswith("data.pkl") for name in members):
        return "a PyTorch file", _KERAS_FILE
    if any(name.endswith((".h5", ".hdf5", ".keras")) for name in members):
        return "a zip archive", _UNPACK
    names = ", ".join(members[:3]) + ", …" * (len(members) > 3)
    return f"a zip archive without weights of Keras (it holds {names or 'nothing'})", _KERAS_FILE


def kind_of_folder(path: Path) -> tuple[str, str]:
    """Return what a folder is that was given as weights."""
    if os.path.isfile(path / "saved_model.pb"):
        return "a SavedModel folder, and those are not read", _FROM_TENSORFLOW
    if os.path.isfile(path / "checkpoint"):
        return "a TensorFlow checkpoint, and those are not read", _FROM_TENSORFLOW
    if os.path.isfile(path / "model.weights.h5"):
        return "a folder", "Give the file model.weights.h5 in it"
    return kind_of_path(path), _KERAS_FILE
