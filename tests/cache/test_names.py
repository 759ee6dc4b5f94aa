from __future__ import annotations

import os

import numpy as np
import pytest
from embedonce.cache.names import display, pack, unpack
from hypothesis import given
from hypothesis import strategies as st


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_packed_names_come_back(names):
    assert unpack(*pack(names)) == names


@pytest.mark.parametrize(
    "offsets",
    [[], [1, 4], [0, 3], [0, 5, 2, 4], [0, -1, 4], [0, 2**63 - 1, -(2**63), -1, 4]],  # the last one's differences wrap
)
def test_offsets_that_do_not_fit_are_refused(offsets):
    with pytest.raises(ValueError, match="offsets"):
        unpack(np.zeros(4, np.uint8), np.array(offsets, np.int64))


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
