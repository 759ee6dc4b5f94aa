from __future__ import annotations

import os

import pytest
from embedonce.cache.names import counted, display
from hypothesis import given
from hypothesis import strategies as st


@given(st.binary(max_size=30).filter(lambda name: b"\0" not in name))
def test_displayed_names_are_one_printable_line(name):
    shown = display(name)
    assert shown.isprintable()
    shown.encode("utf-8")


@given(st.binary(max_size=8), st.binary(max_size=8))
def test_different_names_are_displayed_differently(one, other):
    assert (display(one) == display(other)) == (one == other)


def test_plain_names_are_displayed_as_they_are():
    assert display("lung_aca/größe 1.jpeg") == "lung_aca/größe 1.jpeg"
    assert display(os.fsdecode(b"a\xff\n.png")) == "a\\xff\\n.png"


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 images are left out"), (1, "1 image is left out"), (1200, "1,200 images are left out")],
)
def test_singular_and_plural_are_right(count, text):
    assert counted(count, "image(s) (is|are) left out") == text
