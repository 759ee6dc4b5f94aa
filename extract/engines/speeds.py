"""Speeds of native and LiteRT on this processor, measured at first use and remembered: ``auto`` is the faster one."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ...cache import make_folder
from ...errors import EngineError, OutputError
from ..backbone import random_weights
from ..processors import cpu_count, processor_model
from .fold import Folded, fold
from .litert import Interpreter
from .native import NativeSession, chosen_lanes, why_not_native
from .native_plan import make_program
from .plain_litert import plain_model
from .prepared_models import read_metadata, store_folder, write_metadata
from .protocol import Session

SECONDS = 1.0
"""Duration of a measurement, divided among the engines."""
_SIZE = 224  # image size of the measurement that is remembered
_TURNS = 2  # of each engine: the speed of a machine varies


def measured_speeds(engines: Iterable[str], alpha: float, image_size: int, seconds: float) -> dict[str, float]:
    """Return images/s of those of ``native`` and ``litert`` that run, in memory, one session per processor.

    Raises EngineError if none runs.
    """
    folded = fold(random_weights(0, alpha))  # no weights are faster than others
    sessions: dict[str, list[Session]] = {}
    failure = EngineError("the engines native and litert cannot run on this machine")
    for name in engines:
        try:
            make = _session_maker(name, folded, image_size)
            sessions[name] = [make() for _ in range(cpu_count())]
        except EngineError as error:
            failure = error
    if not sessions:
        raise failure
    speeds = dict.fromkeys(sessions, 0.0)
    for _ in range(_TURNS):
        for name in sessions:
            speeds[name] = max(speeds[name], _images_per_second(sessions[name], seconds / _TURNS / len(sessions)))
    return speeds


def _session_maker(name: str, folded: Folded, image_size: int) -> Callable[[], Session]:
    if name == "native":
        program = make_program(folded, image_size, chosen_lanes())
        return lambda: NativeSession(program)
    model = plain_model(folded, image_size)
    return lambda: Interpreter(model)


def _images_per_second(sessions: list[Session], seconds: float) -> float:
    counts: list[float] = []

    def work(session: Session) -> None:
        _embed(session)  # the first image is slower
        begin, count = time.perf_counter(), 0
        while not count or time.perf_counter() - begin < seconds:
            _embed(session)
            count += 1
        counts.append(count / (time.perf_counter() - begin))

    threads = [threading.Thread(target=work, args=(session,)) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts)


def _embed(session: Session) -> None:
    session.slot(0)[:] = 127.0
    session.run(1)


def possible_engines() -> list[str]:
    """Return which of native and LiteRT can run on this machine."""
    engines = [] if why_not_native() else ["native"]
    return engines + ["litert"] * all(find_spec(package) for package in ("ai_edge_litert", "flatbuffers"))


def remembered_engine(alpha: float) -> str | None:
    """Return the fastest engine if this processor was measured, or there is nothing to measure; None otherwise."""
    engines = possible_engines()
    if len(engines) == 1:
        return engines[0]
    return _fastest(_stored(alpha))


@lru_cache(maxsize=16)
def fastest_engine(alpha: float) -> str:
    """Return the faster engine of native and LiteRT on this processor; measure it at first use.

    Without a folder to remember it in, it is native, since every run would wait for the measurement.
    """
    if (name := remembered_engine(alpha)) is not None:
        return name
    try:
        if not os.access(make_folder(store_folder(), "converted models"), os.W_OK):
            return "native"
        speeds = measured_speeds(possible_engines(), alpha, _SIZE, SECONDS)
    except (OutputError, EngineError):
        return "native"
    write_metadata(_path(alpha), {"measured": _key(alpha), "images_per_second": speeds})
    return _fastest(speeds) or "native"


def _fastest(speeds: dict[str, float]) -> str | None:
    return max(speeds, key=speeds.__getitem__) if speeds else None


def _key(alpha: float) -> dict[str, Any]:
    versions = {name: _version(name) for name in ("embedonce", "ai-edge-litert")}
    processor = {"processor": processor_model(), "processors": cpu_count(), "lanes": chosen_lanes()}
    return {**processor, "alpha": float(alpha), "image_size": _SIZE, "versions": versions}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _path(alpha: float) -> Path:
    text = json.dumps(_key(alpha), sort_keys=True)
    return store_folder() / f"speeds-{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"


def _stored(alpha: float) -> dict[str, float]:
    """Return the remembered images/s; an empty dict if there are none, or they are damaged."""
    speeds = read_metadata(_path(alpha)).get("images_per_second")
    if not isinstance(speeds, dict) or not set(speeds) <= set(possible_engines()):
        return {}
    return speeds if all(isinstance(speed, float) for speed in speeds.values()) else {}
