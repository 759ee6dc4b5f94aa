"""One thread for BLAS, and as many for Python as it had, or none for small arrays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_SMALL = 2**20  # values: 800 images


@contextmanager
def one_thread_if_small(values: int) -> Iterator[None]:
    """Give BLAS one thread if features have few values: between small products, others would wait busily."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1 if values <= _SMALL else None, user_api="blas"):
        yield


@contextmanager
def threads_of_blas() -> Iterator[int]:
    """Give BLAS one thread, and the number that it had, for threads of Python."""
    # exponentials, copies and the first touch of memory are shared then, not the products alone, and no thread waits
    # busily: between the small products of many iterations, such threads took most of two processors
    from threadpoolctl import ThreadpoolController

    blas = ThreadpoolController().select(user_api="blas")
    threads = max((library.num_threads for library in blas.lib_controllers), default=1)
    with blas.limit(limits=1):
        yield threads
