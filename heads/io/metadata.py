"""The JSON document of each kind of model file, readable without loading the model.

It is an entry of zip archives, which may follow the model (``.tflite``), or a footer after a pickle, which
`joblib.load` does not reach: the JSON text, its length as 8 bytes (little endian), and a mark.
"""

from __future__ import annotations

import io
import json
import lzma
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache, display
from ...errors import ModelFileError, describe, first_line, is_number

ENTRY = "embedonce.json"
SHORT_HASH_BYTES = 8
"""Bytes that a model file keeps of the content hash of each training image."""
FOLDER = "embedonce/"
"""Prefix of the entries of a head in an archive that holds other entries too."""
LABELS = "labels.txt"
FORMAT = "embedonce model"
FORMAT_VERSION = 2
READABLE_VERSIONS = (1, 2)
FOOTER_MARK = b"embedonce-json-1"
FOOTER_BYTES = 8 + len(FOOTER_MARK)
# class names and training information of any sensible model; a larger claim is a damaged or hostile file
LARGEST_DOCUMENT = 64 * 2**20
# of the bytes of all entries to those of the archive; arrays of numbers shrink less
LARGEST_RATIO = 10
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError, RuntimeError, EOFError)
"""Errors that a damaged zip archive raises."""


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value)) and len(set(value)) == len(value) > 0


def _are_hashes(value: Any) -> bool:
    return _is_text(value) and len(value) % (2 * SHORT_HASH_BYTES) == 0 and not value.strip("0123456789abcdef")


def _is_training(value: Any) -> bool:
    """Return whether a value is what `finetune` writes of a training, as far as it is read."""
    return _is_object(value) and is_float(value.get("seconds", 0.0)) and is_history(value.get("history", {}))


def is_float(value: Any) -> bool:
    """Return whether a value is a number that a float can hold."""
    return is_number(value) and (isinstance(value, float) or abs(value) < 2**63)


def is_history(value: Any) -> bool:
    """Return whether a value maps names to lists of numbers of one length."""
    return (
        isinstance(value, dict)
        and all(isinstance(name, str) and isinstance(numbers, list) for name, numbers in value.items())
        and all(map(is_float, chain.from_iterable(value.values())))
        and len({len(numbers) for numbers in value.values()}) <= 1
    )


READ_METADATA: dict[str, tuple[Callable[[Any], bool], str]] = {
    "class_names": (_are_names, "a list of different strings"),
    "trained_on": (_are_hashes, f"hashes of {SHORT_HASH_BYTES} bytes as hexadecimal digits"),
    "finetuned": (_is_training, "an object with a history of numbers"),
    "decisions": (lambda value: isinstance(value, list), "a list"),
    **dict.fromkeys(("fingerprint", "novelty", "parameters", "split"), (_is_object, "an object")),
    **dict.fromkeys(("head", "weights", "weights_path", "cache_path"), (_is_text, "a string")),
}
"""The metadata that embedonce reads: whether a value can be read, and what it must be. Each may also be null."""


def cache_metadata(cache: FeatureCache, rows: npt.NDArray[np.intp] | None = None) -> dict[str, Any]:
    """Return the metadata of a head that was fitted on rows of a cache, by default all; JSON-serialisable."""
    from importlib.metadata import version  # parsers of e-mail headers, which reading a model does not need

    hashes = cache.files.hashes if rows is None else cache.files.hashes[rows]
    return {
        "embedonce": version("embedonce"),
        "class_names": cache.class_names,
        "fingerprint": cache.fingerprint,
        "weights": cache.provenance.get("weights"),
        "weights_path": cache.provenance.get("weights_path"),
        "cache_path": None if cache.path is None else str(cache.path.resolve()),
        "trained_on": hashes[:, :SHORT_HASH_BYTES].tobytes().hex(),
    }


def encode(metadata: Mapping[str, Any] | None, **more: Any) -> bytes:
    """Return the JSON document of a model file as ASCII; names that are not UTF-8 are lone surrogate escapes."""
    _check_metadata(metadata or {}, "metadata of a model file")
    document = {"format": FORMAT, "format_version": FORMAT_VERSION, "metadata": dict(metadata or {}), **more}
    try:
        return json.dumps(document, indent=1).encode("ascii")
    except (TypeError, ValueError) as error:
        raise ModelFileError(f"metadata of a model file must fit into JSON: {error}") from error


def _check_metadata(metadata: Mapping[str, Any], owner: str) -> None:
    """Raise ModelFileError if metadata that embedonce reads are of a wrong type."""
    for name, (is_allowed, allowed) in READ_METADATA.items():
        value = metadata.get(name)
        if value is not None and not is_allowed(value):
            raise ModelFileError(f"{name} of {owner} must be {allowed}, got {describe(value)}")


def decode(path: Path, text: bytes) -> dict[str, Any]:
    """Return the document in `text`; raises `ModelFileError` if embedonce did not write it, or a later format."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path}: {ENTRY} in it is damaged: {first_line(error)}") from error
    if (
        not isinstance(document, dict)
        or document.get("format") != FORMAT
        or not isinstance(document.get("metadata"), dict)
        or not isinstance(document.get("head"), dict | None)
    ):
        raise ModelFileError(f"{path}: {ENTRY} in it was not written by embedonce")
    version = document.get("format_version")
    if type(version) is not int or version not in READABLE_VERSIONS:
        raise ModelFileError(
            f"{path}: its format version is {describe(version)}, this embedonce reads "
            f"{' and '.join(map(str, READABLE_VERSIONS))}. Use the embedonce that wrote it, or a newer one"
        )
    if version == 1 and document.get("head"):
        try:
            document["head"] = _head_of_version_1(document["head"])
        except (KeyError, AttributeError) as error:
            raise ModelFileError(f"{path}: {ENTRY} in it is damaged: {first_line(error)}") from error
    _check_metadata(document["metadata"], f"{ENTRY} in {path}")
    return document


def _head_of_version_1(head: dict[str, Any]) -> dict[str, Any]:
    """Return the description of a softmax head, whose weights Keras's part of the file holds."""
    attributes = {"history_": {"mapping": list(head["history"].items())}, "classes_": head["classes"]}
    return {"name": head["name"], "parameters": head["params"], "attributes": attributes}


def with_entries(archive: bytes, document: bytes, entries: Mapping[str, bytes] | None = None) -> bytes:
    """Return a zip archive with the document and uncompressed entries in place of those of embedonce."""
    source, target = io.BytesIO(archive), io.BytesIO()
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            if info.filename != ENTRY and not info.filename.startswith(FOLDER):
                new.writestr(info, old.read(info))
        _write_entries(new, document, entries or {})
    return target.getvalue()


def new_archive(document: bytes, entries: Mapping[str, bytes]) -> bytes:
    """Return a zip archive of the document and uncompressed entries."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        _write_entries(archive, document, entries)
    return target.getvalue()


def _write_entries(archive: zipfile.ZipFile, document: bytes, entries: Mapping[str, bytes]) -> None:
    archive.writestr(ENTRY, document, compress_type=zipfile.ZIP_DEFLATED)
    for name, data in entries.items():
        archive.writestr(name, data, compress_type=zipfile.ZIP_STORED)


def with_appended(model: bytes, document: bytes, class_names: list[str]) -> bytes:
    """Return a LiteRT model, then a zip archive of the document and ``labels.txt``, as TensorFlow Lite's tools do."""
    buffer = io.BytesIO(model)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(LABELS, "".join(f"{display(name)}\n" for name in class_names))
        archive.writestr(ENTRY, document, compress_type=zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def read_entry(path: Path) -> dict[str, Any]:
    """Return the document of a zip archive; raises `ModelFileError` if it cannot be read or has none."""
    try:
        with zipfile.ZipFile(path) as archive:
            _refuse_bomb(path, archive)
            size = archive.getinfo(ENTRY).file_size
            text = archive.read(ENTRY) if size <= LARGEST_DOCUMENT else b""
    except KeyError as error:
        raise ModelFileError(f"{path}: not written by embedonce: it holds no {ENTRY}") from error
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, *ZIP_ERRORS) as error:
        raise ModelFileError(f"{path}: damaged, or not a {path.suffix} file: {first_line(error)}") from error
    if size > LARGEST_DOCUMENT:
        raise ModelFileError(f"{path}: {ENTRY} in it claims {size} bytes, more than {LARGEST_DOCUMENT}")
    return decode(path, text)


def _refuse_bomb(path: Path, archive: zipfile.ZipFile) -> None:
    """Raise ModelFileError for an archive whose entries claim far more bytes than it has, or are packed otherwise."""
    if any(info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for info in archive.infolist()):
        raise ModelFileError(f"{path}: damaged: an entry is compressed in another way than by embedonce")
    claimed, size = sum(info.file_size for info in archive.infolist()), os.path.getsize(path)
    if claimed > LARGEST_RATIO * size + LARGEST_DOCUMENT:
        raise ModelFileError(f"{path}: its entries claim {claimed:,} bytes, too many for a file of {size:,}")


def with_footer(pickled: bytes, document: bytes) -> bytes:
    """Return a joblib file's bytes followed by the document."""
    return b"".join([pickled, document, struct.pack("<Q", len(document)), FOOTER_MARK])


def read_footer(path: Path) -> dict[str, Any]:
    """Return the document at the end of a joblib file, without unpickling; raises as `read_entry` does."""
    try:
        with path.open("rb") as file:  # a forest is of gigabytes, its document of kilobytes
            length = file.seek(0, os.SEEK_END)
            file.seek(max(0, length - FOOTER_BYTES))
            footer = file.read()
            if len(footer) < FOOTER_BYTES or not footer.endswith(FOOTER_MARK):
                raise ModelFileError(f"{path}: damaged, or not written by embedonce: it does not end in its footer")
            (size,) = struct.unpack("<Q", footer[: -len(FOOTER_MARK)])
            if size > length - FOOTER_BYTES:
                raise ModelFileError(f"{path}: damaged: its footer claims {size} bytes of a file of {length}")
            file.seek(length - FOOTER_BYTES - size)
            text = file.read(size)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror or error}") from error
    return decode(path, text)
