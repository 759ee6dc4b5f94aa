"""Jobs on a Dask cluster. The Dask backend of joblib waits for ever for tasks that Dask gives up."""

from __future__ import annotations

import contextlib
import functools
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from joblib.parallel import ParallelBackendBase

from ...errors import CacheError, ClusterError, first_line
from ...extract.cluster import connected, count_threads
from ..shared import package_versions
from .job import Job, JobResult

WORKER_SECONDS = 60.0
"""Time to wait for the first worker of a user's client, which may belong to an adaptive cluster."""


@contextlib.contextmanager
def on_cluster(dask: Any) -> Iterator[tuple[int, DaskBackend, Callable[[int, Job], tuple[int, JobResult]]]]:
    """Yield the threads of a cluster, a backend for joblib, and the function that a worker runs for each job."""
    with connected(dask, "compare and tune") as client:
        yield (
            count_threads(client, WORKER_SECONDS),
            DaskBackend(client),
            functools.partial(run_on_worker, package_versions()),
        )


def run_on_worker(versions: Mapping[str, str], number: int, packed: Job) -> tuple[int, JobResult]:
    """Run a job in a worker, which must have the same versions of the packages that decide results."""
    from distributed import get_worker

    address = get_worker().address

    def run() -> bytes:
        here = package_versions()
        for name, wanted in versions.items():
            if here[name] != wanted:
                raise ClusterError(
                    f"worker {address} has {name} {here[name]}, this process has {wanted}. Install the same everywhere"
                )
        try:
            return packed.run()
        except CacheError as error:
            raise ClusterError(
                f"worker {address}: {first_line(error)}. Every worker needs the same cache under the same path"
            ) from error

    return number, JobResult.of(run)


class DaskBackend(ParallelBackendBase):  # type: ignore[misc]
    """Backend of joblib that makes every call a Dask task; the client is synchronous and stays open."""

    supports_retrieve_callback = True

    def __init__(self, client: Any) -> None:
        super().__init__()
        self._client = client
        self._futures: dict[str, tuple[Any, str]] = {}

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return more than 1, with which joblib would not use the backend."""
        return 2

    def submit(self, func: Any, callback: Callable[[Any], None]) -> Any:
        """Submit a batch of one call; ``callback`` gets the future, however it ends."""
        key = f"embedonce-{uuid.uuid4().hex}"
        future = self._client.submit(func, key=key, pure=False)
        self._futures[key] = future, func.items[0][1][1].name
        future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, future: Any) -> Any:
        """Return the result of a task; a task that was lost or cannot run is a ClusterError."""
        from distributed import KilledWorker

        _, name = self._futures.pop(future.key)
        if future.status == "cancelled":
            raise ClusterError("the Dask scheduler was lost, or has cancelled the jobs. Run the same command again")
        error = future.exception()
        if error is None:
            return future.result()
        if isinstance(error, KilledWorker):
            raise ClusterError(
                f"{name} was lost with {error.allowed_failures + 1} workers, the last of them "
                f"{error.last_worker.address}: they were killed, crashed, or ran out of memory. Read their logs"
            ) from error
        cause = error.__cause__ or error  # Dask wraps what it cannot unpickle
        raise ClusterError(
            f"{name} failed on the cluster: {type(cause).__name__}: {first_line(cause)}. Scheduler and workers need "
            "the same embedonce and the same versions of Dask as this process"
        ) from error

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancel the tasks that wait; running ones end by themselves."""
        futures = [future for future, _ in self._futures.values()]
        if futures and self._client.status == "running":
            with contextlib.suppress(Exception):
                self._client.cancel(futures)
