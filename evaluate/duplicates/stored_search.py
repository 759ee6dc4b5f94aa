"""The result of a search next to the cache, so that after images were added only their pairs are searched."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache, write_atomically
from ...errors import OutputError
from .neighbors import Axes, Neighbors, neighbors_of_new
from .pair_tests import Thresholds
from .pairs import Decision, Pairs, renumber
from .search import NEIGHBORS, Duplicates, Known
from .thumbnails import Thumbnails

MINIMUM_ROWS = 1000  # fewer are searched again within two seconds
_VERSION = 1  # of the method; results of another one are not used
_ADDITION = 0.25  # of the rows, at most; the thresholds and axes are those of the first search
_DIGEST = 32  # bytes in front of the content


class StoredSearch:
    """The file ``NAME.groups.npz`` next to a cache, and what its result depends on besides the images."""

    def __init__(
        self, cache: FeatureCache, signatures: npt.NDArray[np.uint8], within_class: bool, on_images: bool
    ) -> None:
        self.path: Path | None = None
        if cache.path is None or len(cache) < MINIMUM_ROWS or "image_size" not in cache.fingerprint:
            return
        self.path = cache.path.with_name(f"{cache.path.name}.groups.npz")
        self._cache, self._signatures = cache, signatures
        about: dict[str, Any] = {"version": _VERSION, "fingerprint": cache.fingerprint}
        about |= {"within_class": within_class, "on_images": on_images}
        self._about = json.dumps(about, sort_keys=True)
        labels = cache.label_names if within_class else [""] * len(cache)
        self._keys = [
            hashlib.blake2b(file.tobytes() + signature.tobytes() + label.encode(), digest_size=16).digest()
            for file, signature, label in zip(cache.files.hashes, signatures, labels, strict=True)
        ]

    def read(self) -> tuple[Known, Neighbors] | None:
        """Return the stored result and the neighbours of new rows; None if it cannot be used."""
        if self.path is None:
            return None
        try:
            content = self.path.read_bytes()
            if hashlib.sha256(content[_DIGEST:]).digest() != content[:_DIGEST]:
                return None
            with np.load(io.BytesIO(content[_DIGEST:]), allow_pickle=False) as stored:
                return self._known(dict(stored))
        except (OSError, ValueError, LookupError, TypeError, EOFError, zipfile.BadZipFile):
            return None

    def _known(self, stored: dict[str, Any]) -> tuple[Known, Neighbors] | None:
        axes = Axes(stored["mean"], stored["projection"])
        if str(stored["about"]) != self._about or {len(axes.mean), len(axes.projection)} != {self._cache.shape[1]}:
            return None
        places: dict[bytes, list[int]] = {}
        for row, key in enumerate(self._keys):
            places.setdefault(key, []).append(row)
        keys = [key.tobytes() for key in stored["keys"]]
        if len(self._keys) - len(keys) > _ADDITION * len(keys):
            return None
        try:
            rows = np.array([places[key].pop(0) for key in keys], np.intp)
        except (KeyError, IndexError):  # an image is gone
            return None
        new = np.ones(len(self._keys), bool)
        new[rows] = False
        groups = np.arange(len(self._keys))
        _, first, inverse = np.unique(stored["groups"], return_index=True, return_inverse=True)
        groups[rows] = rows[first][inverse]
        farthest = np.full(len(self._keys), np.inf, np.float32)
        farthest[rows] = stored["farthest"]
        textured = np.empty(len(self._keys), bool)
        textured[rows] = stored["textured"]
        textured[new] = Thumbnails(self._signatures[new]).textured()
        reduced = np.empty((len(self._keys), axes.projection.shape[1]), np.float32)
        reduced[rows] = stored["reduced"]
        reduced[new] = axes.reduce(self._cache[np.flatnonzero(new)])
        links, verified, rejected = (
            Pairs(rows[stored[name][0]], rows[stored[name][1]], stored[f"{name}_scores"]) for name in _PAIRS
        )
        doubtful = [
            Decision(int(rows[pair[0]]), int(rows[pair[1]]), score, limit, bool(pair[2]), bool(pair[3]))
            for pair, (score, limit) in zip(
                stored["doubtful"].tolist(), stored["doubtful_scores"].tolist(), strict=True
            )
        ]
        tested, learned = stored["numbers"].tolist()
        thresholds = Thresholds(*stored["thresholds"].tolist())
        flat = int((~textured).sum())
        result = Duplicates(
            renumber(groups), links, verified, rejected, thresholds, doubtful, tested, flat, bool(learned), textured
        )
        return Known(new, result), neighbors_of_new(reduced, axes, new, farthest, NEIGHBORS)

    def write(self, result: Duplicates, neighbors: Neighbors) -> None:
        """Write a result."""
        if self.path is None:
            return
        arrays: dict[str, Any] = {
            "about": np.array(self._about),
            "keys": np.frombuffer(b"".join(self._keys), np.uint8).reshape(-1, 16),
            "groups": result.groups,
            "farthest": neighbors.similarity.min(1),
            "reduced": neighbors.reduced.astype(np.float16),
            "textured": result.textured,
            "thresholds": np.array(result.thresholds),
            "numbers": np.array([result.tested, result.learned], np.int64),
            "doubtful": np.array([(d.first, d.second, d.accepted, d.on_images) for d in result.doubtful], np.int64),
            "doubtful_scores": np.array([(d.score, d.limit) for d in result.doubtful]),
            "mean": neighbors.axes.mean,
            "projection": neighbors.axes.projection,
        }
        for name, pairs in zip(_PAIRS, (result.links, result.verified, result.rejected), strict=True):
            arrays |= {name: np.stack([pairs.first, pairs.second]), f"{name}_scores": pairs.score}
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        content = buffer.getvalue()
        with contextlib.suppress(OutputError):  # in a read-only folder the next search is as long as this one
            write_atomically(self.path, hashlib.sha256(content).digest(), content)


_PAIRS = ("links", "verified", "rejected")
