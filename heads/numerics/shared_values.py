"""Values that many fits in one process share, such as kernel matrices and standardised rows."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import numpy as np
import xxhash

from .scores import Array

T = TypeVar("T")
_LIMIT = 3 * 2**30  # bytes of arrays, as many as one kernel matrix may have
_VALUES: ContextVar[dict[Hashable, Any] | None] = ContextVar("_VALUES", default=None)


@contextmanager
def sharing() -> Iterator[None]:
    """Let `shared` return what it made before, until the end of the block."""
    token = _VALUES.set({})
    try:
        yield
    finally:
        _VALUES.reset(token)


def is_sharing() -> bool:
    """Return whether `shared` keeps values, which then must not be overwritten."""
    return _VALUES.get() is not None


def shared(key: Hashable, make: Callable[[], T], *arrays: Array) -> T:
    """Return ``make()``, or its earlier result for an equal key and equal arrays; the newest arrays are kept."""
    values = _VALUES.get()
    if values is None:
        return make()
    digests = [xxhash.xxh3_128_digest(np.ascontiguousarray(one).data) for one in arrays]
    whole = (key, *((one.shape, one.dtype.str, digest) for one, digest in zip(arrays, digests, strict=True)))
    value: T = values.pop(whole) if whole in values else make()
    values[whole] = value  # now the last
    size = sum(_bytes(one) for one in values.values())
    for old in list(values):
        if size <= _LIMIT:
            break
        size -= _bytes(values[old])
        if _bytes(values[old]):
            del values[old]
    return value


def _bytes(value: object) -> int:
    return value.nbytes if isinstance(value, np.ndarray) else 0
