"""The first screen of the page: the best head, the leakage gap, and the command that follows."""

from __future__ import annotations

import shlex

from ...cache import display
from ..metrics import METRICS
from ..scoring import ComparisonData
from ..shared import format_interval, format_points, percent
from .follow_up import next_command


def best_head(comparison: ComparisonData) -> dict[str, str]:
    """Return the best head, its score and intervals as texts."""
    result, measure, corrected = comparison.table[0], comparison.ranked_by, comparison.best()
    best = {"head": display(result.name), "score": percent(result.scores[measure]), "interval": "", "corrected": ""}
    if measure in result.intervals:
        best["interval"] = format_interval(*result.intervals[measure], as_percent=True)
    if corrected is not None and corrected.heads > 1:
        ends = format_interval(corrected.low, corrected.high, as_percent=True)
        best["corrected"] = f"{percent(corrected.expected)} ({ends})"
    return best


def leakage(comparison: ComparisonData) -> dict[str, str]:
    """Return the leakage gap of the best head, ``gap``, and what it is; ``only`` is all that there is to say."""
    split, groups, best = comparison.split, comparison.groups, comparison.table[0].name
    gaps = comparison.leakage_gap
    if gaps:
        own = next((row for row in gaps if row.head == best), gaps[0])
        gap = f"{100 * own.gap:+.1f} points"
        text = f"{display(own.head)}: {percent(own.leaky)} on the {comparison.leaky_name} split"
        text += f", {percent(own.grouped)} on the grouped split"
        same = all(abs(row.gap) < 0.0005 for row in gaps)
        only = f"The {comparison.leaky_name} split overstates no score: every gap is 0.0 points." if same else ""
        interval = "" if own.low is None else f"95 % interval {format_points(own.low, own.high)}"
        return {"gap": gap, "interval": interval, "text": text, "only": only}
    found = groups is None or groups.source == "found"
    if split.method == "model":
        return _on_overlap(comparison)
    if groups is None:
        text = "groups of images that belong together are not known"
    elif len(groups) == len(groups.paths):
        alone = "no image has a near-duplicate" if found else "no two images are of one group"
        return {"gap": "none", "text": alone, "only": f"There is no leakage: {alone}."}
    else:
        leaked = (split.groups or {}).get("leak_share", 0.0)
        images = f"{percent(leaked)} of the test images have" if leaked else "no test image has"
        related = "a near-duplicate" if found else "an image of their group"
        text = f"only one split was tested; {images} {related} in training"
    return _not_measured(text)


def _not_measured(reason: str) -> dict[str, str]:
    return {"gap": "not measured", "text": reason, "only": f"The leakage gap was not measured: {reason}."}


def _on_overlap(comparison: ComparisonData) -> dict[str, str]:
    """Return the leakage gap of a trained model: its score on all images and on those that are not like training."""
    overlap, measure, (result,) = comparison.overlap, comparison.ranked_by, comparison.results
    if overlap is None:
        return _not_measured("it is not known which test images are like training images")
    if not overlap.images:
        text = f"no test image has {overlap.relation} in training"
        return {"gap": "none", "text": text, "only": f"There is no leakage gap: {text}."}
    if overlap.independent is None:
        return _not_measured(f"every test image has {overlap.relation} in training")
    scores = [one.scores[measure] for one in (result, overlap.independent)]
    text = f"{percent(scores[0])} on all test images, {percent(scores[1])} on the "
    text += f"{len(overlap.independent.predicted):,} without {overlap.relation} in training"
    gap = f"{100 * (scores[0] - scores[1]):+.1f} points"
    if measure in overlap.independent.intervals:
        text += f" (95 % interval {format_interval(*overlap.independent.intervals[measure], as_percent=True)})"
    return {"gap": gap, "text": text, "only": f"The leakage gap of the {METRICS[measure].title} is {gap}: {text}."}


def next_step(comparison: ComparisonData) -> str:
    """Return what to do next: a command, or a line of Python."""
    words = comparison.next_command or next_command(comparison)
    if words:
        return shlex.join(["embedonce", *words])
    return f"comparison.result({comparison.table[0].name!r}).save_model('best.joblib')"
