import math
import re

import numpy as np
import pytest

from envs.arguments import flag, integer_at_least, number, one_of, pair
from envs.errors import ArgumentError, UserError


@pytest.mark.parametrize("value", [3, np.int64(3), 3e0])
def test_integer_at_least_returns_a_plain_int(value):
    result = integer_at_least("env.horizon", value)
    assert result == 3
    assert type(result) is int


@pytest.mark.parametrize("value", [0, -4, 2.5, True, "3", None])
def test_integer_at_least_names_the_setting_and_the_value(value):
    with pytest.raises(UserError) as error:
        integer_at_least("env.horizon", value)
    assert str(error.value) == f"env.horizon must be a whole number of at least 1, not {value!r}."


def test_integer_at_least_says_the_bound_it_was_given():
    assert integer_at_least("seed", 0, least=0) == 0
    with pytest.raises(UserError, match=r"^steps must be a whole number of at least 2, not 1\.$"):
        integer_at_least("steps", 1, least=2)


def test_number_returns_a_float_and_its_bounds_are_inclusive_but_for_above():
    assert type(number("discount", 1, least=0, most=1)) is float
    assert number("discount", 0.0, least=0, most=1) == 0.0
    assert number("scale", np.float32(0.25), above=0) == 0.25


@pytest.mark.parametrize(
    ("value", "bounds", "wanted"),
    [
        (0.0, {"above": 0}, "a finite number above 0"),
        (-0.1, {"least": 0, "most": 1}, "a number from 0 to 1"),
        (1.5, {"least": 0, "most": 1}, "a number from 0 to 1"),
        (float("nan"), {}, "a finite number"),
        (float("inf"), {"above": 0}, "a finite number above 0"),
        (True, {}, "a finite number"),
        ("0.5", {}, "a finite number"),
        (None, {}, "a finite number"),
    ],
)
def test_number_says_what_it_wanted(value, bounds, wanted):
    with pytest.raises(UserError) as error:
        number("algorithm.discount", value, **bounds)
    assert str(error.value) == f"algorithm.discount must be {wanted}, not {value!r}."


def test_one_of_lists_the_choices_and_suggests_the_nearest():
    assert one_of("env.preset", "promp", ("promp", "deleu")) == "promp"
    with pytest.raises(UserError) as error:
        one_of("env.preset", "prom", {"promp": 1, "deleu": 2})
    assert (
        str(error.value)
        == "env.preset=prom is unknown; choose one of deleu, promp. Did you mean promp?"
    )


@pytest.mark.parametrize("value", ["zzz", None, 5])
def test_one_of_suggests_nothing_where_nothing_is_near(value):
    written = "null" if value is None else value
    with pytest.raises(
        UserError, match=rf"^device={written} is unknown; choose one of cpu, cuda\.$"
    ):
        one_of("device", value, ("cuda", "cpu"))


def test_a_user_error_is_a_value_error():
    assert issubclass(UserError, ValueError)


def test_pair_is_a_range_of_two_numbers():
    assert pair("env.velocities", [0, 2.5]) == (0.0, 2.5)
    assert pair("env.velocities", (-1, -1)) == (-1.0, -1.0)
    assert pair("env.heights", [0.5, float("inf")]) == pair("env.heights", [0.5, ".inf"])


@pytest.mark.parametrize("value", [[2, 1], [1], [0, 1, 2], 3.0, "ab", [0, float("nan")], None])
def test_pair_refuses_what_is_no_range(value):
    message = re.escape(
        f"env.velocities must be two numbers in brackets, the lower one first, [low, high], "
        f"not {value!r}."
    )
    with pytest.raises(UserError, match=message):
        pair("env.velocities", value)


def test_flag_takes_true_and_false_only():
    assert flag("env.terminates", False) is False
    with pytest.raises(UserError, match=r"env.terminates must be true or false, not 1\."):
        flag("env.terminates", 1)


def test_a_node_s_name_goes_before_the_arguments_of_an_error_and_before_nothing_else():
    words = "discount=1 needs steps=3, not a discount of 1, or inner.steps=2 and seed=4."
    error = ArgumentError(words, "discount", "steps", "seed")
    assert str(error) == words
    within = error.within("algorithm", ["seed"])
    assert type(within) is UserError
    assert str(within) == (
        "algorithm.discount=1 needs algorithm.steps=3, not a discount of 1, or inner.steps=2 and "
        "seed=4."
    )
    assert str(ArgumentError("seed must be 1.", "seed").within("trainer", {"seed": 1})) == (
        "seed must be 1."
    )


def test_every_check_names_the_argument_for_the_node_that_it_comes_from():
    checks = (
        lambda: integer_at_least("steps", 0),
        lambda: number("steps", math.nan),
        lambda: number("steps", -1, above=0),
        lambda: one_of("steps", "a", ["b"]),
        lambda: flag("steps", 1),
        lambda: pair("steps", 1),
    )
    for check in checks:
        with pytest.raises(ArgumentError) as error:
            check()
        assert str(error.value.within("inner")) == f"inner.{error.value}"
