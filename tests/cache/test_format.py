from __future__ import annotations

import numpy as np
import pytest
from embedonce.cache.format import pack_strings, unpack_strings
from hypothesis import given
from hypothesis import strategies as st


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_packed_strings_come_back(names):
    assert unpack_strings(*pack_strings(names)) == names


@pytest.mark.parametrize(
    "offsets",
    [[], [1, 4], [0, 3], [0, 5, 2, 4], [0, -1, 4], [0, 2**63 - 1, -(2**63), -1, 4]],  # the last one's differences wrap
)
def test_offsets_that_do_not_fit_are_refused(offsets):
    with pytest.raises(ValueError, match="offsets"):
        unpack_strings(np.zeros(4, np.uint8), np.array(offsets, np.int64))
