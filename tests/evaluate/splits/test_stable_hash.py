"""Hashes decide the parts of a split, and every class gets into every part."""

from __future__ import annotations

import numpy as np
import pytest
from embedonce.errors import SplitError
from embedonce.evaluate.splits.stable_hash import assign_parts, hash_to_unit_interval


def test_hashes_are_pinned():
    # another number here would move images of splits that people have
    np.testing.assert_allclose(
        hash_to_unit_interval(["ash/1.png", "caf\udce9"], 0), [0.3366489602, 0.5097143897], atol=1e-9
    )
    assert hash_to_unit_interval(["ash/1.png"], 0, 1) != hash_to_unit_interval(["ash/1.png"], 0)


def test_the_last_group_of_a_class_is_not_moved():
    where = np.array([0.1, 0.3, 0.4, 0.5, 0.6])
    # unit 0 and 4: class a; unit 0 to 3: class b. Both classes are on both sides.
    parts, moved = assign_parts(where, [0.2], np.array([0, 4, 0, 1, 2, 3]), np.array([0, 0, 1, 1, 1, 1]), ["a", "b"])
    assert parts.tolist() == [0, 1, 1, 1, 1]
    assert not moved.any()
    # a is missing from the test part; unit 1 is nearer but the last of c in training
    units, classes = np.array([0, 1, 2, 0, 1]), np.array([1, 0, 0, 2, 2])
    parts, moved = assign_parts(
        np.array([0.1, 0.3, 0.5, 0.6]), [0.2], np.append(units, 3), np.append(classes, 1), list("abc")
    )
    assert parts.tolist() == [0, 1, 0, 1]
    assert moved.tolist() == [False, False, True, False]


def test_a_group_of_two_missing_classes_brings_both():
    parts, moved = assign_parts(
        np.array([0.7, 0.4, 0.9]), [0.2], np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 0, 1, 0, 1]), ["a", "b"]
    )
    assert parts.tolist() == [1, 0, 1]
    assert moved.tolist() == [False, True, False]


def test_classes_that_cannot_be_everywhere_are_named():
    # b has one group only, so it cannot be on both sides
    with pytest.raises(SplitError, match="class b cannot be in every part"):
        assign_parts(np.array([0.1, 0.5]), [0.2], np.array([0, 1, 0]), np.array([0, 0, 1]), ["a", "b"])
