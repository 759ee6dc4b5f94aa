"""Fail when a page of the built site would fetch anything from elsewhere: scripts, styles, fonts or pictures.

python tools/check_site.py FOLDER

Links that a reader may follow are no such thing.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

_ELSEWHERE = re.compile(r"\s*(?:https?:)?//", flags=re.IGNORECASE)
_IN_STYLE = re.compile(r"(?:url\(\s*[\"']?|@import\s+[\"'])((?:https?:)?//[^\"')\s]+)", flags=re.IGNORECASE)
_FETCHED = {"src", "srcset", "poster", "data", "action"}
_KINDS = {"stylesheet", "icon", "preload", "prefetch", "modulepreload", "preconnect", "dns-prefetch", "manifest"}


class _Page(HTMLParser):
    """Collects the addresses that a browser fetches by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at one element."""
        values = {name: value or "" for name, value in attrs}
        fetched = [value for name, value in values.items() if name in _FETCHED]
        if tag == "link" and _KINDS & set(values.get("rel", "").split()):
            fetched.append(values.get("href", ""))
        if tag in ("image", "use"):  # of SVG
            fetched += [values.get("href", ""), values.get("xlink:href", "")]
        self.found += [value for value in fetched if _ELSEWHERE.match(value)]
        self.found += _IN_STYLE.findall(values.get("style", ""))


def fetched_from_elsewhere(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield every file and address that it would fetch.

    Parameters
    ----------
    folder : Path
        What ``mkdocs build`` wrote.
    """
    for path in sorted(folder.rglob("*")):
        if path.suffix not in (".html", ".css", ".svg"):
            continue
        text = path.read_text(encoding="utf-8")
        if path.suffix != ".css":
            page = _Page()
            page.feed(text)
            yield from ((path, address) for address in page.found)
            text = "\n".join(re.findall(r"<style[^>]*>(.*?)</style>", text, flags=re.DOTALL))
        yield from ((path, address) for address in _IN_STYLE.findall(text))


def main() -> int:
    """Print what was found; exit status 1 when there is anything, or no page."""
    folder = Path(sys.argv[1])
    pages = sum(1 for _ in folder.rglob("*.html"))
    found = list(fetched_from_elsewhere(folder))
    for path, address in found:
        print(f"{path.relative_to(folder)} fetches {address}")
    print(f"{pages} pages, {len(found)} addresses elsewhere")
    return int(bool(found) or not pages)


if __name__ == "__main__":
    sys.exit(main())
