"""Pages of the site from the top of the repository; README.md is its first page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "CONTRIBUTING.md", "CHANGELOG.md": "CHANGELOG.md"}


def on_files(files: Any, config: Any) -> Any:
    """Add the pages to the files of docs/; links to files outside docs/ become text."""
    from mkdocs.structure.files import File

    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8").replace("](docs/", "](")
        text = re.sub(r"(?<!!)\[([^]]+)\]\((?:examples/|LICENSE)[^)]*\)", r"\1", text)
        files.append(File.generated(config, page, content=text))
    return files
