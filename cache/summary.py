"""Content and origin of a cache, for people and as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .feature_cache import FeatureCache, open_cache
from .names import display, printable


@dataclass(frozen=True)
class CacheInfo:
    """Content and origin of a cache; ``print`` shows it.

    Attributes
    ----------
    path : str or None
        None for a cache in memory.
    images, features : int
        Number of rows, and of features per row.
    classes : dict of str to int
        Number of images per class.
    unlabelled : int
        Number of images without a label.
    metadata : dict of str to int
        Number of different values in every column of metadata.
    fingerprint : dict
        Everything that decides the feature values.
    provenance : dict
        Versions, engine, image folder.
    reject_reasons : list of (str, str)
        Path and reason of every image that could not be embedded.
    """

    path: str | None
    images: int
    features: int
    classes: dict[str, int]
    unlabelled: int
    metadata: dict[str, int]
    fingerprint: dict[str, Any]
    provenance: dict[str, Any]
    reject_reasons: list[tuple[str, str]]

    def to_dict(self) -> dict[str, Any]:
        """Return everything, JSON-serialisable, as ``embedonce info --json`` prints it."""
        return {
            "path": self.path,
            "images": self.images,
            "features": self.features,
            "classes": self.classes,
            "unlabelled": self.unlabelled,
            "metadata": self.metadata,
            "rejects": len(self.reject_reasons),
            "fingerprint": self.fingerprint,
            "provenance": self.provenance,
            "reject_reasons": self.reject_reasons,
        }

    def __str__(self) -> str:
        weights = str(self.provenance.get("weights"))
        warning = " - RANDOM: the features mean little" if weights.startswith("random:") else ""
        versions = self.provenance.get("versions", {})
        lines = {"images": f"{self.images:,}", "features": f"{self.features:,} per image, float32"}
        lines |= {f"  {display(name)}": f"{count:,}" for name, count in self.classes.items()}
        labels = self.provenance.get("labels")
        if isinstance(labels, dict):
            origin = labels.get("table") or labels.get("pattern")
            lines["labels"] = f"{labels.get('source')}{f', {display(str(origin))}' if origin else ''}"
        if self.unlabelled:
            lines["without label"] = f"{self.unlabelled:,}"
        if self.metadata:
            columns = (f"{display(name)} ({count:,} values)" for name, count in self.metadata.items())
            lines["metadata"] = ", ".join(columns)
        lines["weights"] = f"{weights}{warning}"
        lines |= {name.replace("_", " "): str(value) for name, value in self.fingerprint.items()}
        lines["engines"] = ", ".join(self.provenance.get("engines", {}))
        lines["image folder"] = display(self.provenance.get("image_root", ""))
        lines["versions"] = ", ".join(f"{name} {value}" for name, value in versions.items())
        lines["rejected"] = f"{len(self.reject_reasons):,}"
        longest = max(map(len, lines))
        rejects = [f"  {display(path)}: {reason}" for path, reason in self.reject_reasons]
        return "\n".join(map(printable, [*(f"{name:<{longest}}  {value}" for name, value in lines.items()), *rejects]))


def info(cache: FeatureCache | Path | str) -> CacheInfo:
    """Summarize what a cache holds and how it was made, without reading the features.

    Parameters
    ----------
    cache : FeatureCache or path-like

    Returns
    -------
    CacheInfo

    Raises
    ------
    CacheError
        If the cache cannot be read.

    See Also
    --------
    embedonce.verify : Check every checksum.

    Examples
    --------
    >>> import embedonce
    >>> cache = embedonce.FeatureCache.from_arrays([[0.0], [1.0]], ["ash", "birch"])
    >>> embedonce.info(cache).classes
    {'ash': 1, 'birch': 1}
    """
    if not isinstance(cache, FeatureCache):
        with open_cache(cache, "info") as opened:
            return info(opened)
    images, features = cache.shape
    return CacheInfo(
        None if cache.source is None else str(cache.source),
        images,
        features,
        cache.class_counts,
        int((cache.labels < 0).sum()),
        {name: len(set(texts) - {""}) for name, texts in cache.metadata.items()},
        cache.fingerprint,
        cache.provenance,
        cache.rejects,
    )
