"""Names in figures that matplotlib's own font cannot draw."""

from __future__ import annotations

import warnings

import matplotlib as mpl
import numpy as np
import pytest
from embedonce import FeatureCache, compare
from embedonce.evaluate.report import save
from embedonce.evaluate.shared import fonts, plots
from matplotlib.font_manager import FontProperties, findfont

NAMES = ["cat", "größe", "犬", "बिल्ली", "猫" * 30]


@pytest.fixture
def no_fonts(monkeypatch):
    monkeypatch.setattr(fonts, "_system_fonts", list)
    fonts._families.cache_clear()
    yield
    fonts._families.cache_clear()


@pytest.fixture
def one_font(monkeypatch):
    monkeypatch.setattr(fonts, "_system_fonts", lambda: [("Small", frozenset()), ("Dogs", frozenset(map(ord, "犬猫")))])
    fonts._families.cache_clear()
    yield
    fonts._families.cache_clear()


def texts(figure):
    with plots.default_style():
        figure.draw_without_rendering()
    return [text.get_text() for text in figure.findobj(mpl.text.Text) if text.get_text()]


def confusion():
    return plots.confusion_figure({"犬頭": np.eye(5, dtype=int)}, NAMES, {})


def test_numbers_replace_names_in_pixels(no_fonts, tmp_path, monkeypatch):
    figure, seen = confusion(), {}
    original = figure.savefig
    sizes = {}

    def savefig(*args, format, bbox_inches, **options):
        seen[format], sizes[format] = texts(figure), bbox_inches.bounds
        original(*args, format=format, bbox_inches=bbox_inches, **options)

    monkeypatch.setattr(figure, "savefig", savefig)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Matplotlib currently does not support Devanagari")  # version 3.10
        plots.save_figure(figure, *(tmp_path / f"a.{suffix}" for suffix in ("png", "svg", "pdf")))
    assert {"cat", "größe", "class 3", "class 4", "class 5", "head 1"} <= set(seen["png"])
    assert seen["pdf"] == seen["png"]
    assert sizes["pdf"] == sizes["png"] != sizes["svg"]
    assert not any(set("犬猫頭") & set(text) for text in seen["png"])
    assert {"cat", "größe", "犬", "बिल्ली", f"{'猫' * 12}…{'猫' * 11}", "犬頭"} <= set(seen["svg"])
    assert "犬" in (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert set(texts(figure)) == set(seen["svg"])


def test_unnamed_characters_become_question_marks(no_fonts):
    figure = mpl.figure.Figure()
    figure.suptitle("a 犬")
    with fonts.drawable(figure):
        assert texts(figure) == ["a ?"]
    assert texts(figure) == ["a 犬"]


def test_a_font_of_the_system_is_used(one_font):
    with mpl.rc_context():
        fonts.use_fonts(["cat", "犬"])
        assert mpl.rcParams["font.family"] == ["DejaVu Sans", "Dogs"]
    assert fonts.number_names(["cat", "犬", "고양이"], "class") == {"고양이": "class 3"}


def test_other_names_change_no_font(one_font):
    with mpl.rc_context():
        before = mpl.rcParams["font.family"]
        fonts.use_fonts(["cat", "größe", "naïve"])
        assert mpl.rcParams["font.family"] == before


def test_fonts_of_boxes_and_colours_are_left_out():
    names = [name.lower() for name, _ in fonts._system_fonts()]
    assert "dejavu sans" in names
    assert not any("last resort" in name or "color" in name for name in names)


def test_a_note_says_which_number_is_which_name(no_fonts):
    features = np.eye(2).repeat(20, axis=0)
    comparison = compare(FeatureCache.from_arrays(features, ["cat"] * 20 + ["犬"] * 20), ["dummy"], split="random")
    assert save._numbered_names(comparison)[0].endswith("have numbers: class 2 is 犬")
    comparison.cache.class_names[1] = "dog"
    assert save._numbered_names(comparison) == []


def test_fonts_of_one_weight_give_no_warning(caplog):
    font = FontProperties(family="cmr10", weight=900)
    with plots.default_style():
        findfont(font, rebuild_if_missing=False)
    assert not caplog.records
