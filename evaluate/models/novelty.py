"""Is an image like those that a model was trained on? A distance in feature space, and how far training images are.

The distance is that to the nearest class: the root mean square of the features' differences from the class's mean,
each divided by its standard deviation within the classes. It is Mahalanobis's with a diagonal covariance, shared by the
classes (Lee et al. 2018, arXiv:1807.03888, with a full one), and needs k + 1 rows beside the model. Flagged is what is
farther than 999 in 1,000 training images, each held out from what it is measured by.

Measured on 3,000 held-out lung images and a model of 12,000: 0.1 % of them were flagged; of icons and diagrams, of
lung images blurred (12 pixels) and of details enlarged eight times 100 %, of negatives 55 %, of images with red and
blue exchanged none. Trained without squamous cell carcinomas it flagged 3 % of them: a class that the model does not
know is mostly not noticed. Principal components (32 to 256 of them) and the cosine to the nearest of 1,000 training
images were as good on the former, and no better than 15 % on the last.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache import Features
from ...errors import ModelFileError

Floats = npt.NDArray[np.float32]

QUANTILE = 0.999
ENOUGH_ROWS = 20_000
"""More training images than this change nothing: a sample of them is looked at."""
_FLOOR = 0.01
"""Of the typical standard deviation: features that hardly differ in training must not decide alone."""


@dataclass(frozen=True)
class NoveltyDetector:
    """What the features of training images are like.

    Attributes
    ----------
    means : ndarray of shape (k, d), float32
        Of each class.
    scale : ndarray of shape (d,), float32
        Standard deviations within the classes, above 0.
    threshold : float
        Distances above it are flagged.
    """

    means: Floats
    scale: Floats
    threshold: float

    @classmethod
    def fit(
        cls,
        read: Callable[[npt.NDArray[np.intp]], Features],
        codes: npt.NDArray[np.intp],
        groups: npt.NDArray[Any] | None = None,
    ) -> NoveltyDetector:
        """Describe training images.

        Parameters
        ----------
        read : callable
            Returns the features, float32 of shape (len(rows), d), of training images by number.
        codes : ndarray of shape (n,), intp
            Their classes, 0 to k - 1, each at least once.
        groups : ndarray of shape (n,), optional
            Copies of one original have the same; they are held out together.
        """
        from ...heads import folds

        chosen = np.arange(len(codes))
        if len(codes) > ENOUGH_ROWS:
            drawn = np.random.default_rng(0).permutation(len(codes))[:ENOUGH_ROWS]
            # a class that the sample misses is a small one, and its images would all be flagged
            missed = np.isin(codes, codes[drawn], invert=True)
            chosen = np.union1d(drawn, np.flatnonzero(missed))
        rows = read(chosen)
        classes, codes = np.unique(codes[chosen], return_inverse=True)
        held_out = [
            cls._describe(rows[train], codes[train], len(classes)).distances(rows[held])
            for train, held in folds(codes, None if groups is None else groups[chosen])
        ]
        found = cls._describe(rows, codes, len(classes))
        distances = np.concatenate(held_out) if held_out else found.distances(rows)
        # of few images the farthest
        threshold = float(np.quantile(distances, QUANTILE, method="higher"))
        return cls(found.means, found.scale, max(threshold, _FLOOR))  # images that are all the same have no distance

    @classmethod
    def _describe(cls, rows: Features, codes: npt.NDArray[np.intp], n_classes: int) -> NoveltyDetector:
        means = np.stack([rows[codes == code].mean(axis=0, dtype=np.float64) for code in range(n_classes)])
        variance = np.zeros(rows.shape[1])
        for code in range(n_classes):
            variance += np.square(rows[codes == code] - means[code].astype(np.float32)).sum(axis=0, dtype=np.float64)
        scale = np.sqrt(variance / len(rows))
        typical = float(np.sqrt(np.mean(np.square(scale))))
        return cls(means.astype(np.float32), np.maximum(scale, _FLOOR * typical or 1.0).astype(np.float32), np.inf)

    def distances(self, rows: Features) -> npt.NDArray[np.float64]:
        """Return the distance of every row, float32 of shape (m, d), from the nearest class: float64, shape (m,)."""
        nearest = np.full(len(rows), np.inf)
        for mean in self.means:
            squares = np.square((rows - mean) / self.scale).mean(axis=1, dtype=np.float64)
            np.minimum(nearest, squares, out=nearest)
        distances: npt.NDArray[np.float64] = np.sqrt(nearest)
        return distances

    def as_dict(self) -> dict[str, Any]:
        """Return it JSON-serialisable: arrays are little-endian float32 in base64."""
        kept = np.concatenate([self.means, self.scale[None]]).astype("<f4")
        return {"rows": len(kept), "values": base64.b64encode(kept.tobytes()).decode(), "threshold": self.threshold}

    @classmethod
    def of_metadata(cls, metadata: dict[str, Any], shown: str) -> NoveltyDetector | None:
        """Return that of a model file, None when it has none.

        Raises
        ------
        ModelFileError
            When it is damaged.
        """
        kept = metadata.get("novelty")
        if kept is None:
            return None
        try:
            rows = np.frombuffer(base64.b64decode(kept["values"]), "<f4").astype(np.float32).reshape(kept["rows"], -1)
            found = cls(rows[:-1], rows[-1], float(kept["threshold"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFileError(f"{shown} describes its training images in a damaged way; train it again") from error
        if not (len(found.means) and (found.scale > 0).all()):
            raise ModelFileError(f"{shown} describes its training images in a damaged way; train it again")
        return found
