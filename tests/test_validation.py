import numpy as np
import pytest

from refimpl.validation import FLOATS, check_array, check_choice, check_integer, check_number


def test_what_fits_comes_back():
    x = np.ones((2, 3), np.float32)
    assert check_array(x, "x", ndim=2, shape=(None, 3), dtypes=FLOATS, finite=True, min_rows=2) is x
    assert check_integer(np.int32(3), "k", minimum=3) == 3
    assert check_number("0.5", "p", above=0, maximum=0.5) == 0.5
    assert check_choice("l2", "metric", ("l2", "ip")) == "l2"


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: check_array([[1.0], [1.0, 2.0]], "x"), "x: expected an array"),
        (lambda: check_array(["a"], "x"), "x: expected real numbers"),
        (lambda: check_array(np.ones(3), "x", ndim=(2, 4)), r"x: expected 2 or 4 .*\(3,\)"),
        (lambda: check_array(np.ones((2, 4)), "x", shape=(None, 3)), r"x: expected shape \(any, 3\), got \(2, 4\)"),
        (lambda: check_array(np.ones(3, int), "x", dtypes=FLOATS), "x: expected dtype float32 or float64"),
        (lambda: check_array(np.array([1, np.nan]), "x", finite=True), r"x: expected finite.*nan at index \(1,\)"),
        (lambda: check_array(np.ones((0, 2)), "x", min_rows=1), "x: expected at least 1 row"),
        (lambda: check_integer(1.5, "k"), "k: expected an integer, got 1.5"),
        (lambda: check_integer(0, "k", minimum=1, maximum=9), "k: expected an integer >= 1 and <= 9, got 0"),
        (lambda: check_number(0, "t", above=0), "t: expected a finite number > 0, got 0"),
        (lambda: check_number(float("nan"), "t"), "t: expected a finite number"),
        (lambda: check_number("much", "t"), "t: expected a number, got 'much'"),
        (lambda: check_choice("l1", "metric", ("l2", "ip")), "metric: expected one of 'l2', 'ip', got 'l1'"),
    ],
)
def test_what_does_not_fit_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
