"""Model files of fitted heads: ``.npz``, ``.keras``, ``.skops`` (scikit-learn classifiers) and ``.joblib``.

Loading a ``.joblib`` file, a pickle, runs the code that its author wrote, so it needs trust. A ``.skops`` file runs no
code: only types of a fixed list are accepted. ``.npz`` files are read with NumPy alone.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...cache import FeatureCache, display, kind_of_path, make_folder, write_atomically
from ...errors import (
    HeadError,
    ModelFileError,
    ModelSuffixError,
    ParameterError,
    check_flag,
    check_mapping,
    check_path,
    describe,
    first_line,
)
from ..predictors import PREDICTORS
from .check_head import check_classes, check_head
from .head_arrays import StoredHead, array_bytes, check_fitted, has_arrays, pack_head, read_array, unpack_head
from .keras_files import load_keras_head, model_sha256, save_keras_head
from .metadata import (
    cache_metadata,
    encode,
    new_archive,
    read_entry,
    read_footer,
    with_entries,
    with_footer,
)
from .skops_files import dump_skops, load_skops

SUFFIXES = (".npz", ".keras", ".skops", ".joblib")
EXPORTED = ".tflite"  # a whole model, whose head cannot be taken out


def suffixes_for(head: Any) -> tuple[str, ...]:
    """Return the suffixes that a head can be saved with, the recommended one first."""
    if not has_arrays(head):
        return (".skops", ".joblib")
    return (".keras", ".npz", ".joblib") if head.head_name == "softmax" else (".npz", ".joblib")


def require_saveable(head: Any, path: Path, name: str) -> None:
    """Raise a ModelFileError if a head, fitted or not, cannot be written to a path; messages call it `name`."""
    _require_suffix(head, path, name)
    if path.suffix.lower() == ".skops":
        dump_skops(head)
    elif path.suffix.lower() == ".joblib":
        _joblib_bytes(head)


def _require_suffix(head: Any, path: Path, name: str) -> None:
    allowed = suffixes_for(head)
    if path.suffix.lower() not in allowed:
        raise ModelSuffixError(
            f"the model file of {name} must end in {' or '.join(allowed)}, got {display(str(path))!r}"
        )


def save_head(
    head: Any,
    path: str | Path,
    metadata: Mapping[str, Any] | None = None,
    *,
    cache: FeatureCache | None = None,
    rows: NDArray[np.intp] | None = None,
) -> None:
    """Write a fitted head to a file, whole or not at all.

    Parameters
    ----------
    head : scikit-learn classifier
        Fitted.
    path : path-like
        Model file; missing folders are created. ``.npz`` for heads of embedonce, ``.keras`` for softmax as a Keras
        model, ``.skops`` for classifiers of scikit-learn, ``.joblib`` (a pickle) for all.
    metadata : mapping, default=None
        JSON-serialisable values that `read_metadata` returns.
    cache : FeatureCache, default=None
        Cache that the head was fitted on. Its fingerprint and its images become metadata, which `predict`, `explain`,
        `export` and `evaluate_model` need.
    rows : ndarray of intp, default=None
        Rows of `cache` that the head was fitted on, by default all.

    Raises
    ------
    HeadError
        If the head is not fitted.
    ModelFileError
        If the head cannot be saved with this suffix, or the metadata do not fit into JSON.
    OutputError
        If the file cannot be written.

    See Also
    --------
    load_head : Read a fitted head from a file.

    Examples
    --------
    >>> import tempfile
    >>> import embedonce as eo
    >>> head = eo.make_head("logreg").fit([[0.0], [1.0]], ["cat", "dog"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     eo.save_head(head, f"{folder}/head.npz")
    """
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    path = check_path("path", "save_head", path)
    metadata = check_mapping("metadata", "save_head", metadata)
    if cache is not None:
        if not isinstance(cache, FeatureCache):
            raise ParameterError(f"parameter cache of save_head must be a FeatureCache, got {describe(cache)}")
        metadata = cache_metadata(cache, rows) | metadata
    suffix = path.suffix.lower()
    _require_suffix(head, path, f"a {type(head).__name__}")
    try:
        check_is_fitted(head)
    except NotFittedError as error:
        raise HeadError(f"{type(head).__name__} is not fitted: call fit before saving it") from error
    except TypeError as error:  # a class, or not an estimator
        raise HeadError(
            f"parameter head of save_head must be a fitted scikit-learn classifier, got {describe(head)}"
        ) from error
    if suffix == ".npz":
        description, arrays = pack_head(head)
        entries = {name: array_bytes(array) for name, array in arrays.items()}
        data = new_archive(encode(metadata, head=description), entries)
    elif suffix == ".skops":
        data = with_entries(dump_skops(head), encode(metadata))
    elif suffix == ".joblib":
        data = with_footer(_joblib_bytes(head), encode(metadata))
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
        File that `save_head` wrote, or a ``.keras`` model with a sub-model named "head".
    trust : bool, default=False
        Whether the file may run code: needed for ``.joblib`` files, and for ``.skops`` files with types of other
        packages. Set it only for files whose author you trust.

    Returns
    -------
    scikit-learn classifier

    Raises
    ------
    ModelFileError
        If there is no such file, it is damaged or of another kind, or it would run code and `trust` is False.

    See Also
    --------
    save_head : Write a fitted head to a file.

    Examples
    --------
    >>> import tempfile
    >>> import embedonce as eo
    >>> head = eo.make_head("logreg").fit([[0.0], [1.0]], ["cat", "dog"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     eo.save_head(head, f"{folder}/head.npz")
    ...     eo.load_head(f"{folder}/head.npz").predict([[0.9]])
    array(['dog'], dtype='<U3')
    """
    path = check_path("path", "load_head", path)
    check_flag("trust", "load_head", trust)
    suffix = _suffix_of_existing(path)
    if suffix in (".npz", ".keras"):
        metadata, stored, has_weights = _read_archive(path)
        if stored is not None and has_weights:
            try:
                return stored.estimator()
            except Exception as error:
                raise _damaged(path, error) from error
        if suffix == ".keras":
            return load_keras_head(path, metadata, stored)
        raise ModelFileError(f"{path}: holds no head")
    if suffix == ".skops":
        read_entry(path)  # a clear error for a damaged or foreign file, before skops reads it
        head = load_skops(path, trust)
    else:
        head = _load_joblib(path, trust)
    if not (hasattr(head, "predict") and hasattr(head, "classes_")):
        raise ModelFileError(f"{path}: holds no fitted head, but a {type(head).__name__}")
    try:
        check_classes(head.classes_)
        check_fitted(head)
    except Exception as error:
        raise _damaged(path, error) from error
    return head


def load_predictor(path: str | Path, trust: bool = False) -> Any:
    """Read a head for predicting alone, without scikit-learn and Keras where the file and the head allow it."""
    path = Path(path)
    if _suffix_of_existing(path) in (".npz", ".keras"):
        _, stored, has_weights = _read_archive(path)
        without_probabilities = stored is not None and not stored.parameters.get("probability", True)
        if stored is not None and has_weights and stored.name in PREDICTORS and not without_probabilities:
            predictor = PREDICTORS[stored.name]()
            vars(predictor).update(stored.attributes)
            return predictor
    return load_head(path, trust)


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Return the metadata of a model file without loading the head or running code."""
    path = Path(path)
    document = read_footer(path) if _suffix_of_existing(path, exported=True) == ".joblib" else read_entry(path)
    metadata: dict[str, Any] = document["metadata"]
    return metadata


def read_parameters(path: str | Path) -> Any:
    """Return the parameters of the head in a ``.keras`` or ``.npz`` file; raises as `read_metadata` does."""
    _, stored, _ = _read_archive(Path(path))
    return {} if stored is None else stored.parameters


def _read_archive(path: Path) -> tuple[dict[str, Any], StoredHead | None, bool]:
    """Return the metadata of an archive, its stored head, and whether that has weights (else Keras must read them)."""
    document = read_entry(path)
    if document.get("head") is None:
        return document["metadata"], None, False
    try:
        with zipfile.ZipFile(path) as archive:
            stored = unpack_head(document["head"], lambda entry: read_array(archive, entry))
            has_weights = path.suffix.lower() == ".npz" or document.get("model_sha256") == model_sha256(archive)
            if has_weights and not stored.attributes:
                raise ValueError(f"its head {stored.name!r} is not fitted")
            check_head(*stored, complete=has_weights)
    except MemoryError:
        raise
    except Exception as error:  # a damaged description leads to any error
        raise _damaged(path, error) from error
    return document["metadata"], stored, has_weights


def _damaged(path: Path, error: Exception) -> ModelFileError:
    return ModelFileError(f"{path}: damaged: {first_line(error)}")


def _suffix_of_existing(path: Path, exported: bool = False) -> str:
    """Return the suffix of an existing model file, or with ``exported`` of a .tflite file, in lower case."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES and not (suffix == EXPORTED and exported):
        if suffix == EXPORTED:
            raise ModelSuffixError(
                f"{display(str(path))} is a whole model for predict, whose head cannot be taken out. Give the model "
                "that it was exported from"
            )
        kind = kind_of_path(path)
        what = f", which is {kind}" if kind else ""
        raise ModelSuffixError(f"a model file has the suffix {', '.join(SUFFIXES)}, got {display(str(path))!r}{what}")
    if not path.is_file():
        raise ModelFileError(f"{path}: there is no such file")
    return suffix


def _joblib_bytes(head: Any) -> bytes:
    import joblib

    buffer = io.BytesIO()
    try:
        joblib.dump(head, buffer)
    except Exception as error:  # pickling calls the object's methods
        raise ModelFileError(f"a {type(head).__name__} cannot be pickled: {first_line(error)}") from error
    return buffer.getvalue()


def _load_joblib(path: Path, trust: bool) -> Any:
    """Unpickle a .joblib file if `trust`."""
    if not trust:
        raise ModelFileError(
            f"{path}: a .joblib file runs code when it is loaded. If you trust its author, load it with "
            "trust=True (--trust). Other model files need no trust"
        )
    import joblib

    try:
        return joblib.load(path)
    except Exception as error:  # unpickling runs code, which raises any error
        raise ModelFileError(f"{path}: damaged, or not a .joblib file: {first_line(error)}") from error
