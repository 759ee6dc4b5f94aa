"""The page of a comparison of many classes, or of many heads."""

from __future__ import annotations

import re

import numpy as np
import pytest
from embedonce import FeatureCache
from embedonce.evaluate.comparison.run import compare
from embedonce.evaluate.report.html import summary, write_report
from embedonce.evaluate.report.results_json import comparison_results
from embedonce.evaluate.shared.few_of_many import confused_pairs
from saving import with_empty_pictures
from sklearn.dummy import DummyClassifier
from sklearn.neighbors import KNeighborsClassifier


def drawn_cache(classes, per_class, spread=1.0):
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), per_class)
    features = generator.normal(size=(classes, 8))[labels] * spread + generator.normal(size=(len(labels), 8))
    return FeatureCache.from_arrays(features.astype(np.float32), [f"species {label:03d}" for label in labels])


@pytest.fixture(scope="module")
def many_heads():
    heads = {f"nearest-{count}": KNeighborsClassifier(count) for count in range(1, 13)} | {"dummy": DummyClassifier()}
    return compare(drawn_cache(3, 40), heads, split="random")


@pytest.fixture(scope="module")
def many_heads_page(many_heads, tmp_path_factory):
    with with_empty_pictures():
        return write_report(many_heads, tmp_path_factory.mktemp("report") / "report.html").read_text("utf-8")


@pytest.fixture(scope="module")
def many_classes():
    return compare(drawn_cache(30, 10), ["knn", "dummy"], split="random")


def test_pairs_are_ordered_by_images_then_fraction():
    pairs = confused_pairs([[5, 1, 0], [3, 1, 0], [1, 0, 0]])
    assert pairs == [(1, 0, 3, 0.75), (2, 0, 1, 1.0), (0, 1, 1, 1 / 6)]
    assert confused_pairs([[5, 1, 0], [3, 1, 0], [1, 0, 0]], 1) == pairs[:1]
    assert confused_pairs(np.eye(4, dtype=int)) == []


def test_many_classes_have_the_most_confused_pairs(many_classes, tmp_path, monkeypatch):
    def pictures(cache, rows):
        return {row: f"data:image/jpeg;base64,{row}" for row in rows}

    monkeypatch.setattr("embedonce.evaluate.report.html.pictures", pictures)
    with with_empty_pictures():
        page = write_report(many_classes, tmp_path / "report.html").read_text("utf-8")
    best = many_classes.table[0].name
    expected = confused_pairs(many_classes.confusion(best))
    assert len(expected) == 20
    names, labels = many_classes.cache.class_names, many_classes.cache.labels
    section = page[page.index('id="confusion"') :].split("</section>")[0].split("</table>")[0]
    assert '<th scope="col">true class</th><th scope="col">predicted class</th>' in section
    for pair, shown in zip(expected, section.split("<tr>")[2:], strict=True):
        assert re.findall(r"(species \d+)</span>", shown) == [names[pair.true], names[pair.predicted]]
        rows = [int(row) for row in re.findall(r'src="data:image/jpeg;base64,(\d+)"', shown)]
        assert labels[rows].tolist() == [pair.true, pair.predicted]
        assert f"<td>{pair.images}</td>" in shown


def test_many_classes_are_folded_and_few_heads_are_not(many_classes, tmp_path):
    with with_empty_pictures():
        page = write_report(many_classes, tmp_path / "report.html", thumbnails=False).read_text("utf-8")
    assert not any(text in page for text in ('class="verdicts"', "differences</summary>"))
    assert "<summary>300 images in 30 classes of 10 to 10</summary>species 000 10, species 001 10" in page
    assert "species 000 10," not in re.sub(r"<details>.*?</details>", "", page, flags=re.S)


def test_many_heads_have_one_matrix_of_verdicts(many_heads, many_heads_page):
    content = re.search(r'<table class="verdicts".*?</table>', many_heads_page, re.S)[0]
    rows = [re.findall(r"<td[^>]*>(.?)</td>", row) for row in content.split("<tr>")[2:]]
    names = [result.name for result in many_heads.table]
    assert re.findall(r'scope="row">\d+ (.*?)</th>', content) == names
    assert len(rows) == 13
    for row in many_heads.differences:
        a, b = names.index(row.a), names.index(row.b)
        expected = {"better": "+-", "practically tied": "==", "undecided": "??"}[row.verdict]
        assert rows[a][b] + rows[b][a] == expected
    assert "<summary>All 78 differences</summary>" in many_heads_page
    assert len(comparison_results(many_heads)["differences"]) == 78


def test_one_sentence_has_the_verdicts_on_many_heads(many_heads):
    best = many_heads.table[0].name
    texts = [text for text in summary(many_heads) if text.startswith(f"{best} is ")]
    assert len(texts) == 1
    assert texts[0].endswith(" of the other 12 heads.")
    counts = [int(count) for count in re.findall(r"(?:than|with|from) (\d+)", texts[0])]
    assert sum(counts) == 12
    assert not any("No significant" in text for text in summary(many_heads))


def test_the_best_of_many_heads_are_first_and_others_folded(many_heads, many_heads_page):
    before, folded = many_heads_page.split("<summary>The other 7 heads</summary>")
    names = [result.name for result in many_heads.table]
    assert re.findall('Confusion matrix of (.*?)"', before) == names[:6]
    assert re.findall('Confusion matrix of (.*?)"', folded) == names[6:]


def test_matrices_name_their_axes_and_zeros_are_grey(many_heads_page):
    table = re.search(r'<table aria-label="Confusion matrix of dummy".*?</table>', many_heads_page, re.S)[0]
    assert '<th scope="colgroup" colspan="3">predicted class</th>' in table
    assert '<th scope="col">true class</th>' in table
    cells = re.findall(r"<td( class=\"zero\")?[^>]*>(\d+)", table)
    assert len(cells) == 9
    assert all(bool(zero) == (count == "0") for zero, count in cells)
    assert ".matrices thead th { text-align: center; }" in many_heads_page
