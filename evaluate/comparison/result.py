"""Result of a comparison of heads, as `embedonce.compare` returns it."""

from __future__ import annotations

from pathlib import Path

from ..report import save_comparison
from ..scoring import ComparisonData


class Comparison(ComparisonData):
    """Heads that were trained and tested on the same rows."""

    def save(self, folder: Path | str, *, maps: bool = False) -> list[Path]:
        """Write everything into a folder: see :func:`embedonce.evaluate.report.save.save_comparison`."""
        return save_comparison(self, folder, maps=maps)
