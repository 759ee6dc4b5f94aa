"""What this machine has of all that an extraction needs, and what to do about what it lacks."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from ..cache import CacheLocation, display, write_atomically, writer_lock
from ..errors import EmbedonceError, LockedError, WeightsError, first_line
from .backbone import imagenet_path, imagenet_url, resolve_weights
from .engines import any_prepared, chosen_engine, make_prepared, store_folder, why_not_native
from .options import ComputeOptions
from .processors import available_processors

PASS, WARN, FAIL = "PASS", "WARN", "FAIL"

NEEDED = ("numpy", "scipy", "scikit-learn", "h5py", "simplejpeg", "pillow", "ai-edge-litert", "tensorflow", "keras")
OPTIONAL = {"distributed": "embedonce[cluster]", "faiss-cpu": "embedonce[large]"}
FAST = {"x86_64": ("AVX2", "FMA3"), "amd64": ("AVX2", "FMA3"), "aarch64": ("ASIMD",), "arm64": ("ASIMD",)}
"""What the engines' quick kernels need, by the processor's kind."""
SECONDS = 2.0
"""How long the engine is measured."""
_GB = 1e9
_REINSTALL = "pip install --force-reinstall ai-edge-litert"
_LEAST_MEMORY, _LEAST_DISK = 1.0, 1.0  # GB that an extraction of some thousand images is comfortable with


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes
    ----------
    name : str
    status : {"PASS", "WARN", "FAIL"}
        WARN: works, but slowly, not yet, or not everywhere. FAIL: something will not work.
    found : str
    remedy : str
        What to do; empty for PASS.
    """

    name: str
    status: str
    found: str
    remedy: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return it JSON-serialisable."""
        return asdict(self)


def doctor(
    folder: Path | str = ".", *, weights: str | Path = "imagenet", alpha: float = 1.0, image_size: int = 224
) -> Iterator[Check]:
    """Look at everything, one thing after the other; nothing stays behind.

    Parameters
    ----------
    folder : path-like
        Where caches are to be written.
    weights : str or path-like
        As :func:`embedonce.extract_features` takes them. Nothing is fetched.
    alpha : float
    image_size : int

    Yields
    ------
    Check
        As soon as it is known.
    """
    yield _python()
    yield _packages()
    yield _optional()
    yield _processor()
    yield _memory()
    yield _disk(Path(folder))
    yield _try("writing", lambda: _writing(Path(folder)), "choose another folder, on a disk of this machine")
    yield _weights(weights, alpha, image_size)
    yield _try("engine", lambda: _engine(alpha, image_size), _REINSTALL)


def _try(name: str, check: Callable[[], Check], remedy: str) -> Check:
    """Return what a check finds; one that raises has failed."""
    try:
        return check()
    except (EmbedonceError, OSError, ImportError, RuntimeError, ValueError) as error:
        return Check(name, FAIL, f"{type(error).__name__}: {first_line(error)}", remedy)


def _python() -> Check:
    return Check("Python", PASS, f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def _versions(names: Iterable[str]) -> dict[str, str]:
    found = {}
    for name in names:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _packages() -> Check:
    found = _versions(("embedonce", *NEEDED))
    shown = ", ".join(f"{name} {number}" for name, number in found.items())
    missing = [name for name in NEEDED if name not in found]
    if missing:
        return Check("packages", FAIL, f"{', '.join(missing)} missing; {shown}", f"pip install {' '.join(missing)}")
    return Check("packages", PASS, shown)


def _optional() -> Check:
    found = _versions(OPTIONAL)
    shown = [f"{name} {found[name]}" if name in found else f"no {name} ({extra})" for name, extra in OPTIONAL.items()]
    return Check("extras", PASS, ", ".join(shown))


def _processor_features() -> set[str]:
    build: Any = np.show_config(mode="dicts")
    simd = build.get("SIMD Extensions", {})
    return {*simd.get("baseline", ()), *simd.get("found", ())}


def _processor() -> Check:
    features = _processor_features()
    count = available_processors()
    shown = f"{count} processor{'s' if count != 1 else ''}"
    notable = sorted(name for name in features if name.startswith(("AVX", "ASIMD", "FMA", "NEON", "SVE", "X86_V")))
    found = f"{shown}, {', '.join(notable)}" if notable else shown
    lacking = [name for name in FAST.get(platform.machine().lower(), ()) if not _has(name, features)]
    if lacking:
        return Check(
            "processor", WARN, f"{found}; no {', '.join(lacking)}", "expect it to be slow; use a newer machine"
        )
    return Check("processor", PASS, found)


def _has(name: str, features: set[str]) -> bool:
    # NumPy 2.4 groups what processors of one level have: X86_V3 is AVX2, FMA3 and others, X86_V4 AVX512F too
    groups = {"AVX2": {"X86_V3", "X86_V4"}, "FMA3": {"X86_V3", "X86_V4"}, "AVX512F": {"X86_V4"}}
    return name in features or bool(features & groups.get(name, set()))


def _memory() -> Check:
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / _GB
    except (AttributeError, ValueError, OSError):  # not on Windows, where TensorFlow says itself what it lacks
        return Check("memory", PASS, "unknown on this system")
    found = f"{free:.1f} GB free"
    if free < _LEAST_MEMORY:
        remedy = "close other programs, or embed with --workers 1 and --threads"
        return Check("memory", WARN, f"{found}, less than {_LEAST_MEMORY:.0f}", remedy)
    return Check("memory", PASS, found)


def _disk(folder: Path) -> Check:
    shown = display(str(folder))
    try:
        free = shutil.disk_usage(folder).free / _GB
    except OSError as error:
        return Check("disk", FAIL, f"{shown}: {error.strerror}", "make the folder, or give another one")
    found = f"{free:.1f} GB free in {shown}: {int(free * _GB / 6000):,} images"  # 5,120 of features and 784 beside them
    if free < _LEAST_DISK:
        return Check("disk", WARN, found, "a new generation of a cache is written beside the old one: free some space")
    return Check("disk", PASS, found)


def _writing(folder: Path) -> Check:
    """Write, rename and lock in a folder of its own."""
    shown = display(str(folder))
    with tempfile.TemporaryDirectory(prefix=".embedonce-", dir=folder) as own:
        begin = time.perf_counter()
        write_atomically(Path(own) / "file", bytes(1_000_000))
        seconds = time.perf_counter() - begin
        place = CacheLocation.of(Path(own) / "doctor.h5")
        refused: list[bool] = []

        def another() -> None:
            try:
                with writer_lock(place):
                    refused.append(False)
            except LockedError:
                refused.append(True)

        with writer_lock(place):
            thread = threading.Thread(target=another)
            thread.start()
            thread.join()
    if refused != [True]:
        remedy = "never run two extractions into one cache here; better, choose a folder on a disk of this machine"
        return Check("writing", FAIL, f"{shown} does not lock files: two writers would not notice each other", remedy)
    return Check("writing", PASS, f"{shown} locks files, and takes a megabyte to the disk in {1000 * seconds:.0f} ms")


def _weights(weights: str | Path, alpha: float, image_size: int) -> Check:
    try:
        if str(weights) == "imagenet":
            path = imagenet_path(alpha, image_size)
            if not path.is_file():
                remedy = (
                    f"extract fetches them where there is a network; without one, put "
                    f"{imagenet_url(alpha, image_size)} there, or give --weights FILE"
                )
                return Check("weights", WARN, f"ImageNet's are not at {display(str(path))}", remedy)
        source = resolve_weights(weights, alpha, image_size)
    except WeightsError as error:
        return Check("weights", FAIL, first_line(error), "give --weights imagenet, FILE or random:SEED")
    where = f" at {display(str(source.path))}" if source.path and str(source.path) != source.label else ""
    return Check("weights", PASS, f"{source.label}{where}")


def _engine(alpha: float, image_size: int) -> Check:
    """Measure what ``--engine auto`` would take, on a backbone that was converted before."""
    name = chosen_engine(ComputeOptions(), "float32")
    about = f"MobileNetV2 (alpha {alpha:g}) at {image_size} pixels"
    if name == "keras":
        return Check("engine", WARN, "ai-edge-litert is not installed, and Keras is slow", _REINSTALL)
    prepared = any_prepared(alpha, image_size, name)
    if prepared is None:
        remedy = "the first embedonce extract prepares it, once"
        found = f"{name}; {about} is not in {display(str(store_folder()))} yet, so not measured"
        return Check("engine", WARN, found, remedy)
    engine = make_prepared(name, prepared, image_size)
    counts: list[int] = []

    def work() -> None:
        session = engine.session()
        session.slot(0)[:] = 127.0
        session.run(1)
        done, end = 0, time.perf_counter() + SECONDS
        while time.perf_counter() < end:
            session.slot(0)[:] = 127.0
            session.run(1)
            done += 1
        counts.append(done)

    threads = [threading.Thread(target=work) for _ in range(engine.default_workers())]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rate = sum(counts) / SECONDS
    if not rate:
        return Check("engine", FAIL, f"{name}; {about} gave no features", _REINSTALL)
    found = f"{name}, {about}: {rate:.0f} images/s in memory, 10,000 in {10_000 / rate:,.0f} s"
    features = _processor_features()
    if (reason := why_not_native()) and _has("AVX2", features) and not _has("AVX512F", features):
        remedy = "install gcc or clang, and embedonce again, for a faster engine"
        return Check("engine", WARN, f"{found}; native cannot run: {reason}", remedy)
    return Check("engine", PASS, found)
