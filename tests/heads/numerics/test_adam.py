from __future__ import annotations

import numpy as np
import pytest
from embedonce.heads.numerics.adam import _two_bytes_each


@pytest.mark.parametrize("features", [3, 4, 1280])
def test_dropout_draws_the_bytes_of_the_generator(features):
    plain, fast = np.random.default_rng(7), np.random.default_rng(7)
    for rows in (100, 33, 1):
        expected = np.frombuffer(plain.bytes(2 * rows * features), "<u2")
        np.testing.assert_array_equal(_two_bytes_each(fast, (rows, features)).ravel(), expected)
