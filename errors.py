"""The exceptions that embedonce raises, each also the standard exception that a caller would expect.

A message says which parameter of which function, what is allowed, what it got, and what to do next.
"""

from __future__ import annotations

import importlib
import operator
import os
import re
import shlex
from collections.abc import Iterable, Mapping
from numbers import Real
from pathlib import Path
from typing import Any

_NUMPY_SCALAR = re.compile(r"""\bnp\.\w+_?\(([^()'"]*|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")\)|\bnp\.(True|False)_""")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type if the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class EmbedonceError(Exception):
    """Base of every error that embedonce raises on purpose.

    Attributes
    ----------
    exit_status : int
        Exit status of the command line: 1 for a run that failed, 2 for a request that cannot be met.
    """

    exit_status = 1

    def __str__(self) -> str:
        """Return the message, with NumPy's scalars as Python's: 0.5 for np.float64(0.5)."""
        return _NUMPY_SCALAR.sub(lambda match: next(filter(None, match.groups())), super().__str__())


class CacheError(EmbedonceError, ValueError):
    """A cache cannot be read: missing, damaged, or not a feature cache."""


class DamagedCacheError(CacheError):
    """A feature cache does not match its checksums: values were lost or changed after it was written."""


class FingerprintError(EmbedonceError, ValueError):
    """The features of a cache were computed with other options than those requested."""

    exit_status = 2


class LockedError(EmbedonceError, RuntimeError):
    """Another process is writing the same cache."""


class ImageFolderError(EmbedonceError, ValueError):
    """A folder or archive holds no images, or cannot be read."""

    exit_status = 2


class ImageError(EmbedonceError, ValueError):
    """An image cannot be decoded; the message is the reason in the list of rejects."""


class OutOfMemoryError(EmbedonceError, MemoryError):
    """There is not enough memory for an image; the image itself is not rejected."""


class WeightsError(EmbedonceError, ValueError):
    """The backbone's weights are missing or do not fit."""

    exit_status = 2


class EngineError(EmbedonceError, RuntimeError):
    """An inference engine is not installed or cannot run."""


class ParameterError(EmbedonceError, ValueError):
    """A parameter of a function has a value that it does not take, or two parameters exclude each other."""

    exit_status = 2


def check_int(name: str, owner: str, value: Any, minimum: int, maximum: int | None = None) -> int:
    """Return a parameter as an int, or raise ParameterError; NumPy's integers are accepted, bool is not."""
    try:
        number = minimum - 1 if type(value).__name__ in ("bool", "bool_") else operator.index(value)
    except TypeError:
        number = minimum - 1
    if number < minimum or (maximum is not None and number > maximum):
        allowed = f"of at least {minimum}" if maximum is None else f"from {minimum} to {maximum}"
        raise ParameterError(f"parameter {name} of {owner} must be an integer {allowed}, got {describe(value)}")
    return number


def describe(value: object) -> str:
    """Return a value for a message: its repr, or of a long one its type."""
    text = repr(value)
    return text if len(text) <= 60 and text.isprintable() else f"an object of type {type(value).__name__}"


def check_path(name: str, owner: str, value: Any) -> Path:
    """Return a parameter as a Path, or raise ParameterError."""
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        raise ParameterError(f"parameter {name} of {owner} must be a path, got {describe(value)}")
    return Path(value)


def check_paths(name: str, owner: str, value: Any) -> list[Path]:
    """Return a path, or an iterable of paths, as a list, or raise ParameterError."""
    if isinstance(value, str | os.PathLike):
        return [check_path(name, owner, value)]
    if isinstance(value, bytes | Mapping) or not isinstance(value, Iterable):
        raise ParameterError(f"parameter {name} of {owner} must be a path or a list of paths, got {describe(value)}")
    return [check_path(name, owner, path) for path in value]


def check_choice(name: str, owner: str, value: Any, choices: Iterable[str], optional: bool = False) -> None:
    """Raise ParameterError unless a parameter is one of several strings, or None if it is optional."""
    if not (isinstance(value, str) and value in choices) and not (optional and value is None):
        raise ParameterError(f"parameter {name} of {owner} must be one of {', '.join(choices)}, got {describe(value)}")


def check_flag(name: str, owner: str, value: Any) -> None:
    """Raise ParameterError unless a parameter is True or False; NumPy's are accepted."""
    if not isinstance(value, bool) and type(value).__name__ not in ("bool_", "bool"):
        raise ParameterError(f"parameter {name} of {owner} must be True or False, got {describe(value)}")


def check_mapping(name: str, owner: str, value: Any) -> dict[str, Any]:
    """Return a parameter as a dict with names as its keys, an empty one for None, or raise ParameterError."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ParameterError(
            f"parameter {name} of {owner} must be a mapping from names to values, got {describe(value)}"
        )
    return dict(value)


def import_optional(package: str, purpose: str, install: str | None = None) -> Any:
    """Import a package that embedonce does not require, or raise MissingPackageError that says what to ``install``."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingPackageError(
            f"{purpose} needs {package}, which is not installed. Install it with: pip install "
            f"{shlex.quote(install or package)}"
        ) from error


def is_number(value: Any) -> bool:
    """Return whether a value is a real number; bool is not, NumPy's numbers are."""
    return isinstance(value, Real) and not isinstance(value, bool)


class ClusterError(EmbedonceError, RuntimeError):
    """A Dask cluster cannot be reached, or one of its workers fails."""


class HeadError(EmbedonceError, ValueError):
    """A head is unknown, fails, or cannot be used in this way."""

    exit_status = 2


class HeadParameterError(HeadError, TypeError):
    """A parameter does not exist in a head, or has a value that the head does not take."""


class ModelFileError(EmbedonceError, ValueError):
    """A model file cannot be written or read, or would run code when read."""


class ModelSuffixError(ModelFileError):
    """A model file, or a picture of a model, has a suffix that is not allowed."""

    exit_status = 2


class LabelsError(EmbedonceError, ValueError):
    """Labels or metadata of images cannot be read from a table, do not fit the images, or are missing."""

    exit_status = 2


class SplitError(EmbedonceError, ValueError):
    """A split of the images into training and test parts is impossible or does not fit the cache."""

    exit_status = 2


class GroupsError(EmbedonceError, ValueError):
    """Groups of near-duplicate images cannot be found, or a file of groups does not fit the cache."""

    exit_status = 2


class OutputError(EmbedonceError, OSError):
    """An output path cannot be written."""


class MissingPackageError(EmbedonceError, ImportError):
    """A package is not installed or cannot be imported."""


class ApproximationWarning(UserWarning):
    """A head was fitted to an approximation, since there were too many rows for the exact method."""
