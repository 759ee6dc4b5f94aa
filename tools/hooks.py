"""Hooks of mkdocs: pages from the top of the repository, and where the package is."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "CONTRIBUTING.md", "CHANGELOG.md": "CHANGELOG.md"}

FOLDER = tempfile.TemporaryDirectory()
(Path(FOLDER.name) / "embedonce").symlink_to(ROOT)


@event_priority(100)  # before mkdocstrings reads it
def on_config(config: Any) -> Any:
    """Let mkdocstrings find the package under its name, for any name of the checkout."""
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [FOLDER.name]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages to the files of docs/; links to files outside docs/ become text."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8").replace("](docs/", "](")
        text = re.sub(r"(?<!!)\[([^]]+)\]\((?:examples/|LICENSE)[^)]*\)", r"\1", text)
        files.append(File.generated(config, page, content=text))
    return files
