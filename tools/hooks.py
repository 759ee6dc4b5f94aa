"""Pages from the top of the repository: README.md is the first page of the site, and two others belong to it too."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "CONTRIBUTING.md", "CHANGELOG.md": "CHANGELOG.md"}


def on_files(files: Any, config: Any) -> Any:
    """Add them to the files of docs/."""
    from mkdocs.structure.files import File

    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=as_page((ROOT / source).read_text(encoding="utf-8"))))
    return files


def as_page(text: str) -> str:
    """Return a text of the top folder with the links that it needs in docs/, and none to files that it lacks."""
    text = text.replace("](docs/", "](")
    return re.sub(r"(?<!!)\[([^]]+)\]\((?:examples/|LICENSE)[^)]*\)", r"\1", text)
