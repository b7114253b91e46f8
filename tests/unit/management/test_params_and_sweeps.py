"""Parameters are typed and bounded; a sweep is a list of sets or a grid."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nautilus.core.params import SWEEP_LIMIT, VALUE_LIMIT_BYTES, check_params, expand_sweep
from nautilus.errors import InvalidParameter, TooLarge


def test_types_are_kept() -> None:
    given_params = {"text": "a", "int": 3, "float": 0.5, "yes": True}
    kept = check_params(given_params)
    assert kept == given_params and type(kept["yes"]) is bool and type(kept["int"]) is int


def test_the_longest_value_is_taken_and_one_byte_more_is_not() -> None:
    assert check_params({"x": "ü" * (VALUE_LIMIT_BYTES // 2)})
    with pytest.raises(TooLarge, match="parameter x"):
        check_params({"x": "a" * (VALUE_LIMIT_BYTES + 1)})


@pytest.mark.parametrize("value", [None, [1], {"a": 1}, math.nan, math.inf, 2**63, "a\0b", "\ud800"])
def test_other_values_are_refused_by_name(value: Any) -> None:
    with pytest.raises(InvalidParameter, match="parameter lr"):
        check_params({"lr": value})


@pytest.mark.parametrize("name", ["", "1a", "a b", "a{b", "ä", "a/b", "x" * 101, "a\n"])
def test_names_are_plain(name: str) -> None:
    with pytest.raises(InvalidParameter):
        check_params({name: 1})


def test_too_many_or_too_much_is_refused() -> None:
    with pytest.raises(TooLarge):
        check_params({f"p{i}": 1 for i in range(201)})
    with pytest.raises(TooLarge):
        check_params({f"p{i}": "x" * 60_000 for i in range(9)})


def test_without_a_sweep_there_is_one_set() -> None:
    assert expand_sweep({"a": 1}, None) == [{"a": 1}]


def test_a_list_gives_the_sets_over_the_common_parameters() -> None:
    assert expand_sweep({"a": 1, "b": 2}, [{"b": 3}, {}]) == [{"a": 1, "b": 3}, {"a": 1, "b": 2}]


@given(
    st.dictionaries(st.sampled_from("abcd"), st.lists(st.integers(0, 9), min_size=1, max_size=3), min_size=1)
)
def test_a_grid_gives_every_combination_once(grid: dict[str, list[int]]) -> None:
    sets = expand_sweep({"z": 0}, grid)
    assert len(sets) == math.prod(len(values) for values in grid.values())
    assert all(chosen["z"] == 0 and chosen.keys() == {*grid, "z"} for chosen in sets)
    assert {tuple(s[k] for k in grid) for s in sets} == set(_product(list(grid.values())))


def _product(lists: list[list[int]]) -> list[tuple[int, ...]]:
    if not lists:
        return [()]
    return [(head, *rest) for head in lists[0] for rest in _product(lists[1:])]


@pytest.mark.parametrize("sweep", [[], {}, {"a": []}, {"a": 1}, [1], ["a"], {"a": "xyz"}])
def test_a_sweep_that_makes_no_sense_is_refused(sweep: Any) -> None:
    with pytest.raises(InvalidParameter):
        expand_sweep({}, sweep)


def test_a_sweep_has_a_bound_that_is_found_without_building_it() -> None:
    with pytest.raises(TooLarge, match=str(SWEEP_LIMIT)):
        expand_sweep({}, {name: list(range(1000)) for name in "abcdefgh"})
