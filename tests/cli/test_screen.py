from __future__ import annotations

import pytest
from embedonce.cli import screen
from embedonce.evaluate.shared import TextTable

TABLE = TextTable(
    ["head", "accuracy", "fit s", "ROC"], [["svm", "0.9900", "1.23", "0.5"], ["頭頭頭", "0.1000", "20.00", "-"]]
)


@pytest.fixture
def terminal(monkeypatch):
    """Return a function that sets the width of the terminal."""

    def of_width(width):
        monkeypatch.setattr(screen, "columns", lambda: width)

    return of_width


def test_files_get_every_column(terminal):
    terminal(None)
    assert screen.fitting(TABLE, 2) == (TABLE, [])
    assert screen.wrapped("word " * 50) == "word " * 50


def test_columns_of_lower_rank_go_first(terminal):
    for width, titles in (
        (40, ["head", "accuracy", "fit s", "ROC"]),
        (22, ["head", "accuracy", "ROC"]),
        (1, ["head", "accuracy"]),
    ):
        terminal(width)
        table, left_out = screen.fitting(TABLE, 2, ("fit s",))
        assert table.titles == titles
        assert sorted([*titles, *left_out]) == sorted(TABLE.titles)
        assert all(len(row) == len(titles) for row in table.rows)
    assert TABLE.width == 6 + 8 + 5 + 3 + 6
    assert str(TABLE).splitlines()[1] == "─" * TABLE.width


def test_messages_wrap_between_words_with_an_indent(terminal):
    terminal(20)
    lines = screen.wrapped("Note: a rather long sentence with /a/very/long/path/of/an/image.jpg.").splitlines()
    assert lines[0] == "Note: a rather long"
    assert all(line.startswith("  ") for line in lines[1:])
    assert "  /a/very/long/path/of/an/image.jpg." in lines
