"""Scores of heads on images from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...cache import counted, display
from ..metrics import METRICS
from ..shared import Record, Records, TextTable, format_interval, format_number, format_p, format_points, percent
from .earlier_runs import EarlierRuns
from .results import HeadResult


@dataclass(frozen=True)
class ExternalScore(Record):
    """Score of one head on an external set, and its difference to the test part of the comparison.

    ``score`` is of the images that have no near-duplicate in training, ``score_of_all`` of all. ``difference`` is the
    external less the ``internal`` score; ``low`` and ``high`` are ends of 95 % confidence intervals. ``ece`` is the
    calibration error, and None for a head without probabilities.
    """

    head: str
    metric: str
    score: float
    low: float
    high: float
    internal: float
    difference: float
    difference_low: float
    difference_high: float
    p: float
    score_of_all: float
    ece: float | None
    internal_ece: float | None


@dataclass(frozen=True, eq=False)
class ExternalSet:
    """Scores of all heads on one external set.

    Attributes
    ----------
    name : str
        File of the cache, or column and value.
    scores : Records of ExternalScore
        The best head of the comparison first.
    results : list of HeadResult
        All scores, with intervals, of the images that are scored.
    images : int
        Number of the images of the classes of the comparison.
    near_duplicates : int
        Number of these that have a near-duplicate, or an image of their group, in training.
    relation : str
        What these have in training, in words.
    left_out : dict of str to int
        Images of the classes that the comparison does not have.
    fractions : dict of str to pair of float
        Fraction of each class among the training images and among these.
    unlike_training : float
        Fraction of the images that are farther from the training images than 99.9 % of them are from the others.
    of_all : list of HeadResult
        Scores of all images, if some have a near-duplicate in training.
    earlier : EarlierRuns or None
        Earlier runs that scored these images; None for a cache in memory.

    See Also
    --------
    embedonce.compare : Its parameter ``external``.
    """

    name: str
    scores: Records[ExternalScore]
    results: list[HeadResult]
    images: int
    near_duplicates: int
    relation: str
    left_out: Mapping[str, int]
    fractions: Mapping[str, tuple[float, float]]
    unlike_training: float
    of_all: list[HeadResult] = field(default_factory=list)
    earlier: EarlierRuns | None = None

    @property
    def sentences(self) -> list[str]:
        """What was scored, and how much the best head of the comparison differs, in sentences."""
        best, name = self.scores[0], display(self.name)
        scored = self.images - self.near_duplicates if self.of_all else self.images
        title = METRICS[best.metric].title
        text = (
            f"On {counted(scored, 'image(s)')} of {name}, {display(best.head)} reaches {percent(best.score)} {title} "
            f"(95 % interval {percent(best.low)} to {percent(best.high)})"
        )
        points = f"{100 * abs(best.difference):.1f} points {'less' if best.difference < 0 else 'more'} than"
        points = points if abs(best.difference) >= 0.0005 else "as much as"
        interval = format_points(best.difference_low, best.difference_high)
        ends = f"95 % interval {interval}, {format_p(best.p, named=True)}"
        verdict = "" if best.p < 0.05 else "; this is not a significant difference"
        sentences = [f"{text}, {points} on the test part ({ends}){verdict}."]
        if self.of_all:
            about = f"image(s) (has|have) {self.relation} in training and (is|are) left out"
            related = counted(self.near_duplicates, about)
            sentences.append(f"{related}; with them it is {percent(best.score_of_all)}.")
        elif self.near_duplicates:
            sentences.append(f"Every image has {self.relation} in training, so these scores are too high.")
        if self.left_out:
            counts = ", ".join(f"{display(label)} {count:,}" for label, count in self.left_out.items())
            number = counted(sum(self.left_out.values()), "image(s) of other classes (is|are) left out")
            sentences.append(f"{number}: {counts}.")
        shift = sum(abs(here - there) for there, here in self.fractions.values()) / 2
        if shift >= 0.1:
            label, (there, here) = max(self.fractions.items(), key=lambda item: abs(item[1][0] - item[1][1]))
            text = f"The classes have other frequencies, most of all {display(label)}"
            sentences.append(f"{text}: {percent(here)} instead of {percent(there)} of the training images.")
        if self.unlike_training >= 0.01:
            sentences.append(f"{percent(self.unlike_training)} of the images are unlike all training images.")
        if self.earlier is not None and self.earlier.warning:
            sentences.append(self.earlier.warning)
        return sentences

    def table(self, *, page: bool = False) -> TextTable:
        """Return the scores as text, a line per head, those of a page in percent."""
        metric = METRICS[self.scores[0].metric]
        titles = ["head", metric.title if page else metric.column, "95 % interval", "test part", "difference"]
        titles += ["95 % interval", "p"]
        if self.of_all:
            titles.append("all images")
        number = percent if page else format_number
        rows = []
        for row in self.scores:
            cells = [display(row.head), number(row.score), format_interval(row.low, row.high, as_percent=page)]
            if page:
                ends = [format_points(row.difference), format_points(row.difference_low, row.difference_high)]
            else:
                ends = [f"{row.difference:+.4f}", format_interval(row.difference_low, row.difference_high)]
            cells += [number(row.internal), *ends, format_p(row.p)]
            rows.append(cells + ([number(row.score_of_all)] if self.of_all else []))
        return TextTable(titles, rows)

    def to_dict(self) -> dict[str, Any]:
        """Return all values as JSON-serialisable ones."""
        heads = []
        of_all = {result.name: result for result in self.of_all}
        for row, result in zip(self.scores, self.results, strict=True):
            about = row.to_dict() | {"scores": result.scores, "intervals": result.intervals}
            if result.name in of_all:
                about["scores_of_all"] = of_all[result.name].scores
            heads.append(about)
        return {
            "name": self.name,
            "images": self.images,
            "near_duplicates": self.near_duplicates,
            "left_out": dict(self.left_out),
            "fractions": {name: list(pair) for name, pair in self.fractions.items()},
            "unlike_training": self.unlike_training,
            "heads": heads,
        } | ({} if self.earlier is None else {"earlier_runs": self.earlier.to_dict()})

    def to_frame(self) -> Any:
        """Return ``scores`` as a pandas DataFrame, a line per head."""
        return self.scores.to_frame()

    def __repr__(self) -> str:
        return f"<ExternalSet {display(self.name)}: {counted(self.images, 'image(s)')}>"

    def _repr_html_(self) -> str:
        return self.scores._repr_html_()
