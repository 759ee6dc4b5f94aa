"""Groups of images that are copies of one original: turned, mirrored, cropped, zoomed, recompressed or brightened.

Candidates are the nearest neighbours among the features. Whether two candidates show the same thing is then decided on
the images themselves, small as their signatures are: two pictures of one original can be laid over each other so that
their fine structure agrees, two others cannot, however alike they look. Measured on histology, the registered
correlation of copies lies above 0.8 and that of others below 0.6, with next to nothing between.

1. Files of the same content belong together.
2. Neighbours are compared over all rotations about the centre, mirrorings and zooms (:mod:`~.polar`); promising ones
   are registered (:mod:`~.registration`).
3. Neighbours that are still apart are registered from shifted positions (:mod:`~.shifts`): crops.
4. Images that are still alone are compared with many more, and registered from stretched positions as well: the
   features of a strongly distorted copy are far from those of its original.

Groups are the connected components of the proven pairs. A pair inside a group is not tested again, and two groups are
left alone after a few failures, so the work grows with the number of images, not of pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..extract.processors import available_processors
from . import polar
from .neighbors import Neighbors
from .registration import register
from .shifts import shift_hypotheses
from .thumbnails import Thumbnails

NEIGHBORS = 24
MINIMUM_SCORE = 0.75
"""A pair is proven when the registration explains more than half of the fine structure's variance: 0.75² = 0.56."""

NULL_DEVIATIONS = 5.0
"""And when the score stands this many standard deviations above that of unrelated pairs of this very data set, after
Fisher's transformation: plain pictures, such as digits, agree by chance far better than tissue does."""

DOUBT = 0.1  # scores this near to the threshold, on either side, are shown to the user
_NULL_PAIRS = 400
_PROMISING = 0.3  # a lower correlation about the centre is never registered from there
_FAILURES_OF_PAIR = 3
_LONELY = 2  # images of groups up to this size get the second look …
_SECOND_LOOKS = 500  # … but so many at most, the most promising first: in a set without copies all are alone
_FURTHER = 1000  # images that each of them is compared with
_STRETCHES = (1.0, 1.4, 1 / 1.4)  # of one axis against the other
_CHUNK = 64  # pairs that are registered together: their arrays fit the second-level cache

Rows = npt.NDArray[np.intp]
Scores = npt.NDArray[np.float32]
Register = Callable[[Rows, Rows], Scores]


class Pairs(NamedTuple):
    """Pairs of rows with a score each: intp, intp and float32, all of shape (k,)."""

    first: Rows
    second: Rows
    score: Scores

    def at(self, which: npt.NDArray[Any]) -> Pairs:
        """Return some of the pairs, by mask or by number."""
        return Pairs(self.first[which], self.second[which], self.score[which])


@dataclass
class Duplicates:
    """What was found.

    Attributes
    ----------
    groups : ndarray of intp, shape (n,)
        Group of every row, numbered from 0 by first member. An image without a copy is a group of its own.
    links : Pairs
        The proven pairs that hold the groups together. Files of the same content have score 1.
    refused : Pairs
        Pairs that were tested and came near to being proven.
    threshold : float
        Score from which on a pair is proven.
    tested : int
        How many pairs were registered.
    flat : int
        Images with too little structure to be recognised, other than by content.
    """

    groups: Rows
    links: Pairs
    refused: Pairs
    threshold: float
    tested: int = 0
    flat: int = 0


def find_duplicates(
    signatures: npt.NDArray[np.uint8],
    neighbors: Neighbors,
    hashes: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.integer],
    *,
    within_class: bool = False,
    advance: Callable[[str, int], None] = lambda what, count: None,
) -> Duplicates:
    """Group the images that are copies of one original.

    Parameters
    ----------
    signatures : ndarray of uint8, shape (n, 784)
    neighbors : Neighbors
        Of every row.
    hashes : ndarray of uint8, shape (n, 32)
        Of the files' content.
    labels : ndarray of int, shape (n,)
    within_class : bool
        Look for copies only within each class.
    advance : callable
        Called with the name of a stage and the number of pairs that were dealt with.

    Returns
    -------
    Duplicates
    """
    return _Search(signatures, neighbors, hashes, np.asarray(labels), within_class, advance).run()


class _Search:
    def __init__(
        self,
        signatures: npt.NDArray[np.uint8],
        neighbors: Neighbors,
        hashes: npt.NDArray[np.uint8],
        labels: npt.NDArray[np.integer],
        within_class: bool,
        advance: Callable[[str, int], None],
    ) -> None:
        self.thumbnails = Thumbnails(signatures)
        self.neighbors = neighbors
        self.hashes = hashes
        self.labels = labels
        self.within_class = within_class
        self.advance = advance
        self.n = len(signatures)
        self.textured = self.thumbnails.textured()
        self.links: list[Pairs] = []
        self.refused: list[Pairs] = []
        self.tested = 0
        self.groups: Rows = np.arange(self.n)
        self.threshold = MINIMUM_SCORE

    def run(self) -> Duplicates:
        from threadpoolctl import threadpool_limits

        self._link_identical()
        if self.n > 1:
            # every thread of the pool multiplies small matrices: BLAS's own threads would only get into its way
            with threadpool_limits(1, "blas"), ThreadPoolExecutor(available_processors()) as self.pool:
                spectra = polar.ring_spectra(self.thumbnails)
                self._set_threshold(spectra)
                centred = self._centred_candidates(spectra)
                self._link(centred, lambda first, second: self._centred(spectra, first, second), "turned", 8)
                self._link(self._shifted_candidates(), self._shifted, "shifted", 2)
                lonely = self._lonely_candidates(spectra, centred)
                self._link(lonely, lambda first, second: self._centred(spectra, first, second, _STRETCHES), "alone", 3)
        near = _concatenate(self.refused)
        near = near.at(near.score > self.threshold - DOUBT)
        flat = int((~self.textured).sum())
        return Duplicates(_renumber(self.groups), _concatenate(self.links), near, self.threshold, self.tested, flat)

    def _link_identical(self) -> None:
        keys = np.ascontiguousarray(self.hashes).view(f"V{self.hashes.shape[1]}").ravel()
        _, inverse = np.unique(keys, return_inverse=True)
        if self.within_class:
            inverse = inverse * (int(self.labels.max(initial=0)) + 1) + self.labels
        order = np.argsort(inverse, kind="stable")
        same = inverse[order][1:] == inverse[order][:-1]
        first, second = order[:-1][same], order[1:][same]
        self._add(Pairs(first, second, np.ones(len(first), np.float32)))

    def _set_threshold(self, spectra: polar.Spectra) -> None:
        """Learn what unrelated pairs of one class reach: they are the likeliest to be mistaken for copies."""
        generator = np.random.default_rng(0)
        textured = np.flatnonzero(self.textured)
        first = generator.choice(textured, _NULL_PAIRS) if len(textured) else textured
        second = first.copy()
        for place, row in enumerate(first):
            second[place] = generator.choice(textured[self.labels[textured] == self.labels[row]])
        near = (self.neighbors.rows[first] == second[:, None]).any(1)
        unrelated = (self.groups[first] != self.groups[second]) & ~near
        first, second = first[unrelated], second[unrelated]
        if len(first) < 20:
            return
        for scores in (self._centred(spectra, first, second), self._shifted(first, second)):
            z = np.arctanh(np.clip(scores[scores > -1], -0.999, 0.999))
            # By quartiles: where few originals have many copies, there are copies among these pairs too, far outside.
            low, middle, high = np.quantile(z, [0.25, 0.5, 0.75])
            deviation = max(middle - low, high - middle) / 0.6745
            limit = float(np.tanh(middle + NULL_DEVIATIONS * deviation))
            self.threshold = max(self.threshold, limit)

    def _centred_candidates(self, spectra: polar.Spectra) -> Pairs:
        pairs = self._open_neighbors()
        ends = np.searchsorted(pairs.first, np.arange(self.n + 1))

        def score(rows: Rows) -> None:
            for row in rows:
                mine = slice(ends[row], ends[row + 1])
                if ends[row] < ends[row + 1]:
                    pairs.score[mine] = polar.correlate(spectra, row, pairs.second[mine]).score
            self.advance("comparing", len(rows))

        list(self.pool.map(score, np.array_split(np.arange(self.n), max(1, self.n // 256))))
        return pairs.at(pairs.score >= _PROMISING)

    def _shifted_candidates(self) -> Pairs:
        """Return, for each image, the two nearest ones that are not in its group."""
        pairs = self._open_neighbors()
        order = np.lexsort((-pairs.score, pairs.first))
        rank = np.arange(len(order)) - np.searchsorted(pairs.first[order], pairs.first[order])
        return pairs.at(order[rank < 2])

    def _lonely_candidates(self, spectra: polar.Spectra, seen: Pairs) -> Pairs:
        """Return, for each image that is nearly alone, the three that look most alike of a thousand neighbours."""
        sizes = np.bincount(self.groups, minlength=self.n)[self.groups]
        lonely = np.flatnonzero((sizes <= _LONELY) & self.textured)
        promise = np.zeros(self.n, np.float32)
        np.maximum.at(promise, seen.first, seen.score)
        np.maximum.at(promise, seen.second, seen.score)
        lonely = lonely[np.argsort(-promise[lonely], kind="stable")][:_SECOND_LOOKS]

        def look(row: int) -> Pairs:
            others = self.neighbors.further(row, _FURTHER)
            others = others[(self.groups[others] != self.groups[row]) & self.textured[others]]
            if self.within_class:
                others = others[self.labels[others] == self.labels[row]]
            score = polar.correlate(spectra, row, others).score
            best = np.argsort(-score, kind="stable")[:3]
            self.advance("looking again", 1)
            return Pairs(np.full(len(best), row), others[best], score[best])

        return _concatenate(list(self.pool.map(look, lonely.tolist())))

    def _open_neighbors(self) -> Pairs:
        """Return the neighbours that are not in one group yet, each pair once, by first row."""
        rows, similarity = self.neighbors.rows, self.neighbors.similarity
        first = np.repeat(np.arange(self.n), rows.shape[1])
        second, score = rows.ravel(), similarity.ravel()
        low, high = np.minimum(first, second), np.maximum(first, second)
        _, once = np.unique(low.astype(np.int64) * self.n + high, return_index=True)
        first, second, score = first[once], second[once], score[once]
        keep = (self.groups[first] != self.groups[second]) & self.textured[first] & self.textured[second]
        if self.within_class:
            keep &= self.labels[first] == self.labels[second]
        keep = np.flatnonzero(keep)
        keep = keep[np.argsort(first[keep], kind="stable")]
        return Pairs(first[keep], second[keep], score[keep].astype(np.float32))

    def _link(self, candidates: Pairs, test: Register, stage: str, failures_of_image: int) -> None:
        """Test candidates, the best of every group first, until nothing is left that could change the groups."""
        pending = candidates.at(np.argsort(-candidates.score, kind="stable"))
        failed = _concatenate([])
        failures = np.zeros(self.n, np.intp)
        while len(pending.first):
            first, second = pending.first, pending.second
            tired, counts = np.unique(self._key(failed), return_counts=True)
            keep = (failures[first] < failures_of_image) & (failures[second] < failures_of_image)
            keep &= self.groups[first] != self.groups[second]
            keep &= ~np.isin(self._key(pending), tired[counts >= _FAILURES_OF_PAIR])
            pending = pending.at(keep)
            if not len(pending.first):
                break
            # The best pair of every group, so that no group is tested twice before its first test is known.
            ends = self.groups[pending.first], self.groups[pending.second]
            best = np.union1d(*(np.unique(groups, return_index=True)[1] for groups in ends))
            best = best[np.unique(self._key(pending.at(best)), return_index=True)[1]]
            chosen = pending.at(best)
            chosen = chosen._replace(score=test(chosen.first, chosen.second))
            self.tested += len(best)
            self.advance(stage, len(best))
            proven = chosen.score >= self.threshold
            self._add(chosen.at(proven))
            refused = chosen.at(~proven)
            failed = _concatenate([failed, refused])
            np.add.at(failures, refused.first, 1)
            np.add.at(failures, refused.second, 1)
            pending = pending.at(np.setdiff1d(np.arange(len(pending.first)), best))
        self.refused.append(failed)

    def _key(self, pairs: Pairs) -> npt.NDArray[np.int64]:
        """Return a number for the two groups of each pair, whichever comes first."""
        mine, other = self.groups[pairs.first].astype(np.int64), self.groups[pairs.second].astype(np.int64)
        key: npt.NDArray[np.int64] = np.minimum(mine, other) * self.n + np.maximum(mine, other)
        return key

    def _add(self, pairs: Pairs) -> None:
        from scipy import sparse
        from scipy.sparse.csgraph import connected_components

        self.links.append(pairs)
        mine, other = self.groups[pairs.first], self.groups[pairs.second]
        graph = sparse.coo_array((np.ones(len(mine), np.int8), (mine, other)), shape=(self.n, self.n))
        self.groups = connected_components(graph, directed=False)[1].astype(np.intp)[self.groups]

    def _centred(
        self, spectra: polar.Spectra, first: Rows, second: Rows, stretches: tuple[float, ...] = (1.0,)
    ) -> Scores:
        def run(part: Rows) -> Scores:
            rows, others = first[part], second[part]
            found = [polar.correlate(spectra, row, others[place : place + 1]) for place, row in enumerate(rows)]
            best = polar.Centred(*(np.concatenate(column) for column in zip(*found, strict=True)))
            mirror, affine = polar.as_affine(best)
            stretched = [(mirror, affine * np.repeat(np.array([by, 1 / by], np.float32), 3)) for by in stretches]
            return register(self.thumbnails, rows, others, stretched).score

        return self._in_chunks(run, len(first))

    def _shifted(self, first: Rows, second: Rows) -> Scores:
        def run(part: Rows) -> Scores:
            hypotheses = shift_hypotheses(self.thumbnails, first[part], second[part])
            return register(self.thumbnails, first[part], second[part], hypotheses).score

        return self._in_chunks(run, len(first))

    def _in_chunks(self, run: Callable[[Rows], Scores], count: int) -> Scores:
        parts = [np.arange(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]
        return np.concatenate([np.zeros(0, np.float32), *self.pool.map(run, parts)])


def _renumber(groups: Rows) -> Rows:
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.intp)
    rank[np.argsort(first)] = np.arange(len(first))
    renumbered: Rows = rank[inverse]
    return renumbered


def _concatenate(parts: list[Pairs]) -> Pairs:
    none = Pairs(np.zeros(0, np.intp), np.zeros(0, np.intp), np.zeros(0, np.float32))
    return Pairs(*(np.concatenate(column) for column in zip(none, *parts, strict=True)))
