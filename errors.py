"""The exceptions that embedonce raises.

They stand in the lowest layer because every layer raises them. Each inherits the standard exception
that a caller would expect, so ``except ValueError`` keeps working. A message says which parameter of
what, what is allowed, what it got, and what to do next.
"""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type if it has none.

    Libraries raise what they like over a damaged file; our messages stay in one line.
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class EmbedonceError(Exception):
    """Base of every error that embedonce raises on purpose.

    Attributes
    ----------
    exit_status : int
        Of the command line: 1 for a run that failed, 2 where the command asks for what cannot be.
    """

    exit_status = 1


class CacheError(EmbedonceError, ValueError):
    """A cache cannot be read: missing, damaged, or not a feature cache."""


class DamagedCacheError(CacheError):
    """A feature cache does not match its checksums: values were lost or changed after it was written."""


class FingerprintError(EmbedonceError, ValueError):
    """A cache's features were made in another way than the one asked for."""

    exit_status = 2


class LockedError(EmbedonceError, RuntimeError):
    """Another process is writing the same cache."""


class ImageFolderError(EmbedonceError, ValueError):
    """A folder does not hold images in at least two class folders."""

    exit_status = 2


class ImageError(EmbedonceError, ValueError):
    """An image cannot be decoded; the message is the reason that goes to the rejects."""


class WeightsError(EmbedonceError, ValueError):
    """The backbone's weights are missing or do not fit."""

    exit_status = 2


class EngineError(EmbedonceError, RuntimeError):
    """An inference engine is not installed or cannot run."""


class ParameterError(EngineError, ValueError):
    """There is no such engine, precision or number of threads, or two of them exclude each other."""

    exit_status = 2


class ClusterError(EmbedonceError, RuntimeError):
    """A Dask cluster cannot be reached, or one of its workers cannot do its part."""


class HeadError(EmbedonceError, ValueError):
    """A head is unknown or cannot be used as asked."""

    exit_status = 2


class HeadParameterError(HeadError, TypeError):
    """A head was given a parameter that it does not have, or a value that it does not take."""


class ModelFileError(EmbedonceError, ValueError):
    """A model file cannot be written or read, or would run code when read."""


class ModelSuffixError(ModelFileError):
    """A model file, or a picture of it, has an ending that it cannot have."""

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
    """An optional package is not installed."""


class ApproximationWarning(UserWarning):
    """A head was fitted to an approximation, since there were too many rows for the exact way."""
