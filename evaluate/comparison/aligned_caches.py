"""Several caches of one comparison: the same images in each, and a name for each."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache import (
    FeatureCache,
    counted,
    display,
    format_examples,
    open_cache,
    unread,
    with_features_of,
)
from ...errors import EmbedonceError, ParameterError, SplitError, first_line
from ...extract import ExtractionSpeed, Progress, measure_extraction, precision_of
from ...extract.backbone import multiply_accumulates
from ...heads.numerics import shared
from ..duplicates import groups_for
from ..scoring import CacheScore, ComparisonData
from ..shared import Records
from ..splits import Groups, GroupsLike, SplitLike

Rows = npt.NDArray[np.intp]
_COSTS = {"alpha", "image_size", "dtype", "weights_sha256", "quantized_model_sha256"}
"""Fields of a fingerprint that the name and the cost of a cache tell."""


@dataclass(frozen=True, eq=False)
class AlignedCache:
    """A cache of a comparison: its parts, whose features are joined, and their row of every image.

    ``about`` is what tells it from the others, if ``name`` does not. ``whole`` is the cache itself if it has exactly
    the compared images. It is ``temporary`` if only the comparison uses it.
    """

    name: str
    about: str
    parts: tuple[tuple[FeatureCache, Rows], ...]
    whole: FeatureCache | None
    temporary: bool

    @property
    def files(self) -> tuple[str, ...]:
        """The paths of the parts, printable."""
        return tuple(part.display_path for part, _ in self.parts)


@dataclass(frozen=True, eq=False)
class AlignedCaches:
    """The images that all caches of a comparison have, in the order of the first one.

    ``first`` is the first cache, or the first part of it, with all its labelled images; ``rows`` are those of the
    compared images, and ``cache`` has these with the features of the first cache. ``paths`` are those of all caches on
    disk, the first one's first.
    """

    first: FeatureCache
    rows: Rows
    cache: FeatureCache
    caches: tuple[AlignedCache, ...]
    paths: tuple[Path, ...]
    notes: tuple[str, ...] = ()

    @property
    def is_plain(self) -> bool:
        """True for one cache whose features are not joined."""
        return len(self.caches) == 1 and len(self.caches[0].parts) == 1

    @property
    def is_narrowed(self) -> bool:
        """True if images of the first cache are left out."""
        return len(self.rows) < len(self.first)

    @property
    def digests(self) -> Any:
        """The digest of the cache, or those of the parts of every cache."""
        return self.cache.digest if self.is_plain else [[part.digest for part, _ in one.parts] for one in self.caches]

    def result_names(self, heads: Iterable[str]) -> list[dict[str, str]]:
        """Return for each cache the name of the result of each head."""
        heads, several = list(heads), len(self.caches) > 1
        return [{head: f"{head} on {one.name}" if several else head for head in heads} for one in self.caches]

    def open(self, number: int) -> FeatureCache:
        """Return the compared images with the features of a cache, which are read when they are first asked for."""
        chosen = self.caches[number]
        if number == 0:
            return self.cache
        if chosen.whole is not None:
            return unread(chosen.whole) if chosen.temporary else chosen.whole
        return with_features_of(self.first, self.rows, chosen.parts)

    def groups_for(
        self, groups: GroupsLike | None, split: SplitLike | None, progress: Progress
    ) -> tuple[Groups | None, list[str]]:
        """Return the groups of the compared images, and notes; near-duplicates are those of the first cache."""
        if isinstance(groups, Groups) and list(groups.paths) == self.cache.paths:
            return groups, list(groups.notes)
        known, notes = groups_for(self.first, groups, split, progress)
        if known is None or not self.is_narrowed:
            return known, notes

        def narrow() -> Groups:
            return replace(known, paths=self.cache.paths, names=[known.names[row] for row in self.rows.tolist()])

        return shared(("groups", id(known), id(self)), narrow), notes

    def check_split(self, split: Any) -> None:
        """Raise SplitError for row numbers, if those of the compared images are others than those of the cache."""
        fits = split is None or isinstance(split, str | os.PathLike) or callable(getattr(split, "split", None))
        if self.is_narrowed and not fits:
            raise SplitError(
                "parameter split of compare must be random, grouped, a file, a column or a splitter if the caches have "
                f"different images, got {type(split).__name__} of row numbers. Write it to a file"
            )

    def require_plain(self, name: str, value: Any) -> None:
        """Raise ParameterError if an option that needs one cache is given."""
        if not self.is_plain and value not in (None, (), []):
            raise ParameterError(
                f"parameter {name} of compare must not be given with several caches, got {value!r}. Compare the heads "
                "on one cache with it"
            )


def open_caches(cache: Any) -> AlignedCaches:
    """Open the caches of a comparison, which are a cache, its path, or a sequence of them, and align their images."""
    if isinstance(cache, AlignedCaches):
        return cache
    opened: dict[Path, FeatureCache] = {}
    given = [_open(one, opened) for one in (cache if isinstance(cache, list | tuple) else [cache])]
    if not given:
        raise ParameterError("parameter cache of compare must have at least one cache, got none")
    _check_each_once(given)
    paths = tuple(dict.fromkeys(part.source for parts in given for part in parts if part.source is not None))
    first = given[0][0].labelled("compare")
    given = [[first if part is given[0][0] else part for part in parts] for parts in given]
    if len(given) == 1 and len(given[0]) == 1:
        rows = np.arange(len(first))
        return AlignedCaches(first, rows, first, (AlignedCache("", "", ((first, rows),), first, False),), paths)
    return _align(first, given, paths, [id(part) for part in opened.values()])


def _open(cache: Any, opened: dict[Path, FeatureCache]) -> list[FeatureCache]:
    """Return the parts of a cache; those that are paths are added to ``opened``, each once."""
    if isinstance(cache, list | tuple):
        return [part for one in cache for part in _open(one, opened)]
    text = os.fspath(cache) if isinstance(cache, str | os.PathLike) else b""
    if isinstance(cache, FeatureCache) or not isinstance(text, str):
        return [open_cache(cache, "compare")]
    parts = []
    for path in split_paths(text):
        place = Path(path).resolve()
        if place not in opened:
            opened[place] = open_cache(path, "compare")
        parts.append(opened[place])
    return parts


def split_paths(text: str) -> list[str]:
    """Return the paths in ``a.h5+b.h5``; a plus in the name of an existing file or folder does not divide."""
    if os.path.exists(text):
        return [text]
    for place in (place for place, character in enumerate(text) if character == "+"):
        if os.path.exists(text[:place]):
            return [text[:place], *split_paths(text[place + 1 :])]
    return [text]


def _check_each_once(given: Sequence[Sequence[FeatureCache]]) -> None:
    seen: set[tuple[int, ...]] = set()
    for parts in given:
        if not parts:
            raise ParameterError("parameter cache of compare must join at least one cache, got none")
        key = tuple(map(id, parts))
        if key in seen or len(set(key)) < len(key):
            name = " + ".join(map(_called, parts))
            raise ParameterError(f"parameter cache of compare must have each cache once, got {name} twice")
        seen.add(key)


def _align(
    first: FeatureCache, given: Sequence[Sequence[FeatureCache]], paths: tuple[Path, ...], opened_here: Sequence[int]
) -> AlignedCaches:
    """Return the images that all caches have; ``opened_here`` are ids of caches that only the comparison uses."""
    others = list({id(part): part for parts in given for part in parts if part is not first}.values())
    matched = {id(first): np.arange(len(first))} | {id(other): _rows_in(other, first) for other in others}
    rows = np.flatnonzero(np.logical_and.reduce([found >= 0 for found in matched.values()]))
    if not len(rows):
        alone = [other for other in others if (matched[id(other)] < 0).all()]
        got = f"{_called(alone[0])} without an image of {_called(first)}" if alone else "none that all of them have"
        by_path = any(_by_path(first, other) for other in alone[:1])
        advice = "Features from arrays need the paths of the images" if by_path else "Score other images with external"
        raise ParameterError(f"parameter cache of compare must be caches of the same images, got {got}. {advice}")
    narrowed = {key: found[rows] for key, found in matched.items()}
    notes = []
    for cache in (first, *others):
        _check_labels(first, rows, cache, narrowed[id(cache)])
        count, example = _left_out(cache, narrowed[id(cache)])
        if count:
            text = counted(count, "image(s) (is|are) not in every cache and (is|are) left out")
            notes.append(f"{text} of {_called(cache)}, such as {display(example)}")
    caches = []
    for (name, about), parts in zip(_names(given), given, strict=True):
        whole = parts[0] if len(parts) == 1 and _is_same(first, parts[0], narrowed[id(parts[0])]) else None
        aligned = tuple((part, narrowed[id(part)]) for part in parts)
        caches.append(AlignedCache(name, about, aligned, whole, all(id(part) in opened_here for part in parts)))
    notes += _note_on_other_differences([part.fingerprint for parts in given for part in parts])
    cache = caches[0].whole or with_features_of(first, rows, caches[0].parts)
    return AlignedCaches(first, rows, cache, tuple(caches), paths, tuple(notes))


def _called(cache: FeatureCache) -> str:
    return "the cache in memory" if cache.source is None else cache.display_path


def _keys(cache: FeatureCache, by_path: bool) -> list[Any]:
    return cache.paths if by_path else [digest.tobytes() for digest in cache.files.hashes]


def _by_path(first: FeatureCache, other: FeatureCache) -> bool:
    """Return whether images are matched by path: the content hash of features from arrays is that of the features."""
    return not (first.files.sizes.any() and other.files.sizes.any())


def _rows_in(other: FeatureCache, first: FeatureCache) -> Rows:
    """Return the row of another cache that has the content of each row of the first, -1 where there is none."""
    by_path = _by_path(first, other)
    if first.paths == other.paths and (by_path or np.array_equal(first.files.hashes, other.files.hashes)):
        return np.arange(len(first))
    row_of: dict[Any, int] = {}
    for row, key in enumerate(_keys(other, by_path)):
        row_of.setdefault(key, row)
    return np.array([row_of.get(key, -1) for key in _keys(first, by_path)], np.intp)


def _left_out(cache: FeatureCache, rows: Rows) -> tuple[int, str]:
    """Return the number of images of a cache whose content is in none of some rows, and one of their paths."""
    contents = {cache.files.hashes[row].tobytes() for row in rows.tolist()}
    kept = np.array([digest.tobytes() in contents for digest in cache.files.hashes], np.bool_)
    return int((~kept).sum()), "" if kept.all() else cache.paths[int(kept.argmin())]


def _check_labels(first: FeatureCache, rows: Rows, other: FeatureCache, other_rows: Rows) -> None:
    """Raise ParameterError if images have other labels in another cache; it may have none."""
    ours, theirs = first.label_names[rows], other.label_names[other_rows]
    differing = np.flatnonzero((ours != theirs) & (theirs != ""))
    if not len(differing):
        return
    # one content may be in a cache under two labels
    contents = [digest.tobytes() for digest in other.files.hashes]
    labels: dict[bytes, set[str]] = {}
    for content, label in zip(contents, other.label_names.tolist(), strict=True):
        labels.setdefault(content, set()).add(label)
    differing = np.array([at for at in differing.tolist() if ours[at] not in labels[contents[other_rows[at]]]], np.intp)
    if len(differing):
        examples = [f"{first.paths[rows[at]]} ({ours[at]}, {theirs[at]})" for at in differing[:3].tolist()]
        examples += [""] * (len(differing) > 3)  # which is not shown
        raise ParameterError(
            f"parameter cache of compare must be caches with the same labels, but {len(differing):,} of the "
            f"{len(rows):,} shared images have another one in {_called(other)} than in {_called(first)}: "
            f"{format_examples(examples)}. Change labels with: embedonce label CACHE --labels FILE"
        )


def _is_same(first: FeatureCache, cache: FeatureCache, rows: Rows) -> bool:
    """Return whether a cache has the images of the first one in the same order, with the same labels."""
    return (
        np.array_equal(rows, np.arange(len(first)))
        and cache.paths == first.paths
        and cache.class_names == first.class_names
        and np.array_equal(cache.labels, first.labels)
    )


def _names(caches: Sequence[Sequence[FeatureCache]]) -> list[tuple[str, str]]:
    """Return a short name of each cache, and what tells its features from the others: width, image size, precision.

    The name is the latter if caches differ in one of these, and else that of its file.
    """
    parts = list({id(part): part for joined in caches for part in joined}.values())
    about = [
        (part.fingerprint.get("alpha"), part.fingerprint.get("image_size"), precision_of(part.fingerprint))
        for part in parts
    ]
    differ = [len(set(values)) > 1 for values in zip(*about, strict=True)]
    names = [part.source.stem if part.source else f"cache {number}" for number, part in enumerate(parts, 1)]
    if len(set(names)) < len(names):
        names = [part.display_path if part.source else name for part, name in zip(parts, names, strict=True)]
    texts = [""] * len(parts)
    if all(alpha and size for alpha, size, _ in about):
        words = [(f"alpha {alpha}", f"{size} px", precision) for alpha, size, precision in about]
        texts = [", ".join(itertools.compress(one, differ)) for one in words]
    if sum(differ) == 1 and len(set(texts)) == len(texts):
        names, texts = texts, [""] * len(parts)
    name_of, text_of = ({id(part): text for part, text in zip(parts, each, strict=True)} for each in (names, texts))
    return [
        (
            " + ".join(name_of[id(part)] for part in joined),
            text_of[id(joined[0])] if len(joined) == 1 else "",
        )
        for joined in caches
    ]


def _note_on_other_differences(fingerprints: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a note if features differ in more than the width, the image size and the precision."""
    ignored = set(_COSTS)
    alphas: dict[Any, set[Any]] = {}
    for one in fingerprints:
        alphas.setdefault(one.get("alpha"), set()).add(one.get("weights_sha256"))
    if any(len(weights) > 1 for weights in alphas.values()):
        ignored.discard("weights_sha256")
    keys = dict.fromkeys(key for one in fingerprints for key in one)
    differing = [key for key in keys if key not in ignored and len({str(one.get(key)) for one in fingerprints}) > 1]
    if not differing:
        return []
    return [f"the features of the caches also differ in {', '.join(map(display, differing)).replace('_', ' ')}"]


def score_caches(
    comparison: ComparisonData, aligned: AlignedCaches, names: Sequence[Mapping[str, str]], progress: Progress
) -> tuple[Records[CacheScore], list[str]]:
    """Return the cost and the best score of each cache, the best first, and notes.

    ``names`` has for each cache the name of the result of each head.
    """
    speeds, notes = _measure([part for one in aligned.caches for part, _ in one.parts], progress)
    scores = []
    for one, by_head in zip(aligned.caches, names, strict=True):
        results = [result for result in comparison.table if result.name in by_head.values()]
        if not results:
            continue  # every head failed, which notes say
        best, metric = results[0], comparison.ranked_by
        of_parts = [speeds[id(part)] for part, _ in one.parts]
        costs = [_multiply_accumulates(part) for part, _ in one.parts]
        width = sum(part.shape[1] for part, _ in one.parts)
        fingerprints = [part.fingerprint for part, _ in one.parts]
        score = CacheScore(
            name=one.name,
            about=one.about,
            files=one.files,
            features=width,
            feature_bytes=4 * width * len(aligned.rows),
            multiply_accumulates=None if None in costs else sum(cost for cost in costs if cost is not None),
            image_seconds=None
            if None in of_parts
            else sum(each.image_seconds for each in of_parts if each is not None),
            engines=tuple(dict.fromkeys(each.engine for each in of_parts if each is not None)),
            heads={head: name for head, name in by_head.items() if any(name == result.name for result in results)},
            best=best.name,
            metric=metric,
            score=float(best.scores[metric]),
            low=best.intervals.get(metric, (None, None))[0],
            high=best.intervals.get(metric, (None, None))[1],
            predict_seconds=best.predict_seconds,
            weights=tuple(str(part.provenance.get("weights", "")) for part, _ in one.parts),
            fingerprint=fingerprints[0] if len(fingerprints) == 1 else {"source": "caches", "parts": fingerprints},
        )
        scores.append(score)
    order = [result.name for result in comparison.table]
    return Records(sorted(scores, key=lambda score: order.index(score.best))), notes


def _measure(parts: Sequence[FeatureCache], progress: Progress) -> tuple[dict[int, ExtractionSpeed | None], list[str]]:
    """Return the speed of extraction of each cache by its id, None where it cannot be measured, and notes."""
    speeds: dict[int, ExtractionSpeed | None] = {}
    failures: dict[str, list[str]] = {}
    for part in {id(part): part for part in parts}.values():
        progress.now(f"measuring the extraction of {_called(part)} …")
        try:
            speeds[id(part)] = shared(("speed", id(part)), functools.partial(measure_extraction, part))
        except EmbedonceError as error:
            speeds[id(part)] = None
            failures.setdefault(first_line(error), []).append(_called(part))
    notes = [
        f"the speed of extraction was not measured for {', '.join(dict.fromkeys(names))}: {reason}"
        for reason, names in failures.items()
    ]
    return speeds, notes


def _multiply_accumulates(cache: FeatureCache) -> int | None:
    """Return those of the backbone for one image; None for features that embedonce did not make."""
    alpha, size = cache.fingerprint.get("alpha"), cache.fingerprint.get("image_size")
    if cache.fingerprint.get("architecture") != "MobileNetV2" or not isinstance(size, int):
        return None
    return multiply_accumulates(alpha, size) if isinstance(alpha, int | float) else None
