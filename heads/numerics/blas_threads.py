"""One thread for BLAS, and as many for Python as it had, or none for small arrays."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

_SMALL = 2**20  # values: 800 images


@functools.cache  # finding the libraries takes a millisecond; scikit-learn, which heads import, has loaded them
def _blas() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


def one_thread() -> AbstractContextManager[Any]:
    """Give BLAS one thread: between small products, others would wait busily."""
    limited: AbstractContextManager[Any] = _blas().limit(limits=1)
    return limited


def one_thread_if_small(values: int) -> AbstractContextManager[Any]:
    """Give BLAS one thread if features have few values."""
    return one_thread() if values <= _SMALL else nullcontext()


@contextmanager
def threads_of_blas(values: int) -> Iterator[int]:
    """Give BLAS one thread, and the number that it had, for threads of Python; 1 if features have few values."""
    # exponentials, copies and the first touch of memory are shared then, not the products alone, and no thread waits
    # busily: between the small products of many iterations, such threads took most of two processors
    threads = max((library.num_threads for library in _blas().lib_controllers), default=1)
    with one_thread():
        yield 1 if values <= _SMALL else threads
