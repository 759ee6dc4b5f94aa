"""Saving a comparison where a test reads its numbers only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from embedonce.evaluate import shared
from embedonce.evaluate.report import figures as report_figures
from embedonce.evaluate.report import html as report
from embedonce.evaluate.report import inline_images
from embedonce.evaluate.shared import plots


def _touch(figure: Any, *paths: Path) -> None:
    for path in paths:
        path.touch()


def _write_empty_figures(patch: pytest.MonkeyPatch) -> None:
    # the package keeps a name that was read from it; read it first, before it is another one
    for module in (shared, plots):
        patch.setattr(module, "save_figure", _touch)


@contextmanager
def without_pictures() -> Iterator[None]:
    """Save comparisons without figures and report: drawing them takes nearly all of the time."""
    with pytest.MonkeyPatch.context() as patch:
        _write_empty_figures(patch)
        patch.setattr(report, "write_report", lambda comparison, path, **options: path)
        patch.setattr(report_figures, "figures", lambda comparison: {})
        yield


@contextmanager
def with_empty_pictures() -> Iterator[None]:
    """Save comparisons with a report whose figures are made, but not rendered; their files are empty."""
    with pytest.MonkeyPatch.context() as patch:
        _write_empty_figures(patch)
        patch.setattr(report, "as_svg", lambda figure, name: "<svg></svg>")
        patch.setattr(inline_images, "svg_of_page", lambda text, name: "<svg></svg>")
        yield
