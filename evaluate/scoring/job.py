"""A call for a worker process, and its result, as bytes."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from ...errors import EmbedonceError, HeadError, first_line

Result = TypeVar("Result")


_ALONE = "with jobs=1 it stays in this process"


@dataclass(frozen=True)
class Job:
    """A pickled call; ``name`` names it in errors."""

    name: str
    call: bytes

    def run(self) -> bytes:
        """Make the call and return its pickled result; every error is an EmbedonceError."""
        try:
            function, arguments = pickle.loads(self.call)
        except EmbedonceError:
            raise
        except Exception as error:  # unpickling runs code of the head
            raise HeadError(
                f"{self.name} cannot be made in a worker process ({_reason(error)}): what it is made of must be "
                f"importable there; {_ALONE}"
            ) from error
        result = _call(self.name, function, arguments)
        try:
            return _dumps(result)
        except Exception as error:  # so does pickling
            raise HeadError(
                f"{self.name} cannot be sent back from a worker process ({_reason(error)}); {_ALONE}"
            ) from error


@dataclass(frozen=True)
class JobResult:
    """Pickled return value of a call, or its error with a traceback."""

    value: bytes
    trace: str | None = None

    @classmethod
    def of(cls, run: Callable[[], bytes]) -> JobResult:
        """Make a call and keep its error."""
        try:
            return cls(run())
        except EmbedonceError as error:
            return cls(pickle.dumps(error), traceback.format_exc())

    def unpack(self, name: str) -> Any:
        """Return the result, or raise the error."""
        try:
            value = pickle.loads(self.value)
        except Exception as error:
            raise HeadError(f"{name} cannot be read back from a worker process ({_reason(error)}); {_ALONE}") from error
        if self.trace is not None:
            raise value from _InWorkerError(f"\n{self.trace}")
        return value


class _InWorkerError(Exception):
    """Carries the traceback of a worker, for --debug."""


def _call(name: str, function: Callable[..., Result], arguments: tuple[Any, ...]) -> Result:
    try:
        return function(*arguments)
    except EmbedonceError:
        raise
    except Exception as error:  # of classifiers of other packages
        raise HeadError(f"{name} failed: {_reason(error)}") from error


def _dumps(value: Any) -> bytes:
    """Pickle with cloudpickle, which also takes classes that a script or a notebook defines."""
    try:
        import cloudpickle
    except ImportError:  # Dask needs it, and joblib from 1.6 on; earlier versions bundle it
        from joblib.externals import cloudpickle
    data: bytes = cloudpickle.dumps(value)
    return data


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}"
