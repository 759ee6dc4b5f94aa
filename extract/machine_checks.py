"""Checks of the machine: everything that an extraction needs, and advice on what is missing."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..cache import CacheLocation, display, temporary_folder, write_atomically, writer_lock
from ..errors import EmbedonceError, LockedError, ParameterError, WeightsError, check_path, describe, first_line
from .backbone import imagenet_path, imagenet_url, resolve_weights, weights_from
from .engines import (
    any_prepared,
    measured_speeds,
    possible_engines,
    preferred_engine,
    quickly_chosen_engine,
    store_folder,
    why_not_native,
)
from .options import ComputeOptions
from .processors import cpu_count

Status = Literal["PASS", "WARN", "FAIL"]
PASS: Status = "PASS"
WARN: Status = "WARN"
FAIL: Status = "FAIL"

NEEDED = ("numpy", "scipy", "scikit-learn", "h5py", "simplejpeg", "pillow", "ai-edge-litert", "tensorflow", "keras")
OPTIONAL = {"distributed": "embedonce[cluster]", "faiss-cpu": "embedonce[large]"}
FAST = {"x86_64": ("AVX2", "FMA3"), "amd64": ("AVX2", "FMA3"), "aarch64": ("ASIMD",), "arm64": ("ASIMD",)}
"""Features of a processor that the engines' fast kernels need, by architecture."""
SECONDS = 2.0
"""Duration of the engines' measurement."""
_GB = 1e9
_REINSTALL = "pip install --force-reinstall ai-edge-litert"
_MINIMUM_MEMORY, _MINIMUM_DISK = 1.0, 1.0  # GB for an extraction of some thousand images


@dataclass(frozen=True)
class Check:
    """Result of one check.

    Attributes
    ----------
    name : str
    status : {"PASS", "WARN", "FAIL"}
        WARN: works, but slowly, not yet, or not everywhere. FAIL: something will not work.
    finding : str
    remedy : str
        Advice; empty for PASS.
    """

    name: str
    status: Status
    finding: str
    remedy: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return all values, JSON-serialisable."""
        return asdict(self)


def doctor(
    folder: Path | str = ".",
    *,
    weights: str | Path = "imagenet",
    alpha: float = 1.0,
    image_size: int = 224,
    progress: Callable[[Check], None] | None = None,
) -> list[Check]:
    """Check this machine: packages, processor, memory, disk, locks, weights, and the speed of the engine.

    Takes some seconds, fetches nothing and leaves no file.

    Parameters
    ----------
    folder : path-like, default="."
        Folder for caches.
    weights : str or path-like, default="imagenet"
        Weights of the backbone; see `extract_features`.
    alpha : float, default=1.0
        Width multiplier of MobileNetV2.
    image_size : int, default=224
        Height and width of images in pixels.
    progress : callable, default=None
        Called with each `Check` when it is finished.

    Returns
    -------
    list of Check

    See Also
    --------
    verify : Check a cache.

    Examples
    --------
    >>> from embedonce import doctor
    >>> checks = doctor(weights="random:0")
    >>> [check.name for check in checks if check.status == "FAIL"]
    []
    >>> checks[0].name, checks[0].status
    ('Python', 'PASS')
    """
    folder = check_path("folder", "doctor", folder)
    if progress is not None and not callable(progress):
        raise ParameterError(f"parameter progress of doctor must be a function of a Check, got {describe(progress)}")
    steps: list[tuple[str, Callable[[], Check], str]] = [
        ("Python", _python, ""),
        ("packages", _packages, ""),
        ("extras", _optional, ""),
        ("processor", _processor, ""),
        ("memory", _memory, ""),
        ("disk", lambda: _disk(folder), ""),
        ("writing", lambda: _writing(folder), "choose another folder, on a disk of this machine"),
        ("weights", lambda: _weights(weights, alpha, image_size), ""),
        ("engine", lambda: _engine(alpha, image_size), _REINSTALL),
    ]
    checks = []
    for name, step, remedy in steps:
        try:
            check = step()
        except (EmbedonceError, OSError, ImportError, RuntimeError, ValueError) as error:
            check = Check(name, FAIL, f"{type(error).__name__}: {first_line(error)}", remedy)
        checks.append(check)
        if progress is not None:
            progress(check)
    return checks


def _python() -> Check:
    return Check("Python", PASS, f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def _versions(names: Iterable[str]) -> dict[str, str]:
    versions = {}
    for name in names:
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def _packages() -> Check:
    versions = _versions(("embedonce", *NEEDED))
    finding = ", ".join(f"{name} {number}" for name, number in versions.items())
    missing = [name for name in NEEDED if name not in versions]
    if missing:
        return Check("packages", FAIL, f"{', '.join(missing)} missing; {finding}", f"pip install {' '.join(missing)}")
    return Check("packages", PASS, finding)


def _optional() -> Check:
    versions = _versions(OPTIONAL)
    parts = [f"{name} {versions[name]}" if name in versions else f"no {name} ({OPTIONAL[name]})" for name in OPTIONAL]
    return Check("extras", PASS, ", ".join(parts))


def _processor_features() -> set[str]:
    build: Any = np.show_config(mode="dicts")
    simd = build.get("SIMD Extensions", {})
    return {*simd.get("baseline", ()), *simd.get("found", ())}


def _processor() -> Check:
    features, count = _processor_features(), cpu_count()
    notable = sorted(name for name in features if name.startswith(("AVX", "ASIMD", "FMA", "NEON", "SVE", "X86_V")))
    finding = ", ".join([f"{count} processor{'s' if count != 1 else ''}", *notable])
    missing = [name for name in FAST.get(platform.machine().lower(), ()) if not _has(name, features)]
    if missing:
        remedy = "expect it to be slow; use a newer machine"
        return Check("processor", WARN, f"{finding}; no {', '.join(missing)}", remedy)
    return Check("processor", PASS, finding)


def _has(name: str, features: set[str]) -> bool:
    # NumPy 2.4 groups features by level: X86_V3 is AVX2, FMA3 and others, X86_V4 AVX512F too
    groups = {"AVX2": {"X86_V3", "X86_V4"}, "FMA3": {"X86_V3", "X86_V4"}, "AVX512F": {"X86_V4"}}
    return name in features or bool(features & groups.get(name, set()))


def _memory() -> Check:
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / _GB
    except (AttributeError, ValueError, OSError):  # Windows
        return Check("memory", PASS, "unknown on this system")
    finding = f"{free:.1f} GB free"
    if free < _MINIMUM_MEMORY:
        remedy = "close other programs, or embed with --workers 1 and --threads"
        return Check("memory", WARN, f"{finding}, less than {_MINIMUM_MEMORY:.0f}", remedy)
    return Check("memory", PASS, finding)


def _disk(folder: Path) -> Check:
    name = display(str(folder))
    try:
        free = shutil.disk_usage(folder).free / _GB
    except OSError as error:
        return Check("disk", FAIL, f"{name}: {error.strerror}", "make the folder, or give another one")
    finding = f"{free:.1f} GB free in {name}: {int(free * _GB / 6000):,} images"  # features 5,120, signature 784 bytes
    if free < _MINIMUM_DISK:
        return Check("disk", WARN, finding, "free some space: an update writes a new cache before deleting the old one")
    return Check("disk", PASS, finding)


def _writing(folder: Path) -> Check:
    """Write, rename and lock in a temporary folder."""
    name = display(str(folder))
    with temporary_folder(folder, "embedonce-doctor") as temporary:
        begin = time.perf_counter()
        write_atomically(temporary / "file", bytes(1_000_000))
        seconds = time.perf_counter() - begin
        location = CacheLocation.of(temporary / "doctor.h5")
        refused: list[bool] = []

        def second_writer() -> None:
            try:
                with writer_lock(location):
                    refused.append(False)
            except LockedError:
                refused.append(True)

        with writer_lock(location):
            thread = threading.Thread(target=second_writer)
            thread.start()
            thread.join()
    if refused != [True]:
        remedy = "never run two extractions into one cache here; better, choose a folder on a disk of this machine"
        return Check("writing", FAIL, f"{name} does not lock files: two writers would not notice each other", remedy)
    return Check("writing", PASS, f"{name} locks files, and writes a megabyte to the disk in {1000 * seconds:.0f} ms")


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
        weights_from(source, alpha)
    except WeightsError as error:
        return Check("weights", FAIL, first_line(error), "give --weights imagenet, FILE or random:SEED")
    where = f" at {display(str(source.path))}" if source.path and str(source.path) != source.label else ""
    return Check("weights", PASS, f"{source.label}{where}")


def _engine(alpha: float, image_size: int) -> Check:
    """Measure native and LiteRT, and name the engine of ``--engine auto``."""
    name = quickly_chosen_engine(ComputeOptions(), "float32", alpha)
    preference = " (EMBEDONCE_ENGINE)" if preferred_engine() else ""
    if name == "keras":
        reason = "" if preference else "ai-edge-litert is not installed, and "
        return Check("engine", WARN, f"{name}{preference}; {reason}Keras is slow", "" if preference else _REINSTALL)
    speeds = measured_speeds(possible_engines(), alpha, image_size, SECONDS)
    name = name or max(speeds, key=speeds.__getitem__)
    if name not in speeds:
        return Check("engine", FAIL, f"{name}{preference} cannot run on this machine", _REINSTALL)
    rates = ", ".join(f"{engine} {speed:.0f}" for engine, speed in speeds.items())
    backbone = f"MobileNetV2 (alpha {alpha:g}) at {image_size} pixels"
    finding = f"{name}{preference}, {backbone}: {rates} images/s in memory, 10,000 in {10_000 / speeds[name]:,.0f} s"
    if (reason := why_not_native()) and not preference and _has("AVX2", _processor_features()):
        remedy = "install gcc or clang, and embedonce again, for a faster engine"
        return Check("engine", WARN, f"{finding}; native cannot run: {reason}", remedy)
    if any_prepared(alpha, image_size, name) is None:
        finding = f"{finding}; not in {display(str(store_folder()))} yet"
        return Check("engine", WARN, finding, "the first embedonce extract prepares it, once")
    return Check("engine", PASS, finding)
