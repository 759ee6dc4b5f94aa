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
    these results. A run that only repeats results does not count.
    """

    ledger: str
    test_images: int
    runs: int
    results: int

    @property
    def text(self) -> str:
        """The numbers in sentences; empty if there are no earlier runs."""
        if not self.runs:
            return ""
        runs, images = counted(self.runs, "earlier run(s) (has|have)"), counted(self.test_images, "test image(s)")
        return (
            f"{runs} scored these {images}, with {counted(self.results, 'other result(s)')}. The best of all these "
            "scores is too high by chance. Confirm a choice among them on other images."
        )

    @property
    def warning(self) -> str:
        """`text` if there are more than a few earlier runs."""
        return self.text if self.runs >= FEW else ""
