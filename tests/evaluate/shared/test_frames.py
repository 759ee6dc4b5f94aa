"""Results become data frames and HTML tables."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from embedonce.errors import MissingPackageError
from embedonce.evaluate.shared import data_frame, html_table


def test_without_pandas_the_error_names_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingPackageError, match="needs pandas.*pip install pandas"):
        data_frame([{"a": 1}])


def test_each_mapping_is_a_row(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=lambda rows: ("frame", rows)))
    assert data_frame(iter([{"a": 1}, {"a": 2}])) == ("frame", [{"a": 1}, {"a": 2}])


def test_html_escapes_text_and_rounds_numbers():
    page = html_table(["head", "score"], [["<b>", 0.98765], ["svm", None]], ["a & b"])
    assert "<td>&lt;b&gt;</td><td>0.9877</td>" in page
    assert "<td>-</td>" in page
    assert "<p>Note: a &amp; b.</p>" in page
