import numpy as np
import pytest
from embedonce.errors import ParameterError, check_int, first_line


@pytest.mark.parametrize("value", [2, np.int64(2), np.uint8(2)])
def test_integers_of_numpy_become_plain_ones(value):
    assert type(check_int("folds", "compare", value, 2)) is int


@pytest.mark.parametrize("value", [1, True, np.True_, 2.0, "3", None])
def test_other_values_name_the_parameter_and_the_minimum(value):
    with pytest.raises(ParameterError, match=r"^parameter folds of compare must be an integer of at least 2, got"):
        check_int("folds", "compare", value, 2)


def test_a_value_above_the_maximum_names_both_bounds():
    with pytest.raises(ParameterError, match=r"^parameter seed of x must be an integer from 0 to 9, got 10$"):
        check_int("seed", "x", 10, 0, 9)


@pytest.mark.parametrize(("message", "line"), [("one\ntwo", "one"), ("", "OSError")])
def test_an_error_is_one_line(message, line):
    assert first_line(OSError(message)) == line
