"""Shortcuts: how well classes can be told apart by what no object shows, such as the sizes of the image files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ...cache import display
from ..metrics import METRICS
from ..shared import Record, Records, TextTable, format_interval, format_number, percent

NEAR = 0.9
"""Fraction of what the best head gains over the majority rate, from which on a family comes near it."""

_PLURAL = ("JPEG quantisation tables", "camera and software", "chroma subsampling and colour type")
_OF_FILES = "the classes differ in how the files were made"
_OF_PICTURES = {
    "border": "the classes differ at the border of the images",
    "mean brightness": "the classes differ in brightness, and no object is needed to tell them apart",
    "mean colour": "the classes differ in colour, and no object is needed to tell them apart",
    "8 x 8 thumbnail": "the classes differ in their coarse brightness, and no detail is needed to tell them apart",
}
"""What a finding means, by family; that of other families is about the files."""


@dataclass(frozen=True)
class ShortcutScore(Record):
    """Score on the test images of a small classifier that knows one family of values alone.

    ``label`` is None, or the class that is told from all others. ``classifier`` is ``forest`` or ``logreg``, the better
    one. ``low`` and ``high`` are ends of the 95 % confidence interval of ``score``. ``best`` is the score of the best
    head, and ``near`` is whether the family comes near it: see `ShortcutAudit`.
    """

    family: str
    label: str | None
    classifier: str
    metric: str
    score: float
    low: float
    high: float
    best: float
    near: bool


@dataclass(frozen=True, eq=False)
class ShortcutAudit:
    """Scores of all families of values that hold no object, and whether one of them comes near the best head.

    A family comes near if it reaches 90 % of what the best head gains over the majority rate, and is above ``chance``.

    Attributes
    ----------
    scores : Records of ShortcutScore
        The highest first.
    classes : Records of ShortcutScore
        Other families that come near the best head in telling one class from all others, of three classes or more, by
        balanced accuracy; without brightness, colour and thumbnail. The highest first.
    head : str
        The best head.
    best : float
        Its score; with repeats, that of the first.
    majority : float
        Score of the most frequent class of the test images, if it is predicted for every image.
    chance : pair of float
        Band of the highest score of all families by chance: it holds 95 % of those of shuffled classes, in which whole
        groups are shuffled.
    constant : tuple of str
        Families that are equal for all images.
    left_out : tuple of str
        Sentences on families that could not be scored.

    See Also
    --------
    embedonce.compare : Its parameter ``shortcuts``.
    """

    scores: Records[ShortcutScore]
    classes: Records[ShortcutScore]
    head: str
    best: float
    majority: float
    chance: tuple[float, float]
    constant: tuple[str, ...] = ()
    left_out: tuple[str, ...] = field(default_factory=tuple)

    @property
    def findings(self) -> list[ShortcutScore]:
        """The families that come near the best head, the highest first; those for one class if no others do."""
        return [row for row in self.scores if row.near] or list(self.classes)

    @property
    def sentence(self) -> str:
        """What was found, without full stop; empty if no family comes near the best head."""
        if not self.findings:
            return ""
        first = self.findings[0]
        plural, score = first.family in _PLURAL, f"{percent(first.score)} {METRICS[first.metric].title}"
        if first.label is None:
            text = f"{first.family} alone {'reach' if plural else 'reaches'} {score}"
        else:
            text = f"{first.family} alone {'tell' if plural else 'tells'} {display(first.label)} from the other classes"
            text += f" with {score}"
        others = [row for row in self.findings[1:3] if row.label == first.label]
        text += "".join(f", {row.family} {percent(row.score)}" for row in others)
        return f"{text}, the best head {percent(first.best)}: {_OF_PICTURES.get(first.family, _OF_FILES)}"

    def table(self, *, page: bool = False) -> TextTable:
        """Return the scores as text, a line per family, those of a page in percent."""
        number = percent if page else format_number
        rows = []
        for row in (*self.scores, *self.classes):
            name = row.family if row.label is None else f"{row.family}: {display(row.label)} or another class"
            interval = format_interval(row.low, row.high, as_percent=page)
            cells = [name, METRICS[row.metric].title, number(row.score), interval, number(row.best), row.classifier]
            rows.append(cells)
        return TextTable(["family", "metric", "score", "95 % interval", "best head", "classifier"], rows)

    def to_dict(self) -> dict[str, Any]:
        """Return all values as JSON-serialisable ones."""
        return {
            "families": self.scores.to_dict(),
            "classes": self.classes.to_dict(),
            "head": self.head,
            "best": self.best,
            "majority": self.majority,
            "chance": list(self.chance),
            "constant": list(self.constant),
            "left_out": list(self.left_out),
            "sentence": self.sentence,
        }

    def to_frame(self) -> Any:
        """Return ``scores`` as a pandas DataFrame, a line per family."""
        return self.scores.to_frame()

    def __repr__(self) -> str:
        finding = self.sentence or "no family comes near the best head"
        return f"<ShortcutAudit of {len(self.scores)} families: {finding}>"

    def _repr_html_(self) -> str:
        return self.scores._repr_html_()
