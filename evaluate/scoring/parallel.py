"""Jobs in parallel: in worker processes of joblib on this machine, or on a Dask cluster.

Jobs and results are pickled here, so that every failure of pickling is an error that names the job.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Generator, Mapping
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from ...errors import ClusterError, EmbedonceError, HeadError, ParameterError, check_int
from .job import _ALONE, Job, JobResult, Result, _call, _dumps, _reason


def check_jobs(what: str, jobs: Any, dask: Any) -> None:
    """Check the parameters ``jobs`` and ``dask``, which exclude each other, and that the cluster answers."""
    check_int("jobs", what, jobs, 1)
    if dask is not None and jobs != 1:
        raise ParameterError(
            f"parameter jobs of {what} is for processes on this machine and cannot go together with dask, where the "
            f"cluster decides; got jobs={jobs!r}"
        )
    if dask is not None:
        from .dask_backend import on_cluster

        with on_cluster(dask):  # a cluster that does not answer is an error now, not after the search for groups
            pass


def run_jobs(
    function: Callable[..., Result],
    jobs: Mapping[str, tuple[Any, ...]],
    n_jobs: int = 1,
    dask: Any = None,
    on_start: Callable[[int], None] = lambda number: None,
) -> Generator[Result, None, None]:
    """Call a function with the arguments of each job and yield the results in the order of the jobs.

    The key of a job names it in errors, of which the first ends the others. ``on_start`` gets the number of each job
    when a worker is free for it.
    """
    finished: dict[int, Result] = {}
    following = 0
    with contextlib.closing(run_as_finished(function, jobs, n_jobs, dask, on_start)) as outcomes:
        for number, outcome in outcomes:
            if isinstance(outcome, EmbedonceError):
                raise outcome
            finished[number] = outcome
            while following in finished:
                yield finished.pop(following)
                following += 1


def run_as_finished(
    function: Callable[..., Result],
    jobs: Mapping[str, tuple[Any, ...]],
    n_jobs: int = 1,
    dask: Any = None,
    on_start: Callable[[int], None] = lambda number: None,
) -> Generator[tuple[int, Result | EmbedonceError], None, None]:
    """Do as `run_jobs`, but yield the number and the result, or the error, of each job as soon as it is finished."""
    n_jobs = min(n_jobs, len(jobs))
    if dask is None and n_jobs <= 1:
        for number, (name, arguments) in enumerate(jobs.items()):
            on_start(number)
            outcome: Result | EmbedonceError
            try:
                outcome = _call(name, function, arguments)
            except EmbedonceError as error:
                outcome = error
            yield number, outcome
        return
    packed = [_pack(name, function, arguments) for name, arguments in jobs.items()]
    missing = set(range(len(packed)))
    try:
        with contextlib.closing(_outcomes(packed, n_jobs, dask, on_start)) as results:
            for number, result in results:
                missing.remove(number)
                yield number, _unpack(packed[number], result)
    except ClusterError as error:
        # a process that is killed takes the jobs of the others with it; alone they may succeed
        for number in sorted(missing):
            yield number, error if dask is not None else _run_alone(packed[number])


def _unpack(packed: Job, result: JobResult) -> Any:
    try:
        return result.unpack(packed.name)
    except EmbedonceError as error:
        return error


def _run_alone(packed: Job) -> Any:
    """Return the result or the error of a job in a worker process, beside which no other one runs."""
    try:
        with contextlib.closing(_through_joblib(_run, [packed], n_jobs=2)) as results:
            return _unpack(packed, next(results)[1])
    except ClusterError as error:
        return ClusterError(f"{packed.name}: {error}")


def _pack(name: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Job:
    try:
        return Job(name, _dumps((function, arguments)))
    except Exception as error:  # pickling runs code of the head
        raise HeadError(f"{name} cannot be sent to a worker process ({_reason(error)}); {_ALONE}") from error


def _outcomes(
    packed: list[Job], n_jobs: int, dask: Any, on_start: Callable[[int], None]
) -> Generator[tuple[int, JobResult], None, None]:
    """Run the jobs and yield each result, with the number of its job, as soon as it is finished."""
    with contextlib.ExitStack() as stack:
        if dask is None:
            width, run = n_jobs, functools.partial(_through_joblib, _run, packed, n_jobs=n_jobs, pre_dispatch="n_jobs")
        else:
            from .dask_backend import on_cluster

            width, backend, task = stack.enter_context(on_cluster(dask))
            # all at once: workers may join at any time
            run = functools.partial(_through_joblib, task, packed, n_jobs=-1, backend=backend, pre_dispatch="all")
        started = min(width, len(packed))
        for number in range(started):
            on_start(number)
        for outcome in stack.enter_context(contextlib.closing(run())):
            yield outcome
            if started < len(packed):
                on_start(started)
                started += 1


def _through_joblib(
    task: Callable[[int, Job], tuple[int, JobResult]], packed: list[Job], **settings: Any
) -> Generator[tuple[int, JobResult], None, None]:
    import joblib

    calls = (joblib.delayed(task)(number, call) for number, call in enumerate(packed))
    outcomes = joblib.Parallel(return_as="generator_unordered", batch_size=1, **settings)(calls)
    try:
        for outcome in outcomes:  # noqa: UP028 - "yield from" would close them, and joblib would warn
            yield outcome
    except BrokenProcessPool as error:
        raise ClusterError("a worker process was killed, crashed, or ran out of memory") from error
    finally:
        with warnings.catch_warnings():  # about jobs that an error or Ctrl-C has ended
            warnings.simplefilter("ignore")
            outcomes.close()


def _run(number: int, packed: Job) -> tuple[int, JobResult]:
    return number, JobResult.of(packed.run)
