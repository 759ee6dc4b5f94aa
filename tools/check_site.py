"""Fail when a page of the built site (argument FOLDER) would fetch a file from another server."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

_ADDRESS = r"(?:https?:)?//[^\"'\s>)]+"
_FETCHED = re.compile(
    rf"<(?!a\b)[^>]*?\s(?:src|srcset|poster|data|action|xlink:href)\s*=\s*[\"']?({_ADDRESS})"
    rf"|<(?:image|use)\b[^>]*?\shref\s*=\s*[\"']?({_ADDRESS})"
    rf"|(?:url\(\s*[\"']?|@import\s+[\"'])({_ADDRESS})",
    flags=re.IGNORECASE,
)
_LINK = re.compile(r"<link\b[^>]*>", flags=re.IGNORECASE)
_NOT_FETCHED = re.compile(r"\brel\s*=\s*[\"']?(?:canonical|prev|next|alternate)\b", flags=re.IGNORECASE)


def fetched_addresses(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield every file below a folder and the address of another server that a browser would fetch for it."""
    for path in sorted(folder.rglob("*")):
        if path.suffix not in (".html", ".css", ".svg"):
            continue
        text = re.sub(r"<(code|pre)\b.*?</\1>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        for match in _FETCHED.finditer(text):
            yield path, next(filter(None, match.groups()))
        for link in _LINK.findall(text):
            address = re.search(rf"\bhref\s*=\s*[\"']?({_ADDRESS})", link)
            if address and not _NOT_FETCHED.search(link):
                yield path, address[1]


def main() -> int:
    """Print the addresses; exit status 1 when there is one, or no page."""
    folder = Path(sys.argv[1])
    pages = sum(1 for _ in folder.rglob("*.html"))
    addresses = list(fetched_addresses(folder))
    for path, address in addresses:
        print(f"{path.relative_to(folder)} fetches {address}")
    print(f"{pages} pages, {len(addresses)} addresses of other servers")
    return int(bool(addresses) or not pages)


if __name__ == "__main__":
    sys.exit(main())
