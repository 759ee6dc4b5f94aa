import numpy as np
import pytest
from embedonce.errors import HeadError, OutputError, ParameterError, check_int, first_line


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


@pytest.mark.parametrize(
    "value", [0.5, -1e-300, True, 3, "it's (a)", 'a "b"', "np.int64", [1, 2.5], ("a", {"b": False}), None]
)
def test_types_of_numpy_never_show(value):
    def as_numpy(value):
        if isinstance(value, (list, tuple)):
            return type(value)(as_numpy(item) for item in value)
        if isinstance(value, dict):
            return {as_numpy(key): as_numpy(item) for key, item in value.items()}
        return value if value is None else np.array(value)[()]

    assert str(HeadError(f"must be a number, got {as_numpy(value)!r}")) == f"must be a number, got {value!r}"


def test_an_error_of_the_system_keeps_its_parts():
    error = OutputError(28, "cannot write a.csv: no space")
    assert (error.errno, error.strerror, str(error)) == (28, error.strerror, "[Errno 28] cannot write a.csv: no space")
