"""Scores and costs of several caches of one comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...cache import display
from ..metrics import METRICS, HeadDifference
from ..shared import Record, TextTable, format_interval, format_number, format_p, format_points, format_seconds, percent
from .results import ComparisonData

_MOST_HEADS = 4  # that have a column


@dataclass(frozen=True)
class CacheScore(Record):
    """Score of the best head on one of several caches, and the costs of its features.

    ``about`` tells its features from those of the others, if ``name`` does not. ``best`` is the name of the result, and
    ``heads`` has that of each head. ``low`` and ``high`` are ends of the 95 % confidence interval of ``score``, that of
    ``metric``. ``feature_bytes`` is the size of the features of the compared images. ``multiply_accumulates`` are those
    of the backbone for one image. ``image_seconds`` is the time of extraction per image, measured on the machine of the
    comparison with ``engines``; None if it could not be measured. Those of joined caches are sums.
    ``weights`` are the names of the files.
    """

    name: str
    about: str
    files: tuple[str, ...]
    features: int
    feature_bytes: int
    multiply_accumulates: int | None
    image_seconds: float | None
    engines: tuple[str, ...]
    heads: Mapping[str, str]
    best: str
    metric: str
    score: float
    low: float | None
    high: float | None
    predict_seconds: float
    weights: tuple[str, ...]
    fingerprint: dict[str, Any]

    @property
    def best_head(self) -> str:
        """Name of the best head, without that of the cache."""
        return next(head for head, name in self.heads.items() if name == self.best)


def cache_table(comparison: ComparisonData, *, page: bool = False) -> TextTable:
    """Return a line for each cache, the best first: scores of the heads, and costs; those of a page in percent."""
    metric = METRICS[comparison.ranked_by]
    number = percent if page else format_number
    heads = list(dict.fromkeys(head for one in comparison.caches for head in one.heads))
    several = 1 < len(heads) <= _MOST_HEADS
    scores = {result.name: number(result.scores[metric.name]) for result in comparison.results}
    rows = []
    for one in comparison.caches:
        cells = [display(one.name)]
        if several:
            cells += [scores[one.heads[head]] if head in one.heads else "-" for head in heads]
        else:
            cells += [display(one.best_head), number(one.score)]
        cells += ["-" if one.image_seconds is None else f"{_rounded(1 / one.image_seconds):,}"]
        cells += ["-" if one.multiply_accumulates is None else f"{one.multiply_accumulates / 1e6:,.0f}"]
        cells += [f"{one.features:,}", f"{one.feature_bytes / 1e6:,.1f}"]
        cells += [format_seconds(one.predict_seconds) if page else f"{one.predict_seconds:.2f}"]
        if not several:
            cells.append(format_interval(one.low, one.high, as_percent=page))
        rows.append(cells)
    titles = list(map(display, heads)) if several else ["best head", metric.title if page else metric.column]
    titles = ["cache", *titles, "images/s", "MMACs", "features", "MB", "predict" if page else "predict s"]
    return TextTable(titles if several else [*titles, "95 % interval"], rows)


def cache_table_legend(comparison: ComparisonData) -> str:
    """Return what the columns of `cache_table` are, in sentences."""
    engines = sorted({engine for one in comparison.caches for engine in one.engines})
    text = f"Scores are {METRICS[comparison.ranked_by].title}. "
    if engines:
        text += f"images/s: extraction of some of the images, measured on this machine (engine {', '.join(engines)}). "
    about = [f"{display(one.name)}: {one.about}" for one in comparison.caches if one.about]
    text = f"{'; '.join(about)}. {text}" if about else text
    text += "MMACs: million multiply-accumulates of the backbone per image. MB: size of the features. "
    return f"{text}predict: time of the best head for {len(comparison.split.test):,} images."


def cache_sentences(comparison: ComparisonData, *, of_best: bool = False) -> list[str]:
    """Return what each cache brings over the next cheaper one, and what it costs, in sentences, the cheapest first.

    If costs are not known, the best cache is compared with each other one. With ``of_best``, only those on it.
    """
    caches = list(comparison.caches)
    unit, costs = _costs(caches)
    pairs = [(caches[0], other) for other in caches[1:]]
    if costs:
        caches.sort(key=lambda one: costs[one.name])
        pairs = list(zip(caches[1:], caches, strict=False))
    tests = {frozenset((row.a, row.b)): row for row in comparison.differences}
    return [
        _sentence(one, other, row, f"costs {costs[one.name] / costs[other.name]:.1f} times {unit}" if costs else "")
        for one, other in pairs
        if not of_best or comparison.caches[0] in (one, other)
        if (row := tests.get(frozenset((one.best, other.best)))) is not None
    ]


def _costs(caches: Sequence[CacheScore]) -> tuple[str, dict[str, float]]:
    """Return what is counted, and the cost of each cache; nothing if one is not known."""
    times = {one.name: one.image_seconds for one in caches if one.image_seconds is not None}
    if len(times) == len(caches):
        return "the time of extraction", times
    counts = {one.name: float(one.multiply_accumulates) for one in caches if one.multiply_accumulates is not None}
    return "the multiply-accumulates", counts if len(counts) == len(caches) else {}


def _sentence(one: CacheScore, other: CacheScore, row: HeadDifference, cost: str) -> str:
    sign = 1 if row.a == one.best else -1
    low, high = sorted((sign * row.low, sign * row.high))
    same = one.best_head == other.best_head
    names = [display(each.name) + ("" if same else f" ({display(each.best_head)})") for each in (one, other)]
    start = f"With {display(one.best_head)}, " if same else ""
    points = f"{format_points(sign * row.difference)} points of {METRICS[row.metric].title}"
    numbers = f"95 % interval {format_points(low, high)}, {format_p(row.p_holm, named=True)}"
    if row.verdict == "better" and sign > 0:
        text = f"{start}{names[0]} brings {points.removeprefix('+')} over {names[1]} ({numbers})"
        return f"{text} and {cost}." if cost else f"{text}."
    corrected = " after correction for all pairs" if low > 0 or high < 0 else ""
    texts = {
        "better": f"{names[0]} is worse than {names[1]} ({points}, {numbers})",
        "practically tied": f"{names[0]} and {names[1]} are practically tied ({points}, {numbers})",
    }
    text = f"{'there' if start else 'There'} is no significant difference between {names[0]} and {names[1]}"
    text = start + texts.get(row.verdict, f"{text} ({points}, {numbers}{corrected})")
    return f"{text}; {names[0]} {cost}." if cost else f"{text}."


def _rounded(rate: float) -> int:
    """Return a rate with two significant digits: the speed of machines varies."""
    return int(round(rate, min(0, 2 - len(str(int(rate))))))
