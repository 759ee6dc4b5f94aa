"""Read HDF5 files of other people in a child process: the HDF5 library can crash, never end, or fill the memory."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .errors import EmbedonceError, first_line

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_SECONDS = 30  # of the whole child process, by the clock
_PROCESSOR_SECONDS = 15
_MEMORY = 512 << 20  # beside the libraries, the file and its arrays
_LARGEST = 1 << 30
"""Bytes of all arrays; those of the widest MobileNetV2 take 816 MiB."""
_LARGEST_RATIO = 10  # of these to the file; arrays of numbers shrink less
_SMALL = 64 << 20  # never too large
_MOST_OBJECTS = 50_000
_DEEPEST = 40
_FILTERS = (1, 2, 3, 4, 5, 6, 32000)  # of HDF5 and h5py themselves: an unknown number would load a plugin
_OPTIMIZER = ("optimizer", "optimizer_weights")
_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1])['path']; from {} import serve; serve()"


class Hdf5Error(Exception):
    """An HDF5 file cannot be read; the message is the predicate of a sentence about the file."""


class Hdf5Content(NamedTuple):
    """Attributes that are text by the path of their group, and arrays by their path; the root's path is empty."""

    attributes: dict[str, dict[str, str | list[str]]]
    arrays: dict[str, npt.NDArray[Any]]


def is_hdf5(data: bytes) -> bool:
    """Return whether a file begins as HDF5 does: at its first byte, or at 512, 1024 and so on."""
    places = [0, *(512 << power for power in range(32))]
    return any(data.startswith(SIGNATURE, place) for place in places if place < len(data))


def arrays_limit(size: int) -> int:
    """Return how many bytes the arrays of a file of this size may have."""
    return min(_LARGEST, _LARGEST_RATIO * size + _SMALL)


def read_hdf5(data: bytes, *, arrays: bool = True) -> Hdf5Content:
    """Return the content of a file without the optimizer's state, without arrays if these are only to be checked.

    Hdf5Error if the file is damaged, leads out of itself, or needs more time or memory than a file of its size can.
    """
    if getattr(sys, "frozen", False) or not sys.executable:
        raise _not_started("sys.executable is not a Python interpreter")
    limit = arrays_limit(len(data))
    request = {
        "path": sys.path,
        "arrays": arrays,
        "limit": limit,
        "memory": _MEMORY + 2 * len(data) + 2 * limit,
        "seconds": _PROCESSOR_SECONDS,
    }
    threads = {f"{library}_NUM_THREADS": "1" for library in ("OPENBLAS", "OMP", "MKL")}
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _START.format(__name__), json.dumps(request)],
            input=data,
            capture_output=True,
            timeout=_SECONDS,
            env=os.environ | threads,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Hdf5Error(f"takes more than {_SECONDS} seconds to read") from error
    except OSError as error:
        raise _not_started(first_line(error)) from error
    if done.returncode == 1:  # an exception of Python before the file was read
        raise _not_started((done.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1])
    if done.returncode:
        raise Hdf5Error(_failure(done.returncode))
    return _decode(done.stdout)


def _not_started(reason: str) -> EmbedonceError:
    return EmbedonceError(
        f"HDF5 files are read in a second Python process, which cannot be started: {reason}. Run embedonce in a Python "
        "with h5py"
    )


def _failure(status: int) -> str:
    """Say why the child process did not end as it should."""
    if status == -getattr(signal, "SIGXCPU", 0):
        return f"takes more than {_PROCESSOR_SECONDS} seconds to read"
    if status == -getattr(signal, "SIGKILL", 0):
        return "cannot be read: the process that reads it was killed, perhaps for lack of memory"
    return "is damaged (the HDF5 library crashes over it)"


def _decode(answer: bytes) -> Hdf5Content:
    """Decode an answer: the arrays, a description, and the length of that."""
    end = len(answer) - 8
    start = end - int.from_bytes(answer[end:], "little")
    description = json.loads(answer[start:end])
    if "error" in description:
        raise Hdf5Error(description["error"])
    arrays = {}
    for path, dtype, shape in reversed(description["arrays"]):
        count = math.prod(shape)
        start -= count * np.dtype(dtype).itemsize
        arrays[path] = np.frombuffer(answer, dtype, count, start).reshape(shape)
    return Hdf5Content(description["attributes"], dict(reversed(arrays.items())))


def serve() -> None:
    """Read a file from standard input, in the child process, and answer on standard output."""
    request = json.loads(sys.argv[1])
    _set_limits(request["memory"], request["seconds"])
    output = sys.stdout.buffer
    try:
        description: dict[str, Any] = _Reader(sys.stdin.buffer.read(), request["limit"]).read(
            output.write if request["arrays"] else None
        )
    except Hdf5Error as error:
        description = {"error": str(error)}
    except Exception as error:  # h5py raises any error over a damaged file
        reason = first_line(error)[:200]
        what = "is truncated" if "truncated" in reason else f"is damaged ({reason})"
        if isinstance(error, MemoryError) or "memory allocation" in reason:
            what = f"needs more than {request['memory'] >> 20:,} MiB of memory to read"
        description = {"error": what}
    text = json.dumps(description).encode("ascii")
    output.write(text + len(text).to_bytes(8, "little"))
    output.flush()
    os._exit(0)  # closing a damaged file can crash, too


def _set_limits(memory: int, seconds: int) -> None:
    """Limit this process to so many more bytes, and to its time, where the system can do that."""
    try:
        import resource
    except ImportError:  # Windows
        return
    limits = {resource.RLIMIT_CPU: (seconds, seconds + 5), resource.RLIMIT_CORE: (0, 0)}
    with contextlib.suppress(OSError), open("/proc/self/statm") as file:  # Linux
        memory += int(file.read().split()[0]) * resource.getpagesize()
        limits[resource.RLIMIT_AS] = (memory, memory)
    for name, limit in limits.items():
        with contextlib.suppress(OSError, ValueError):  # there is a lower limit
            resource.setrlimit(name, limit)


class _Reader:
    """Walks over all objects of a file and checks them, before it reads any array."""

    def __init__(self, data: bytes, limit: int) -> None:
        import h5py  # takes 30 ms, and only the child process needs it

        self._h5py = h5py
        self._data = data
        self._limit = limit
        self._claimed = self._objects = 0
        self._attributes: dict[str, dict[str, str | list[str]]] = {}
        self._groups: set[int] = set()
        self._places: set[tuple[int, int]] = set()  # where arrays begin and end, and where objects begin

    def read(self, write: Any = None) -> dict[str, Any]:
        """Read all arrays, write their bytes, and return what is needed to decode them."""
        arrays = []
        with self._h5py.File(io.BytesIO(self._data), "r") as file:
            datasets = list(self._walk(file, "", 0))
            places = sorted(self._places)
            if any(end > start for (_, end), (start, _) in itertools.pairwise(places)):
                raise Hdf5Error("is damaged (arrays overlap)")
            for path, dataset in datasets:
                value = np.asarray(dataset[()])
                if write is not None and not dataset.dtype.hasobject:
                    write(value.tobytes())
                    arrays.append((path, value.dtype.str, value.shape))
        return {"attributes": self._attributes, "arrays": arrays}

    def _walk(self, group: Any, prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
        """Yield the datasets below a group with their paths."""
        address = self._h5py.h5o.get_info(group.id).addr
        if address in self._groups or depth > _DEEPEST:
            raise Hdf5Error(f"has groups without end, or one under two names ({_shown(prefix)})")
        self._groups.add(address)
        self._attributes[prefix[:-1]] = dict(self._text(group, prefix))
        for name in group:
            if not isinstance(name, str):
                raise Hdf5Error(f"is damaged (the name {name!a} is not text)")
            path = prefix + name
            self._count()
            if not isinstance(group.get(name, getlink=True), self._h5py.HardLink):
                raise Hdf5Error(f"has a link to another place ({_shown(path)}), which is not followed")
            if path in _OPTIMIZER:
                continue
            item = group[name]
            if isinstance(item, self._h5py.Group):
                yield from self._walk(item, f"{path}/", depth + 1)
            elif isinstance(item, self._h5py.Dataset):
                list(self._text(item, f"{path}/"))
                self._check(item, path)
                if item.shape is not None:
                    yield path, item

    def _count(self) -> None:
        self._objects += 1
        if self._objects > _MOST_OBJECTS:
            raise Hdf5Error(f"has more than {_MOST_OBJECTS:,} objects and attributes")

    def _check(self, dataset: Any, path: str) -> None:
        """Check what a dataset says of itself."""
        creation = dataset.id.get_create_plist()
        if creation.get_external_count() or dataset.is_virtual:
            raise Hdf5Error(f"has an array whose values are in another file ({_shown(path)}), which is not read")
        if any(creation.get_filter(index)[0] not in _FILTERS for index in range(creation.get_nfilters())):
            raise Hdf5Error(f"has an array that is compressed in an unknown way ({_shown(path)})")
        kind = dataset.id.get_type()
        if kind.get_class() in (self._h5py.h5t.FLOAT, self._h5py.h5t.INTEGER) and not kind.equal(
            self._h5py.h5t.py_create(kind.dtype)
        ):
            raise Hdf5Error(f"has an array of numbers that NumPy does not know ({_shown(path)})")
        self._claim(kind, dataset.shape, path)
        self._claim(kind, dataset.chunks, path, once=True)
        header = self._h5py.h5o.get_info(dataset.id).addr
        self._places.add((header, header + 1))
        if (start := dataset.id.get_offset()) is not None:
            start -= dataset.file.userblock_size
            self._places.add((start, start + dataset.id.get_storage_size()))

    def _text(self, item: Any, prefix: str) -> Iterator[tuple[str, str | list[str]]]:
        """Read the attributes of an object, and yield those that are text."""
        for name in item.attrs:
            self._count()
            attribute = item.attrs.get_id(name)
            self._claim(attribute.get_type(), attribute.shape, prefix + name)
            value = item.attrs[name]
            if isinstance(value, bytes | str):
                yield name, _decoded(value)
            elif isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "SUO":
                yield name, [_decoded(text) for text in value]

    def _claim(self, kind: Any, shape: tuple[int, ...] | None, path: str, once: bool = False) -> None:
        """Refuse references, and more bytes than a file of this size holds; `once`: they are there one at a time."""
        if kind.detect_class(self._h5py.h5t.REFERENCE):
            raise Hdf5Error(f"has a reference ({_shown(path)}), which is not followed")
        claimed = 0 if shape is None else math.prod(shape) * kind.get_size()
        self._claimed += 0 if once else claimed
        if max(claimed, self._claimed) > self._limit:
            raise Hdf5Error(
                f"claims arrays of {max(claimed, self._claimed):,} bytes, too many for a file of {len(self._data):,}"
            )


def _decoded(text: Any) -> str:
    return text.decode() if isinstance(text, bytes) else str(text)


def _shown(path: str) -> str:
    return ascii(path if len(path) <= 80 else f"{path[:80]}…")
