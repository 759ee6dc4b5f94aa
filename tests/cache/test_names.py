from __future__ import annotations

import os

from embedonce.cache.names import display
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
