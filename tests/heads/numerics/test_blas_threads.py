from __future__ import annotations

from embedonce.heads.numerics.blas_threads import one_thread, one_thread_if_small, threads_of_blas
from threadpoolctl import threadpool_info, threadpool_limits


def threads():
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_only_small_arrays_have_one_thread():
    with threadpool_limits(2, "blas"):
        with one_thread_if_small(300 * 1280):
            assert threads() == {1}
        with one_thread_if_small(3000 * 1280):
            assert threads() == {2}
        assert threads() == {2}


def test_python_gets_the_threads_of_blas():
    with threadpool_limits(2, "blas"):
        for values, expected in ((3000 * 1280, 2), (300 * 1280, 1)):
            with threads_of_blas(values) as number:
                assert (number, threads()) == (expected, {1})
        with one_thread(), threads_of_blas(3000 * 1280) as number:
            assert number == 1
        assert threads() == {2}
