"""What a file or folder is, so that an error about a wrong one can say so."""

from __future__ import annotations

import os
from pathlib import Path

from .files import open_regular
from .format import FORMAT

_START = 1 << 16  # bytes, among which the format of a cache is
_MODELS = (".npz", ".keras", ".skops", ".joblib")
TABLE, WORKBOOK = "a table", "a workbook of a spreadsheet"
_SUFFIXES = (
    (_MODELS, "a model file"),
    ((".csv", ".tsv", ".parquet"), TABLE),
    ((".json",), "a JSON file"),
    ((".toml",), "a configuration file"),
    ((".zip", ".tar", ".tgz", ".gz", ".7z", ".rar"), "an archive"),
    ((".xlsx", ".ods", ".xls"), WORKBOOK),
)
_IMAGES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP")
OTHER_HDF5 = "an HDF5 file such as one of weights"
_STARTS = (
    (b"{", "a JSON file"),
    (b"version https://git-lfs", "a pointer of Git LFS and not the file itself"),
    (b"/annex/objects/", "a pointer of git-annex and not the file itself"),
    (b"<!doctype html", "a web page"),
    (b"<html", "a web page"),
)


def kind_of_path(path: Path | str) -> str:
    """Return what a file or folder is, such as ``a model file``; empty if that is unknown or there is none."""
    path = Path(path)
    if os.path.isdir(path):
        names = set(os.listdir(path)) if os.access(path, os.R_OK) else set()
        if "manifest.json" in names or any(name.startswith("shard-") for name in names):
            return "a feature cache"
        return "a folder of results" if "results.json" in names else "a folder"
    try:
        with open_regular(path) as file:
            start = file.read(_START) or b""
    except OSError:
        return ""
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return "a feature cache" if FORMAT.encode() in start else OTHER_HDF5
    for suffixes, kind in _SUFFIXES:
        if path.suffix.lower() in suffixes:
            return kind
    is_bmp = start.startswith(b"BM") and b"\0" in start[:20]
    if is_bmp or start.startswith(_IMAGES) or start[8:12] == b"WEBP" or start[4:8] == b"ftyp":
        return "an image"
    low = start.lstrip().lower()
    return next((kind for first, kind in _STARTS if low.startswith(first)), "")
