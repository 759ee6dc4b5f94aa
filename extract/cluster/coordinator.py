"""Extraction on a Dask cluster: the coordinating process, which submits slices, checks results and commits them.

It holds the writer's lock. Workers write segments into the folder of unfinished work, on the shared file system, under
names of this run. Each finished segment is renamed to a name that no worker has, checked, and only then counted. So a
worker that Dask considers lost, but that still runs, cannot change rows that were counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import queue
import re
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from ...cache import PartialRun, Shard, Table, display, write_atomically
from ...errors import CacheError, ClusterError, ImageError, first_line
from ..embed import SEGMENT_ROWS, EmbedResult, read_image
from ..plan import Inventory
from ..progress import Progress
from ..scan import ImageFile
from .worker import PATIENCE, Job, SliceResult, StoredDigests, embed_slice

SLICE_ROWS = 512  # some seconds of one thread: small enough to balance, large enough for a segment
CONNECT_SECONDS = 6.0
WORKER_SECONDS = 6.0
"""Time to wait for the first worker; an adaptive cluster has none before a task is submitted."""
_AHEAD = 4  # slices per thread that wait at the scheduler, which must not hold millions of paths
_MINIMUM_AHEAD = 64  # for workers that join later
_POLL_SECONDS = 1.0
_AGAIN = "Run the same command again"
_ADDRESS = re.compile(r"((tcp|tls|ucx|ws|wss)://)?[^/\s]+:[0-9]+")


@contextlib.contextmanager
def connected(dask: Any, what: str = "extract") -> Iterator[Any]:
    """Connect to a Dask cluster and yield a client, which stays open if it is the user's; yield None for None."""
    if dask is None:
        yield None
        return
    try:
        import distributed
    except ImportError as error:
        raise ClusterError(
            f"parameter dask of {what} needs Dask ({first_line(error)}). Run: pip install 'embedonce[cluster]'"
        ) from error
    if isinstance(dask, distributed.Client):
        if dask.asynchronous:
            raise ClusterError(
                f"parameter dask of {what} must be a synchronous distributed.Client, got an asynchronous"
            )
        yield dask
        return
    address = _address(os.fspath(dask)) if isinstance(dask, (str, os.PathLike)) else ""
    if not _ADDRESS.fullmatch(address):
        raise ClusterError(
            f"parameter dask of {what} must be a scheduler's address, such as tcp://host:8786, the path of a scheduler "
            f"file that ends in .json, or a distributed.Client, got {dask!r}"
        )
    with _quiet_dask():
        try:
            with ThreadPoolExecutor(1) as pool:  # a notebook has an event loop in this thread
                pool.submit(asyncio.run, _require_scheduler(address)).result()
            client = distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except Exception as error:  # what answers can be of any kind, and so the error
            known = isinstance(error, (OSError, ImportError)) and not isinstance(error, TimeoutError)
            reason = first_line(error) if known else "what answers there is not a Dask scheduler"
            raise ClusterError(
                f"cannot reach the Dask scheduler {address} ({reason}). Start one with: dask scheduler"
            ) from error
        try:
            count_threads(client, WORKER_SECONDS)
            yield client
        finally:
            with contextlib.suppress(Exception):  # the scheduler may be lost
                client.close(timeout=CONNECT_SECONDS)


async def _require_scheduler(address: str) -> None:
    """Ask who answers at an address, since a client of Dask waits without end for a server of another kind."""
    from distributed.core import connect, send_recv
    from distributed.security import Security

    async def ask() -> bool:
        comm = await connect(address, timeout=CONNECT_SECONDS, **Security().get_connection_args("client"))
        try:
            return "workers" in await send_recv(comm, op="identity")
        finally:
            comm.abort()

    if not await asyncio.wait_for(ask(), CONNECT_SECONDS):
        raise TypeError("a worker")


def count_threads(client: Any, seconds: float) -> int:
    """Return the number of threads of a cluster; wait for the first worker."""
    try:
        threads: int = sum(client.nthreads().values())
        if not threads:
            client.submit(os.getpid, pure=False).result(timeout=seconds)
            threads = sum(client.nthreads().values())
    except Exception as error:  # Dask raises many kinds of errors
        raise ClusterError(
            f"the Dask cluster has no worker ({type(error).__name__}: {first_line(error)}). Start one with: dask worker"
        ) from error
    return max(1, threads)


def _address(name: str) -> str:
    if not name.endswith(".json"):
        return name
    try:
        address = json.loads(Path(name).read_text(encoding="utf-8"))["address"]
    except OSError as error:
        raise ClusterError(
            f"cannot read the scheduler file {display(name)}: {error.strerror}. "
            "Make one with: dask scheduler --scheduler-file FILE.json"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ClusterError(f"{display(name)} is not a scheduler file: it has no address") from error
    return str(address)


@contextlib.contextmanager
def _quiet_dask() -> Iterator[None]:
    """Hide Dask's log of lost connections; they become a ClusterError."""
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client", "distributed.core")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def embed_on_cluster(
    client: Any,
    job: Job,
    images: list[ImageFile],
    inventory: Inventory,
    partial: PartialRun,
    commit: Callable[[list[EmbedResult]], None],
    finished: Callable[[SliceResult], None],
    progress: Progress,
) -> None:
    """Embed images, in scan order, on a cluster, and add the rows of every segment to the inventory."""
    # commit gets images of stored content, finished the result of each slice whose segment is committed
    run = _Coordinator(client, job, inventory, partial, progress)
    copies: list[EmbedResult] = []
    try:
        with contextlib.closing(run.results(images)) as results:
            for part, result in results:
                copies += run.take(part, result)
                finished(result)
                progress.advance(len(part))
                if len(copies) >= SEGMENT_ROWS:
                    ready, copies = copies, []
                    commit(ready)
    finally:
        if copies:
            commit(copies)


class _Coordinator:
    """State of one run in the coordinating process."""

    def __init__(self, client: Any, job: Job, inventory: Inventory, partial: PartialRun, progress: Progress) -> None:
        self._client = client
        self._job = job
        self._inventory = inventory
        self._partial = partial
        self._progress = progress
        self._alone = False

    def results(self, images: list[ImageFile]) -> Generator[tuple[list[ImageFile], SliceResult], None, None]:
        """Submit the slices, a limited number at once, and yield each with its result."""
        slices = (images[start : start + SLICE_ROWS] for start in range(0, len(images), SLICE_ROWS))
        waiting: dict[str, tuple[Any, list[ImageFile]]] = {}
        finished: queue.SimpleQueue[Any] = queue.SimpleQueue()
        with self._stored_digests() as job, self._cancelling(waiting):
            while True:
                for part in islice(slices, max(0, self._ahead() - len(waiting))):
                    segment = self._partial.reserve()
                    key = f"embedonce-{segment.name}"  # unique to this run
                    future = self._client.submit(embed_slice, job, part, segment, key=key, pure=False)
                    waiting[key] = future, part
                    future.add_done_callback(finished.put)
                if not waiting:
                    return
                future = self._next(finished)
                part = waiting[future.key][1]
                yield part, self._result(future, part)
                del waiting[future.key]

    def take(self, part: list[ImageFile], result: SliceResult) -> list[EmbedResult]:
        """Rename and check a finished segment, and return the slice's images of stored content."""
        paths = [image.path for image, _ in result.copies]
        if result.segment is not None:
            path = self._claim(result)
            table = self._checked(path, result.worker)
            paths += table.files.paths + table.rejects.paths
        if sorted(paths) != sorted(image.path for image in part):
            raise ClusterError(f"worker {result.worker} returned other images than it was given. {_AGAIN}")
        if result.segment is not None:
            self._inventory.add(path, table)
        return [
            EmbedResult(image, digest, copy_of=self._inventory.by_digest[digest]) for image, digest in result.copies
        ]

    def _checked(self, path: Path, worker: str) -> Table:
        """Read and check a whole segment, and return its table."""
        try:
            shard = Shard.open(path)
            try:
                intact = not len(shard.damaged_rows()) and shard.table.fingerprint == self._job.fingerprint
            finally:
                shard.close()
        except CacheError as error:
            raise ClusterError(f"worker {worker} has written a segment that is damaged: {error}") from error
        if not intact:
            raise ClusterError(f"worker {worker} has written a segment that is damaged: {display(str(path))}. {_AGAIN}")
        rejects = zip(shard.table.rejects.paths, shard.table.rejects.hashes, shard.table.reasons, strict=True)
        for name, digest, reason in rejects:
            if not digest.any() and reason.startswith("cannot be read"):
                self._require_unreadable_here(name, reason, worker)
        return shard.table

    def _claim(self, result: SliceResult) -> Path:
        assert result.segment is not None
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return self._partial.claim(result.segment)
            except FileNotFoundError as error:
                if time.monotonic() > end:
                    folder = display(str(result.segment.parent))
                    raise ClusterError(
                        f"worker {result.worker} has written {result.segment.name} to {folder}, but this machine does "
                        "not find it there. The folder of the cache must be on a file system that all workers share"
                    ) from error
            time.sleep(0.1)

    def _require_unreadable_here(self, path: bytes, reason: str, worker: str) -> None:
        """Raise ClusterError for a reject that this machine can read: the folder may not be mounted on the worker's."""
        try:
            read_image(self._job.root, ImageFile(path, 0, 0))
        except ImageError:
            return
        raise ClusterError(
            f"worker {worker} says of {display(path)} that it {reason}, but this machine can read it. Make the image "
            f"folder {display(str(self._job.root))} readable there. {_AGAIN}"
        )

    def _next(self, finished: queue.SimpleQueue[Any]) -> Any:
        while True:
            try:
                return finished.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                if self._client.status in ("closing", "closed"):
                    raise self._lost() from None

    def _result(self, future: Any, part: list[ImageFile]) -> SliceResult:
        from distributed import KilledWorker

        if future.status == "cancelled":
            raise self._lost()
        error = future.exception()
        if error is None:
            result: SliceResult = future.result()
            return result
        if isinstance(error, ClusterError):
            raise error
        images = f"the slice from {display(part[0].path)} to {display(part[-1].path)}"
        if isinstance(error, KilledWorker):
            raise ClusterError(
                f"{images} was lost with {error.allowed_failures + 1} workers, the last of them "
                f"{error.last_worker.address}: they were killed, crashed, or ran out of memory. Committed work is "
                f"kept. Look at their logs. {_AGAIN}"
            ) from error
        raise ClusterError(
            f"{images} failed on the cluster: {type(error).__name__}: {first_line(error)}. Scheduler and workers need "
            "the same embedonce and the same versions of Dask as this process. Committed work is kept"
        ) from error

    def _lost(self) -> ClusterError:
        return ClusterError(f"the Dask scheduler was lost, or has cancelled the run. Committed work is kept. {_AGAIN}")

    def _ahead(self) -> int:
        """Return the maximum number of slices that wait or run at the cluster."""
        try:
            threads: int = sum(self._client.nthreads().values())
        except Exception as error:  # Dask raises many types when the scheduler is lost
            raise self._lost() from error
        if not threads and not self._alone:
            self._progress.say("the Dask cluster has no worker; waiting for one")
        self._alone = not threads
        return max(_MINIMUM_AHEAD, _AHEAD * threads)

    @contextlib.contextmanager
    def _stored_digests(self) -> Iterator[Job]:
        """Write the digests of stored images to a file for the workers; yield the job with its path."""
        # data that Dask scatters is lost with its workers; the next run removes this file if this run is killed
        stored = self._inventory.by_digest
        if not stored:
            yield self._job
            return
        path = self._partial.temporary("known-digests")
        write_atomically(path, StoredDigests.pack(list(stored)))
        try:
            yield replace(self._job, digests=path)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(path)

    @contextlib.contextmanager
    def _cancelling(self, waiting: dict[str, tuple[Any, list[ImageFile]]]) -> Iterator[None]:
        """Cancel waiting slices when the run ends; running ones finish and stay segments."""
        try:
            yield
        finally:
            if waiting and self._client.status == "running":
                with contextlib.suppress(Exception):
                    self._client.cancel([future for future, _ in waiting.values()])
