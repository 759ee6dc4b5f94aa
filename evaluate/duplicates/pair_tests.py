"""Tests of pairs of images: registration from several starts, and verification on the images."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from . import log_polar
from .gray_images import Pictures
from .pairs import Rows, Scores
from .registration import Registration, register
from .thresholds import EQUAL, gap_limit, null_limit
from .thumbnails import Thumbnails
from .translation import shift_hypotheses
from .verification import verify

MINIMUM_SCORE = 0.75
"""A pair is accepted if the registration explains more than half of the variance of the fine structure (0.75² = 0.56),
on signatures and on images."""

_FALSE_DISCOVERIES = 0.02
_FALSE_AGREEMENTS = 0.25  # near-duplicates lie in the gap as well, since strong recompression removes fine structure
_DOUBTFUL = 0.5  # a pair between this and its threshold is verified on the images
_FEW = 100  # unrelated pairs show whether all of them are far below the minimum …
_SURE_DEVIATIONS = 7.5  # … which is so if it is this far above them, half as far again as the limit
_STRETCHES = (1.0, 1.4, 1 / 1.4)  # of one axis against the other
_CHUNK = 64  # pairs that are registered together: their arrays fit the second-level cache
_VERIFIED_TOGETHER = 8  # pairs; twelve times as many pixels

Register = Callable[[Rows, Rows], Registration]
PairsOfRows = tuple[Rows, Rows]


class Thresholds(NamedTuple):
    """Scores from which a pair is accepted: about the centre, from shifted positions, and on the images (or NaN)."""

    centred: float = MINIMUM_SCORE
    shifted: float = MINIMUM_SCORE
    images: float = float("nan")


class PairTests:
    """Tests of pairs and the thresholds of one data set; without ``pictures``, signatures decide every pair."""

    def __init__(
        self, thumbnails: Thumbnails, spectra: log_polar.Spectra, pictures: Pictures | None, pool: Executor
    ) -> None:
        self.thumbnails = thumbnails
        self.spectra = spectra
        self.pictures = pictures
        self.pool = pool
        self._agreement, self._keys = log_polar.empty(0), np.zeros(0, np.int64)
        self._verified: dict[tuple[int, int, float], float] = {}  # of rows and their registration's score
        self.learned = False  # the threshold on the images
        self._unrelated: list[tuple[Rows, Rows, Registration]] = []
        self._doubtful: list[tuple[Rows, Rows, Registration]] = []

    def remember(self, first: Rows, second: Rows, agreement: log_polar.Centred) -> None:
        """Store the agreement of pairs about the centre for later tests."""
        keys = self._key(first, second)
        order = np.argsort(keys)
        self._keys, self._agreement = keys[order], agreement.at(order)

    def _key(self, first: Rows, second: Rows) -> npt.NDArray[np.int64]:
        keys: npt.NDArray[np.int64] = first.astype(np.int64) * len(self.thumbnails) + second
        return keys

    def _best_about_the_centre(self, first: Rows, second: Rows) -> log_polar.Centred:
        keys = self._key(first, second)
        position = np.searchsorted(self._keys, keys)
        stored = np.zeros(len(keys), bool)
        inside = position < len(self._keys)
        stored[inside] = self._keys[position[inside]] == keys[inside]
        best = log_polar.empty(len(keys))
        best.put(stored, self._agreement.at(position[stored]))
        for row in np.flatnonzero(~stored):
            best.put(slice(row, row + 1), log_polar.correlate(self.spectra, int(first[row]), second[row : row + 1]))
        return best

    def thresholds(self, unrelated: PairsOfRows, likely: PairsOfRows) -> Thresholds:
        """Learn the thresholds from pairs that are almost surely unrelated, and from likely near-duplicates."""
        centred, shifted = (self._limit(test, unrelated, likely) for test in (self.centred, self.shifted))
        if self.pictures is None:  # without images to correct mistakes, the stricter one is used for both
            return Thresholds(max(centred, shifted), max(centred, shifted))
        return Thresholds(centred, shifted, MINIMUM_SCORE)

    def threshold_on_images(self) -> float:
        """Learn the threshold on the images, once, from the same pairs; this reads up to 1,800 pictures."""
        self.learned = True
        minimum = max(MINIMUM_SCORE, *(self._null_limit(*pairs) for pairs in self._unrelated))
        agreement = np.concatenate([self.verify(*pairs) for pairs in self._doubtful])
        return gap_limit(agreement, minimum, _FALSE_AGREEMENTS)

    def _null_limit(self, first: Rows, second: Rows, registered: Registration) -> float:
        """Return the limit of unrelated pairs on the images, of some pairs if it is far below the minimum."""
        some = np.arange(min(_FEW, len(first)))
        scores = self.verify(first[some], second[some], registered.at(some))
        if (scores > -1).sum() < _FEW / 2 or null_limit(scores, _SURE_DEVIATIONS) > MINIMUM_SCORE:
            scores = self.verify(first, second, registered)
        return null_limit(scores)

    def centred(self, first: Rows, second: Rows) -> Registration:
        """Register pairs from the best position about the centre."""
        return self._about_the_centre(first, second, (1.0,))

    def stretched(self, first: Rows, second: Rows) -> Registration:
        """Register pairs from the best position about the centre and from stretched ones."""
        return self._about_the_centre(first, second, _STRETCHES)

    def _about_the_centre(self, first: Rows, second: Rows, stretches: tuple[float, ...]) -> Registration:
        def run(part: Rows) -> Registration:
            rows, others = first[part], second[part]
            mirror, affine = log_polar.as_affine(self._best_about_the_centre(rows, others))
            stretched = [(mirror, affine * np.repeat(np.array([by, 1 / by], np.float32), 3)) for by in stretches]
            return register(self.thumbnails, rows, others, stretched)

        return self._in_chunks(run, len(first))

    def shifted(self, first: Rows, second: Rows) -> Registration:
        """Register pairs from shifted positions."""

        def run(part: Rows) -> Registration:
            hypotheses = shift_hypotheses(self.thumbnails, first[part], second[part])
            return register(self.thumbnails, first[part], second[part], hypotheses)

        return self._in_chunks(run, len(first))

    def _in_chunks(self, run: Callable[[Rows], Registration], count: int) -> Registration:
        parts = [np.arange(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]
        none = Registration(np.zeros(0, np.float32), np.zeros(0, bool), np.zeros((0, 6), np.float32))
        return Registration(*(np.concatenate(column) for column in zip(none, *self.pool.map(run, parts), strict=True)))

    def in_doubt(self, score: Scores, threshold: float) -> npt.NDArray[np.bool_]:
        """Return which pairs the images must decide."""
        # if the threshold had to be raised, unrelated signatures agree well, and only equal ones are certain
        if self.pictures is None:
            return np.zeros(len(score), bool)
        certain = threshold if threshold == MINIMUM_SCORE else EQUAL
        doubtful: npt.NDArray[np.bool_] = (score >= _DOUBTFUL) & (score < certain)
        return doubtful

    def verify(self, first: Rows, second: Rows, registered: Registration) -> Scores:
        """Return the agreement of pairs on the images, NaN without images."""
        pictures = self.pictures
        if pictures is None:
            return np.full(len(first), np.nan, np.float32)
        pairs = list(zip(first.tolist(), second.tolist(), registered.score.tolist(), strict=True))
        unknown = {pair: index for index, pair in enumerate(pairs) if pair not in self._verified}
        new = np.array(list(unknown.values()), np.intp)
        parts = [new[start : start + _VERIFIED_TOGETHER] for start in range(0, len(new), _VERIFIED_TOGETHER)]
        agreements = self.pool.map(lambda part: verify(pictures, first[part], second[part], registered.at(part)), parts)
        for part, agreement in zip(parts, agreements, strict=True):
            self._verified.update(zip([pairs[index] for index in part.tolist()], agreement.tolist(), strict=True))
        return np.array([self._verified[pair] for pair in pairs], np.float32)

    def _limit(self, test: Register, unrelated: PairsOfRows, likely: PairsOfRows) -> float:
        """Return a stage's threshold, and keep what the threshold on the images is learned from."""
        null, registered = test(*unrelated), test(*likely)
        limit = gap_limit(registered.score, max(MINIMUM_SCORE, null_limit(null.score)), _FALSE_DISCOVERIES)
        doubtful = np.flatnonzero(self.in_doubt(registered.score, limit))
        self._unrelated.append((*unrelated, null))
        self._doubtful.append((likely[0][doubtful], likely[1][doubtful], registered.at(doubtful)))
        return limit
