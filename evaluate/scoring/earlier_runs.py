"""Earlier runs that scored the same test images."""

from __future__ import annotations

from dataclasses import dataclass

from ...cache import counted
from ..shared import Record

FEW = 5
"""From this number of earlier runs on, a run says in the terminal how many there were."""


@dataclass(frozen=True)
class EarlierRuns(Record):
    """Earlier runs that scored the same test images.

    ``runs`` is the number of runs with a result that no run before them and not this one has, ``results`` the number of
    these results. A run that only repeats results does not count. ``changed`` is the number of such runs on other test
    images, before images were added to the cache or removed.
    """

    ledger: str
    test_images: int
    runs: int
    results: int
    changed: int

    @property
    def text(self) -> str:
        """The numbers in sentences, of more than a few runs with advice; empty if there are none."""
        sentences = []
        if self.runs:
            runs, images = counted(self.runs, "earlier run(s) (has|have)"), counted(self.test_images, "test image(s)")
            sentences.append(f"{runs} scored these {images}, with {counted(self.results, 'other result(s)')}.")
        if self.changed:
            runs = counted(self.changed, "run(s)")
            sentences.append(
                f"Before the images of the cache changed, {runs} scored test images that may be among these."
            )
        if self._is_many:
            sentences.append("The best of all these scores is too high by chance.")
            sentences.append("Confirm a choice among them on other images.")
        return " ".join(sentences)

    @property
    def warning(self) -> str:
        """`text` if there are more than a few earlier runs."""
        return self.text if self._is_many else ""

    @property
    def _is_many(self) -> bool:
        return self.runs + self.changed >= FEW
