from __future__ import annotations

import html
import re
import shutil
import subprocess

import pytest
from embedonce.evaluate.comparison.run import compare
from embedonce.evaluate.report.html import write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium"),
]


@pytest.fixture(scope="module")
def page(cache_path, tmp_path_factory):
    comparison = compare(cache_path, ["logreg", "knn"], split="random")
    return write_report(comparison, tmp_path_factory.mktemp("report") / "report.html")


def browse(path, folder, *options):
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}"]
    command += ["--enable-logging=stderr", "--virtual-time-budget=3000", *options, "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def test_a_browser_finds_nothing_to_complain_about(page, tmp_path):
    shown, console = browse(page, tmp_path)
    assert "Confusion matrices" in shown
    assert console == []  # an error of the script, or anything that the page's policy kept from being loaded


def test_a_browser_would_complain(page, tmp_path):
    spoilt = page.with_name("spoilt.html")
    text = page.read_text("utf-8")
    spoilt.write_text(text.replace("</body>", '<img src="https://example.org/x.png" alt=""></body>'), "utf-8")
    _, console = browse(spoilt, tmp_path)
    assert any("Content Security Policy" in line for line in console)


@pytest.mark.parametrize("width", [360, 1200])
def test_the_page_never_scrolls_sideways(page, tmp_path, width):
    inner = html.escape(page.read_text("utf-8"), quote=True)
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<meta charset="utf-8"><iframe id="f" width="{width}" height="800" srcdoc="{inner}"></iframe><script>'
        "addEventListener('load', () => { const d = document.getElementById('f').contentDocument.documentElement;"
        "document.title = `${d.scrollWidth} in ${d.clientWidth}`; });</script>",
        "utf-8",
    )
    shown, _ = browse(frame, tmp_path / "profile")
    wide, shown_width = map(int, re.search(r"<title>(\d+) in (\d+)</title>", shown).groups())
    assert 0 < wide <= shown_width


def test_a_thumbnail_opens_and_closes(page, tmp_path):
    text = page.read_text("utf-8")
    assert 'class="thumbs"' in text
    clicked = page.with_name("clicked.html")
    script = (
        "<script>document.querySelector('.thumbs button').click();"
        "const opened = document.getElementById('view').open;"
        "document.querySelector('dialog button').click();"
        "document.title = `${opened} ${document.getElementById('view').open}`;</script>"
    )
    clicked.write_text(text.replace("</body>", f"{script}</body>"), "utf-8")
    shown, console = browse(clicked, tmp_path)
    assert "<title>true false</title>" in shown
    assert console == []


def test_on_paper_nothing_stays_folded(page, tmp_path):
    printed = page.with_name("printed.html")
    script = (
        "<script>const folded = () => document.querySelectorAll('details:not([open])').length;"
        "document.querySelector('details').open = false; const before = folded();"
        "dispatchEvent(new Event('beforeprint')); const during = folded();"
        "dispatchEvent(new Event('afterprint')); document.title = `${before > 0} ${during} ${folded() == before}`;</script>"
    )
    printed.write_text(page.read_text("utf-8").replace("</body>", f"{script}</body>"), "utf-8")
    shown, _ = browse(printed, tmp_path)
    assert "<title>true 0 true</title>" in shown
