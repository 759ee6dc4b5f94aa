"""The page in a headless browser: its width, its colours, its controls, and what it asks of the network."""

from __future__ import annotations

import numpy as np
import pytest
from browser import find_browser, start_browser
from embedonce import FeatureCache
from embedonce.evaluate.comparison.run import compare
from embedonce.evaluate.report.html import write_report
from sklearn.linear_model import RidgeClassifier

PATH = find_browser()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PATH is None, reason="needs Chromium, Chrome or the browser of playwright"),
]
PAGES = ("few", "25 heads", "200 classes", "long names")

WIDER = """(() => {
  const found = [], wide = document.documentElement.clientWidth;
  const scrolls = (one) => one && (getComputedStyle(one).overflowX !== "visible" || scrolls(one.parentElement));
  if (document.documentElement.scrollWidth > wide) found.push(`page: ${document.documentElement.scrollWidth}`);
  for (const one of document.body.querySelectorAll("*")) {
    const box = one.getBoundingClientRect();
    if ((box.right > wide + 0.5 || box.left < -0.5) && !scrolls(one.parentElement)) found.push(one.outerHTML.slice(0, 99));
  }
  return found;
})()"""

LOW_CONTRAST = """(() => {
  const parse = (text) => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const over = ([r, g, b, a], below) => [r, g, b].map((value, i) => value * a + below[i] * (1 - a));
  const light = (colour) => colour.map((value) => value / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const under = (one) => {
    if (!one) return parse(getComputedStyle(document.documentElement).backgroundColor).slice(0, 3);
    return over(parse(getComputedStyle(one).backgroundColor), under(one.parentElement));
  };
  const opacity = (one) => one ? getComputedStyle(one).opacity * opacity(one.parentElement) : 1;
  const found = {}, texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let checked = 0;
  while (texts.nextNode()) {
    const one = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !one.getClientRects().length || one.closest("script, style")) continue;
    const style = getComputedStyle(one), below = under(one), colour = parse(one.closest("svg") ? style.fill : style.color);
    colour[3] *= opacity(one);
    const [dark, bright] = [light(over(colour, below)), light(below)].sort((a, b) => a - b);
    const ratio = (bright + 0.05) / (dark + 0.05);
    checked += 1;
    if (ratio < 4.5) found[`${ratio.toFixed(2)}: ${texts.currentNode.data.trim().slice(0, 40)}`] = one.outerHTML.slice(0, 99);
  }
  return { checked, found };
})()"""

CONTROLS = """(() => {
  const controls = "a[href], button, summary, input, select, textarea, [tabindex]";
  window.names = new Map([...document.querySelectorAll(controls)].filter((one) => one.checkVisibility())
    .map((one, number) => [one, `${number} ${one.textContent.trim().slice(0, 30)}`]));
  for (const one of [...document.querySelectorAll("*")].filter((one) => one.checkVisibility())) {
    const sideways = one.scrollWidth > one.clientWidth && ["auto", "scroll"].includes(getComputedStyle(one).overflowX);
    const inside = [...names.keys()].some((control) => one.contains(control));
    if (sideways && !inside) names.set(one, `scroller ${one.outerHTML.slice(0, 60)}`);
  }
  return [...names.values()];
})()"""


@pytest.fixture(scope="module")
def pages(cache_path, tmp_path_factory):
    folder, generator = tmp_path_factory.mktemp("report"), np.random.default_rng(0)

    def drawn(classes, per_class, name="a species with a long name, number "):
        labels = np.repeat(np.arange(classes), per_class)
        features = generator.normal(size=(classes, 8))[labels] + generator.normal(size=(len(labels), 8))
        names = [f"{name}{label}" for label in labels]
        return FeatureCache.from_arrays(features.astype(np.float32), names)

    # curves of probabilities take most of the time, and the page of few classes has them
    heads = {f"ridge regression, {number}": RidgeClassifier(10.0**number) for number in range(25)}
    comparisons = {
        "long names": compare(drawn(3, 12, "x" * 200), {"n" * 100: RidgeClassifier()}, split="random"),
        "few": compare(cache_path, {"softmax": {"epochs": 1}, "knn": {"n_neighbors": 48}}, split="random"),
        "25 heads": compare(drawn(10, 20), heads, split="random"),
        "200 classes": compare(drawn(200, 5), dict(list(heads.items())[:2]), split="random"),
    }
    return {name: write_report(one, folder / f"{name}.html") for name, one in comparisons.items()}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with start_browser(PATH, tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_wider_than_the_page(browser, pages, name):
    browser.open(pages[name])
    browser.run("for (const one of document.querySelectorAll('details')) one.open = true")
    assert browser.complaints == []
    for width in (1280, 800, 390):
        browser.look(width)
        assert browser.run("innerWidth") == width
        assert browser.run(WIDER) == []


@pytest.mark.parametrize("name", PAGES)
def test_every_text_has_contrast_in_both_themes(browser, pages, name):
    grounds = set()
    for dark in (False, True):
        browser.open(pages[name], dark=dark)
        browser.run("for (const one of document.querySelectorAll('details')) one.open = true")
        grounds.add(browser.run("getComputedStyle(document.body).backgroundColor"))
        answer = browser.run(LOW_CONTRAST)
        assert answer["checked"] > 100
        assert answer["found"] == {}
    assert len(grounds) == 2


@pytest.mark.parametrize("name", PAGES)
def test_every_control_is_reached_by_the_tab_key(browser, pages, name):
    browser.open(pages[name], width=390)
    expected, reached = set(browser.run(CONTROLS)), set()
    for _ in range(len(expected)):
        browser.press("Tab")
        reached.add(browser.run("names.get(document.activeElement) ?? document.activeElement.outerHTML.slice(0, 60)"))
    assert len(expected) > 10
    assert reached == expected


@pytest.mark.parametrize("name", PAGES)
def test_the_first_screen_has_the_main_results(browser, pages, name):
    for width, height in ((390, 844), (1280, 800)):
        browser.open(pages[name], width=width, height=height)
        seen = browser.run(
            "[...document.querySelectorAll('.facts div')].filter((one) => one.getBoundingClientRect().bottom < innerHeight)"
            ".map((one) => one.innerText)"
        )
        assert [text.split("\n")[0] for text in seen][1:] == ["Leakage gap", "Most confused", "Next"]
        assert "95 % interval" in seen[0]
        assert ("embedonce train" if name == "few" else "save_model") in seen[3]


def test_the_contents_follow_the_page(browser, pages):
    for width in (390, 1280):
        browser.open(pages["few"], width=width)
        browser.run("document.documentElement.style.scrollBehavior = 'auto'")
        for place in ("made", "confusion"):
            browser.run(f"document.querySelector('nav a[href=\"#{place}\"]').click()")
            browser.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
            now = "document.querySelector('nav a[aria-current]')"
            assert browser.run(f"{now}.hash") == f"#{place}"
            left, right, top, width_ = browser.run(
                f"(({{left, right, top}}) => [left, right, top, innerWidth])({now}.getBoundingClientRect())"
            )
            assert 0 <= left < right <= width_ + 1
            assert top >= 0


def test_the_next_command_is_copied_or_selected(browser, pages):
    browser.open(pages["few"])
    browser.run("document.querySelector('button.copy').focus()")
    command = browser.run("document.querySelector('.command code').textContent")
    assert command.startswith("embedonce train ")
    assert "  " not in command
    for refused, answer in ((False, "Copied"), (True, "Selected: press Ctrl+C")):
        stub = (
            "() => Promise.reject(new Error())"
            if refused
            else "(text) => { window.copied = text; return Promise.resolve(); }"
        )
        browser.run(f"navigator.clipboard.writeText = {stub}; document.execCommand = () => false")
        browser.press("Enter")
        browser.run("new Promise((done) => setTimeout(done))")
        assert browser.run("document.querySelector('button.copy').textContent") == answer
    assert browser.run("window.copied") == browser.run("getSelection().toString()") == command


def test_a_thumbnail_opens_and_closes_by_keyboard(browser, pages):
    browser.open(pages["few"])
    browser.run("document.querySelector('.thumbs button').focus()")
    browser.press("Enter")
    assert browser.run("document.getElementById('view').open")
    assert browser.run("document.querySelector('dialog img').naturalWidth") > 0
    browser.press("Escape")
    assert not browser.run("document.getElementById('view').open")
    assert browser.complaints == []


def test_on_paper_nothing_stays_folded(browser, pages):
    browser.open(pages["few"])
    folded = "document.querySelectorAll('details:not([open])').length"
    before = browser.run(folded)
    assert before
    browser.run("dispatchEvent(new Event('beforeprint'))")
    assert browser.run(folded) == 0
    browser.run("dispatchEvent(new Event('afterprint'))")
    assert browser.run(folded) == before


def test_the_checks_find_what_is_wrong(browser, pages):
    spoilt = pages["few"].with_name("spoilt.html")
    wrong = '<p style="color: #999; background: #fff">pale</p><p style="width: 500px">wide</p>'
    wrong += '<img src="https://example.org/x.png" alt="">'
    wrong += "<script>console.error('no')</script></body>"
    spoilt.write_text(pages["few"].read_text("utf-8").replace("</body>", wrong), "utf-8")
    browser.open(spoilt, width=390)
    assert any("Content Security Policy" in text for text in browser.complaints)
    assert len(browser.complaints) >= 2
    assert ["wide" in text for text in browser.run(WIDER)] == [False, True]
    assert [text.split(": ")[1] for text in browser.run(LOW_CONTRAST)["found"]] == ["pale"]
