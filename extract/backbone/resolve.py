"""The source of the backbone's weights: Keras's ImageNet weights, a file, or random numbers for trials."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from ...cache import FeatureCache, display, make_folder, open_regular, write_atomically
from ...errors import CacheError, OutputError, ParameterError, WeightsError, describe
from .file_kinds import kind_of_file, kind_of_folder

IMAGENET_ALPHAS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
IMAGENET_SIZES = (96, 128, 160, 192, 224)
LARGEST_FILE = 1 << 30
"""Bytes of a weights file; those of the widest network take 816 MiB."""
_URL = "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/"


@dataclass(frozen=True)
class WeightsSource:
    """Source of the backbone's weights: the displayed name, and a file or the seed of random weights."""

    label: str
    path: Path | None
    seed: int | None
    identity: str  # the file's SHA-256, or random:SEED


def resolve_weights(weights: str | Path, alpha: float, image_size: int, *, timeout: float = 30.0) -> WeightsSource:
    """Find the weights that a user named, and download those of ImageNet if they are missing."""
    if not isinstance(weights, str | os.PathLike):
        raise ParameterError(f"parameter weights must be imagenet, random:SEED or a file, got {describe(weights)}")
    name = str(weights)
    if name == "imagenet":
        path = imagenet_path(alpha, image_size)
        if not os.path.isfile(path):
            _download(path, timeout)
        return WeightsSource("imagenet", path, None, _file_sha256(path))
    if name.partition(":")[0] == "random":
        seed = name.partition(":")[2]
        if not (seed.isascii() and seed.isdigit() and int(seed) < 2**32):
            raise WeightsError(
                f"random weights must be given as random:SEED with a seed from 0 to {2**32 - 1}, got {name!r}"
            )
        return WeightsSource(f"random:{int(seed)}", None, int(seed), f"random:{int(seed)}")
    path = Path(weights)
    if os.path.isfile(path) or os.path.isdir(path):
        _require_no_cache(path)
    if not os.path.isfile(path):
        what, advice = "does not exist", "Check the path"
        if os.path.isdir(path):
            what, advice = kind_of_folder(path)
            what = f"is {what}"
        elif os.path.islink(path):
            what = "is a broken link"
        elif os.path.exists(path):
            what = "is not a regular file"
        raise WeightsError(
            f"weights must be imagenet, random:SEED or a file, got {display(name)!r}, which {what}. {advice}"
        )
    return WeightsSource(display(path.name), path, None, _file_sha256(path))


def imagenet_path(alpha: float, image_size: int) -> Path:
    """Return the path of Keras's ImageNet weights without top."""
    if alpha not in IMAGENET_ALPHAS:
        allowed = ", ".join(map(str, IMAGENET_ALPHAS))
        raise ParameterError(
            f"parameter alpha of extract must be one of {allowed} for the weights imagenet, got {alpha}. Give a "
            "weights file with --weights FILE"
        )
    rows = image_size if image_size in IMAGENET_SIZES else 224  # as Keras does
    try:
        home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    except RuntimeError as error:  # no HOME, and a user without an entry, as in some containers
        raise WeightsError(
            "there is no home folder with Keras's weights. Set HOME or KERAS_HOME, or give --weights FILE"
        ) from error
    return home / "models" / f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{alpha}_{rows}_no_top.h5"


def imagenet_url(alpha: float, image_size: int) -> str:
    """Return the address of Keras's ImageNet weights."""
    return _URL + imagenet_path(alpha, image_size).name


def _download(path: Path, timeout: float) -> None:
    import http.client  # only here: they take 35 ms
    import urllib.request

    url = _URL + path.name
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            data = answer.read()
    except (OSError, ValueError, http.client.HTTPException) as error:  # the last when the connection breaks
        reason = getattr(error, "reason", None) or error
        raise WeightsError(
            f"the ImageNet weights are not on this machine and cannot be fetched ({reason}). "
            f"Fetch {url} elsewhere and put it at {display(str(path))}, or give --weights FILE"
        ) from error
    if not data.startswith(b"\x89HDF"):
        what, _ = kind_of_file(path, data[:512], len(data))
        raise WeightsError(
            f"the answer of {url} is {what}, not the ImageNet weights. Fetch the file elsewhere and put it at "
            f"{display(str(path))}, or give --weights FILE"
        )
    try:
        write_atomically(make_folder(path.parent, "Keras's weights") / path.name, data)
    except OutputError as error:
        raise WeightsError(f"the ImageNet weights cannot be stored: {error.strerror}") from error


def _require_no_cache(path: Path) -> None:
    try:
        FeatureCache.open(path).close()
    except CacheError:
        return
    raise WeightsError(
        f"weights must be those of a MobileNetV2, got {display(str(path))}, which is a feature cache. "
        "embedonce info names the weights that it was made with"
    )


def read_file(path: Path) -> bytes:
    """Read a weights file; WeightsError if it cannot be read, or has more bytes than any of them."""
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            data = file.readall() if size <= LARGEST_FILE else b""
    except OSError as error:
        raise WeightsError(f"cannot read the weights file {display(str(path))}: {error.strerror}") from error
    if size > LARGEST_FILE:
        raise WeightsError(
            f"weights must be those of a MobileNetV2, got {display(str(path))}, which has {size:,} bytes, more than "
            f"{LARGEST_FILE:,}. Save the weights without the state of the optimizer"
        )
    return data


def _file_sha256(path: Path) -> str:
    return hashlib.sha256(read_file(path)).hexdigest()
