"""Saving and loading fitted heads.

Three formats, told apart by the suffix:

- ``.skops`` (heads built on scikit-learn): loading runs no code and accepts a fixed list of types.
- ``.keras`` (the softmax head): Keras's own format, readable by Keras alone.
- ``.joblib`` (any head): a pickle. Loading one runs whatever its author wants, so it must be asked for.

Each keeps a JSON document that `read_metadata` returns without loading the model.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...cache import FeatureCache, make_folder, write_atomically
from ...errors import HeadError, ModelFileError, ModelSuffixError, first_line
from ..registry import HEADS
from .keras_files import load_keras_head, save_keras_head
from .metadata import cache_metadata, encode, read_entry, read_footer, with_entry, with_footer

SUFFIXES = (".skops", ".keras", ".joblib")
# our own classes that a .skops file may hold; skops itself knows scikit-learn's and NumPy's
TRUSTED = tuple(f"embedonce.heads.{head.module}.{head.cls}" for head in HEADS.values() if head.suffix == ".skops")


def suffixes_for(head: Any) -> tuple[str, ...]:
    """Return the suffixes that a head can be saved with, the recommended one first."""
    known = HEADS.get(getattr(type(head), "head_name", ""))
    return (known.suffix if known else ".skops", ".joblib")


def save_head(
    head: Any,
    path: str | Path,
    metadata: Mapping[str, Any] | None = None,
    *,
    cache: FeatureCache | None = None,
) -> None:
    """Write a fitted head to a file, whole or not at all.

    Parameters
    ----------
    head : scikit-learn classifier
        Fitted.
    path : path-like
        Where to; the suffix decides the format. Missing folders are created.
    metadata : mapping, default=None
        JSON-serialisable values that `read_metadata` returns.
    cache : FeatureCache, default=None
        Cache whose rows the head was fitted on, such as ``cache.select(rows)``. Its fingerprint and its images become
        metadata, which `predict`, `explain`, `export` and `evaluate_model` need.

    Raises
    ------
    HeadError
        If the head is not fitted.
    ModelFileError
        If the head cannot be saved with this suffix, or the metadata do not fit into JSON.
    OutputError
        If the file cannot be written.
    """
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    path = Path(path)
    if cache is not None:
        metadata = cache_metadata(cache) | dict(metadata or {})
    suffix = path.suffix.lower()
    allowed = suffixes_for(head)
    if suffix not in allowed:
        raise ModelSuffixError(
            f"a {type(head).__name__} is saved with the suffix {' or '.join(allowed)}, got {str(path)!r}"
        )
    try:
        check_is_fitted(head)
    except NotFittedError as error:
        raise HeadError(f"{type(head).__name__} is not fitted: call fit before saving it") from error
    document = encode(metadata)
    if suffix == ".skops":
        data = with_entry(_skops_bytes(head), document)
    elif suffix == ".joblib":
        data = with_footer(_joblib_bytes(head), document)
    make_folder(path.parent, "the model")
    if suffix == ".keras":
        save_keras_head(head, path, metadata)
    else:
        write_atomically(path, data)


def load_head(path: str | Path, trust: bool = False) -> Any:
    """Read a fitted head from a file.

    Parameters
    ----------
    path : path-like
        A file that `save_head` wrote, or a ``.keras`` model with a sub-model named "head".
    trust : bool
        Whether the file may run code: needed for ``.joblib`` files, and for ``.skops`` files that hold
        types from elsewhere. Only for files whose author you trust.

    Returns
    -------
    scikit-learn classifier
        The head.

    Raises
    ------
    ModelFileError
        If there is no such file, it is damaged or of another kind, or it would run code and `trust` is
        False.
    """
    path = Path(path)
    suffix = _known_suffix(path)
    if suffix == ".keras":
        return load_keras_head(path)
    head = _load_skops(path, trust) if suffix == ".skops" else _load_joblib(path, trust)
    if not (hasattr(head, "predict") and hasattr(head, "classes_")):
        raise ModelFileError(f"{path}: holds no fitted head, but a {type(head).__name__}")
    return head


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Return what `save_head` was given as ``metadata``, without loading the head or running code.

    Raises
    ------
    ModelFileError
        If there is no such file, it is damaged, or it was not written by embedonce.
    """
    path = Path(path)
    document = read_footer(path) if _known_suffix(path) == ".joblib" else read_entry(path)
    metadata: dict[str, Any] = document["metadata"]
    return metadata


def read_parameters(path: str | Path) -> Any:
    """Return the parameters that a softmax head in a ``.keras`` file was made with, without loading it.

    Raises
    ------
    ModelFileError
        As `read_metadata`.
    """
    return (read_entry(Path(path))["head"] or {}).get("params", {})


def _known_suffix(path: Path) -> str:
    """Return the suffix of an existing model file, in lower case."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ModelSuffixError(f"a model file has the suffix {', '.join(SUFFIXES)}, got {str(path)!r}")
    if not path.is_file():
        raise ModelFileError(f"{path}: there is no such file")
    return suffix


def _skops_bytes(head: Any) -> bytes:
    """Return a head in skops's format, made sure to load again without trust."""
    import skops.io

    try:
        data: bytes = skops.io.dumps(head)
        foreign = _foreign_types(data)
    except Exception as error:  # skops raises various errors for what it cannot represent
        raise ModelFileError(
            f"a {type(head).__name__} does not fit into a .skops file ({first_line(error)}); use .joblib"
        ) from error
    if foreign:
        raise ModelFileError(
            f"a {type(head).__name__} holds types that a .skops file must not ({', '.join(foreign)}); use .joblib"
        )
    return data


def _joblib_bytes(head: Any) -> bytes:
    """Return a head pickled by joblib."""
    import joblib

    buffer = io.BytesIO()
    try:
        joblib.dump(head, buffer)
    except Exception as error:  # pickling calls the object's own methods
        raise ModelFileError(f"a {type(head).__name__} cannot be pickled: {first_line(error)}") from error
    return buffer.getvalue()


def _foreign_types(data: bytes) -> list[str]:
    """Return the names of the types in a skops archive that are neither skops's trusted nor ours."""
    import skops.io

    return [name for name in skops.io.get_untrusted_types(data=data) if name not in TRUSTED]


def _load_skops(path: Path, trust: bool) -> Any:
    """Load a .skops file, refusing types that are not on the list unless `trust`."""
    import skops.io

    read_entry(path)  # a clear error for a damaged or foreign file, before skops looks at it
    try:
        data = path.read_bytes()
        foreign = _foreign_types(data)
    except Exception as error:  # a damaged schema leads to any error
        raise ModelFileError(f"{path}: damaged, or not a .skops file: {first_line(error)}") from error
    if foreign and not trust:
        raise ModelFileError(
            f"{path}: holds types that embedonce does not know: {', '.join(foreign)}. If you trust its author, "
            "load it with trust=True (--trust)"
        )
    try:
        return skops.io.loads(data, trusted=[*TRUSTED, *foreign])
    except Exception as error:
        raise ModelFileError(f"{path}: damaged: {first_line(error)}") from error


def _load_joblib(path: Path, trust: bool) -> Any:
    """Unpickle a .joblib file if `trust`."""
    if not trust:
        raise ModelFileError(
            f"{path}: a .joblib file runs code when it is loaded. If you trust its author, load it with "
            "trust=True (--trust); .skops and .keras files need no trust"
        )
    import joblib

    try:
        return joblib.load(path)
    except Exception as error:  # unpickling runs code, which raises what it likes
        raise ModelFileError(f"{path}: damaged, or not a .joblib file: {first_line(error)}") from error
