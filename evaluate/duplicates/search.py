"""Groups of near-duplicates: images of one original, rotated, mirrored, cropped, zoomed, recompressed or brightened.

Candidates are nearest neighbours among the features. Registered, two pictures of one original agree in their fine
structure: in histology the correlation of near-duplicates is above 0.8 and that of others below 0.6. On photographs the
two overlap; then larger pictures decide (`verification`), if available. Each stage has its threshold (`thresholds`):

1. Files of the same content belong together.
2. Neighbours are compared over rotations, mirrorings and zooms (`log_polar`); promising pairs are registered.
3. Neighbours in different groups are registered from shifted positions (`translation`): crops.
4. Images that are still alone are compared with many more, and registered from stretched positions as well.

Groups are the connected components of the accepted pairs. Pairs inside a group are not compared, nor groups again after
a few failures, so the work grows with the number of images, not of pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ...extract import cpu_count
from . import log_polar
from .gray_images import Pictures
from .neighbors import Neighbors
from .pair_tests import PairTests, Register, Thresholds
from .pairs import Decision, Pairs, Rows, concatenate, near_decisions, renumber
from .registration import Registration
from .thumbnails import Thumbnails

NEIGHBORS = 24
DOUBT = 0.1  # scores within this distance of the threshold are reported
_NULL_PAIRS = 400
_SAMPLE = 500  # images whose likeliest near-duplicates determine the thresholds
_PROMISING = 0.3  # a lower correlation about the centre is never registered from there
_FAILURES_OF_PAIR = 3
_REJECTIONS = 3  # of its picture, in each stage, after which an image is not verified again, since reading is slow
_HOPELESS = 512  # pictures of the likeliest pairs; if none of them agrees, no more are read
_IN_A_ROW = 256  # pairs of one round, the likeliest first, that disagree before the others are not compared on pictures
_READ_TOGETHER = 128
_LONELY = 2  # images of groups up to this size are compared again …
_SECOND_LOOKS = 500  # … but at most so many, the most promising first: without near-duplicates all are alone
_FURTHER = 1000  # images that each of them is compared with …
_COARSE_WAVES, _COARSE_BEST = 12, 32  # … coarsely; the best three by all waves are among the best 32 by 12 of them


@dataclass
class Duplicates:
    """Result of a search; ``verified`` and ``rejected`` pairs have their agreement on the images as score."""

    groups: Rows  # group of every row, from 0 by first member
    links: Pairs  # accepted by their signatures, or files of the same content with score 1
    verified: Pairs
    rejected: Pairs
    thresholds: Thresholds
    doubtful: list[Decision]  # pairs near a threshold, the nearest first
    tested: int = 0  # pairs that were registered
    flat: int = 0  # images with too little structure to be compared other than by content
    learned: bool = False  # whether a pair was in doubt, so that the threshold on the images was learned
    textured: npt.NDArray[np.bool_] | None = None  # which images have enough structure


class Known(NamedTuple):
    """The result of an earlier search of some of the rows, as numbers of these rows."""

    new: npt.NDArray[np.bool_]  # which rows are new, each in a group without others; only their pairs are searched
    result: Duplicates


class UnknownThresholdError(Exception):
    """A new pair is in doubt, and the earlier search had no threshold on the images to learn."""


def find_duplicates(
    signatures: npt.NDArray[np.uint8],
    neighbors: Neighbors,
    hashes: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.integer],
    *,
    within_class: bool = False,
    pictures: Pictures | None = None,
    advance: Callable[[str, int], None] = lambda what, count: None,
    known: Known | None = None,
) -> Duplicates:
    """Group near-duplicates by signatures, uint8, shape (n, 784), among the neighbours of every row."""
    thumbnails = Thumbnails(signatures)
    return _Search(thumbnails, neighbors, hashes, np.asarray(labels), within_class, pictures, advance, known).run()


@dataclass
class _Search:
    thumbnails: Thumbnails
    neighbors: Neighbors
    hashes: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.integer]
    within_class: bool
    pictures: Pictures | None
    advance: Callable[[str, int], None]
    known: Known | None = None

    def __post_init__(self) -> None:
        self.n = len(self.thumbnails)
        none = concatenate([])
        start = Duplicates(np.arange(self.n), none, none, none, Thresholds(), [])
        start = start if self.known is None else self.known.result
        self.new = np.ones(self.n, bool) if self.known is None else self.known.new
        self.textured = self.thumbnails.textured() if start.textured is None else start.textured
        self.groups, self.thresholds = start.groups, start.thresholds
        self.links, self.verified, self.rejected = [start.links], [start.verified], [start.rejected]
        self.doubtful = list(start.doubtful)
        self.tested = start.tested
        self.verifiable = self.agreeing = 0  # numbers of pairs that were compared on the images

    def run(self) -> Duplicates:
        from threadpoolctl import threadpool_limits

        self._link_identical()
        if self.n > 1:
            # every thread of the pool multiplies small matrices, which threads of BLAS would only slow down
            with threadpool_limits(1, "blas"), ThreadPoolExecutor(cpu_count()) as self.pool:
                spectra = log_polar.Spectra(self.thumbnails)
                tests = self.tests = PairTests(self.thumbnails, spectra, self.pictures, self.pool)
                candidates = self._centred_candidates(spectra)
                if self.known is None:
                    generator = np.random.default_rng(0)
                    self.thresholds = tests.thresholds(
                        self._unrelated(generator), self._likeliest(candidates, generator)
                    )
                limits, tests.learned = self.thresholds, self.known is not None and self.known.result.learned
                self._link(candidates, tests.centred, limits.centred, "centred", 8)
                self._link(self._shifted_candidates(), tests.shifted, limits.shifted, "shifted", 2)
                self._link(self._lonely_candidates(spectra, candidates), tests.stretched, limits.centred, "alone", 3)
        return Duplicates(
            renumber(self.groups),
            concatenate(self.links),
            concatenate(self.verified),
            concatenate(self.rejected),
            self.thresholds,
            sorted(self.doubtful, key=lambda decision: abs(decision.score - decision.limit)),
            self.tested,
            int((~self.textured).sum()),
            self.n > 1 and self.tests.learned,
            self.textured,
        )

    def _link_identical(self) -> None:
        keys = np.ascontiguousarray(self.hashes).view(f"V{self.hashes.shape[1]}").ravel()
        _, inverse = np.unique(keys, return_inverse=True)
        if self.within_class:
            inverse = inverse * (int(self.labels.max(initial=0)) + 1) + self.labels
        order = np.argsort(inverse, kind="stable")
        same = inverse[order][1:] == inverse[order][:-1]
        first, second = order[:-1][same], order[1:][same]
        added = self.new[first] | self.new[second]
        first, second = first[added], second[added]
        self.links.append(Pairs(first, second, np.ones(len(first), np.float32)))
        self._join(self.links[-1])

    def _unrelated(self, generator: np.random.Generator) -> tuple[Rows, Rows]:
        """Return pairs of one class, which are the likeliest to be mistaken for near-duplicates."""
        textured = np.flatnonzero(self.textured)
        first = generator.choice(textured, _NULL_PAIRS) if len(textured) else textured
        second = first.copy()
        for place, row in enumerate(first):
            second[place] = generator.choice(textured[self.labels[textured] == self.labels[row]])
        near = (self.neighbors.rows[first] == second[:, None]).any(1)
        unrelated = (self.groups[first] != self.groups[second]) & ~near
        return first[unrelated], second[unrelated]

    def _likeliest(self, candidates: Pairs, generator: np.random.Generator) -> tuple[Rows, Rows]:
        """Return the best candidate of some images, by correlation about the centre."""
        order = np.lexsort((-candidates.score, candidates.first))
        chosen = order[np.unique(candidates.first[order], return_index=True)[1]]
        if len(chosen) > _SAMPLE:
            chosen = chosen[np.sort(generator.choice(len(chosen), _SAMPLE, replace=False))]
        return candidates.first[chosen], candidates.second[chosen]

    def _centred_candidates(self, spectra: log_polar.Spectra) -> Pairs:
        pairs = self._open_neighbors()
        ends = np.searchsorted(pairs.first, np.arange(self.n + 1))
        agreement = log_polar.empty(len(pairs.first))
        self._add_spectra(spectra, pairs.first, pairs.second)

        def compare(rows: Rows) -> None:
            for row in rows:
                part = slice(ends[row], ends[row + 1])
                if ends[row] < ends[row + 1]:
                    agreement.put(part, log_polar.correlate(spectra, row, pairs.second[part]))
            self.advance("comparing", len(rows))

        list(self.pool.map(compare, np.array_split(np.arange(self.n), max(1, self.n // 256))))
        promising = agreement.score >= _PROMISING
        candidates = pairs.at(promising)._replace(score=agreement.score[promising])
        self.tests.remember(candidates.first, candidates.second, agreement.at(promising))
        return candidates

    def _shifted_candidates(self) -> Pairs:
        """Return, for each image, the two nearest ones that are not in its group."""
        pairs = self._open_neighbors()
        order = np.lexsort((-pairs.score, pairs.first))
        rank = np.arange(len(order)) - np.searchsorted(pairs.first[order], pairs.first[order])
        return pairs.at(order[rank < 2])

    def _lonely_candidates(self, spectra: log_polar.Spectra, seen: Pairs) -> Pairs:
        """Return, for each image that is almost alone, the three most similar of a thousand neighbours."""
        sizes = np.bincount(self.groups, minlength=self.n)[self.groups]
        lonely = np.flatnonzero((sizes <= _LONELY) & self.textured & self.new)
        promise = np.zeros(self.n, np.float32)
        np.maximum.at(promise, seen.first, seen.score)
        np.maximum.at(promise, seen.second, seen.score)
        lonely = lonely[np.argsort(-promise[lonely], kind="stable")][:_SECOND_LOOKS]

        further = list(self.pool.map(lambda row: self.neighbors.further(row, _FURTHER), lonely.tolist()))
        self._add_spectra(spectra, lonely, *further)

        def most_similar(row: int, others: Rows) -> Pairs:
            others = others[(self.groups[others] != self.groups[row]) & self.textured[others]]
            if self.within_class:
                others = others[self.labels[others] == self.labels[row]]
            coarse = log_polar.correlate(spectra, row, others, _COARSE_WAVES).score
            others = others[np.sort(np.argsort(-coarse, kind="stable")[:_COARSE_BEST])]
            score = log_polar.correlate(spectra, row, others).score
            best = np.argsort(-score, kind="stable")[:3]
            self.advance("comparing again", 1)
            return Pairs(np.full(len(best), row), others[best], score[best])

        return concatenate(list(self.pool.map(most_similar, lonely.tolist(), further)))

    def _add_spectra(self, spectra: log_polar.Spectra, *rows: Rows) -> None:
        """Make the spectra of these rows, or, in the first search, of all."""
        used = np.unique(np.concatenate(rows)) if self.known is not None else np.arange(self.n)
        list(self.pool.map(spectra.add, np.array_split(used, max(1, len(used) // 256))))

    def _open_neighbors(self) -> Pairs:
        """Return the neighbours in different groups, each pair once, by first row."""
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

    def _link(self, candidates: Pairs, test: Register, threshold: float, stage: str, failures_of_image: int) -> None:
        """Test candidates, the best of every group first, until no test could change the groups."""
        pending = candidates.at(np.argsort(-candidates.score, kind="stable"))
        failed = concatenate([])
        failures, rejections = np.zeros(self.n, np.intp), np.zeros(self.n, np.intp)
        while len(pending.first):
            first, second = pending.first, pending.second
            exhausted, counts = np.unique(self._key(failed), return_counts=True)
            keep = (failures[first] < failures_of_image) & (failures[second] < failures_of_image)
            keep &= self.groups[first] != self.groups[second]
            keep &= ~np.isin(self._key(pending), exhausted[counts >= _FAILURES_OF_PAIR])
            pending = pending.at(keep)
            if not len(pending.first):
                break
            # the best pair of every group, so that a group is tested again only after its first result
            ends = self.groups[pending.first], self.groups[pending.second]
            best = np.union1d(*(np.unique(groups, return_index=True)[1] for groups in ends))
            best = best[np.unique(self._key(pending.at(best)), return_index=True)[1]]
            chosen = pending.at(best)
            registered = test(chosen.first, chosen.second)
            chosen = chosen._replace(score=registered.score)
            self.tested += len(best)
            self.advance(stage, len(best))
            accepted = self._accepted(chosen, registered, threshold, rejections)
            self._join(chosen.at(accepted))
            refused = chosen.at(~accepted)
            failed = concatenate([failed, refused])
            np.add.at(failures, refused.first, 1)
            np.add.at(failures, refused.second, 1)
            pending = pending.at(np.setdiff1d(np.arange(len(pending.first)), best))

    def _accepted(
        self, pairs: Pairs, registered: Registration, threshold: float, rejections: Rows
    ) -> npt.NDArray[np.bool_]:
        """Return which pairs are near-duplicates, by their signatures or, in case of doubt, by the images."""
        doubtful = self.tests.in_doubt(pairs.score, threshold)
        exhausted = np.maximum(rejections[pairs.first], rejections[pairs.second]) >= _REJECTIONS
        verifiable = np.flatnonzero(doubtful & ~exhausted)
        if len(verifiable) and not self.tests.learned:
            if self.known is not None:
                raise UnknownThresholdError
            self.thresholds = self.thresholds._replace(images=self.tests.threshold_on_images())
        verifiable, tested = self._verified(
            verifiable[np.argsort(-pairs.score[verifiable], kind="stable")], pairs, registered
        )
        agree = tested.score >= self.thresholds.images
        unreadable = np.isnan(tested.score)
        refused = tested.at(~agree & ~unreadable)
        self.verified.append(tested.at(agree))
        self.rejected.append(refused)
        for side in (refused.first, refused.second):
            np.add.at(rejections, side, 1)

        by_signature = ~doubtful
        by_signature[verifiable[unreadable]] = True
        limit = np.full(len(doubtful), threshold)
        limit[verifiable[unreadable]] = max(self.thresholds.centred, self.thresholds.shifted)
        accepted: npt.NDArray[np.bool_] = by_signature & (pairs.score >= limit)
        self.links.append(pairs.at(accepted))
        self.doubtful += near_decisions(pairs.at(by_signature), threshold, DOUBT, False)
        self.doubtful += near_decisions(tested.at(~unreadable), self.thresholds.images, DOUBT, True)
        accepted[verifiable[agree]] = True
        return accepted

    def _verified(self, verifiable: Rows, pairs: Pairs, registered: Registration) -> tuple[Rows, Pairs]:
        """Compare pictures, the likeliest pairs first; return the indices of the pairs, and their agreement."""
        parts: list[Pairs] = []
        in_a_row = 0
        for start in range(0, len(verifiable), _READ_TOGETHER):
            if in_a_row >= _IN_A_ROW or (self.verifiable >= _HOPELESS and not self.agreeing):
                verifiable = verifiable[:start]
                break
            chosen = verifiable[start : start + _READ_TOGETHER]
            rows = pairs.first[chosen], pairs.second[chosen]
            part = Pairs(*rows, self.tests.verify(*rows, registered.at(chosen)))
            readable = part.score[~np.isnan(part.score)]
            agreeing = np.flatnonzero(readable >= self.thresholds.images)
            self.verifiable += len(readable)
            self.agreeing += len(agreeing)
            in_a_row = len(readable) - 1 - int(agreeing[-1]) if len(agreeing) else in_a_row + len(readable)
            parts.append(part)
        return verifiable, concatenate(parts)

    def _key(self, pairs: Pairs) -> npt.NDArray[np.int64]:
        """Return a number for the two groups of each pair, in any order."""
        one, other = self.groups[pairs.first].astype(np.int64), self.groups[pairs.second].astype(np.int64)
        key: npt.NDArray[np.int64] = np.minimum(one, other) * self.n + np.maximum(one, other)
        return key

    def _join(self, pairs: Pairs) -> None:
        from scipy import sparse
        from scipy.sparse.csgraph import connected_components

        one, other = self.groups[pairs.first], self.groups[pairs.second]
        graph = sparse.coo_array((np.ones(len(one), np.int8), (one, other)), shape=(self.n, self.n))
        self.groups = connected_components(graph, directed=False)[1].astype(np.intp)[self.groups]
