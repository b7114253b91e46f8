"""The address of an experiments table."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import QueryParams

from nautilus.web.listing import ListQuery


def of(text: str) -> ListQuery:
    return ListQuery.of(QueryParams(text))


def test_a_plain_table_has_a_plain_address() -> None:
    assert of("").address() == "/experiments"


def test_an_address_is_read_back_the_same() -> None:
    query = ListQuery("ada/d&ä", "failed", 3, "metrics.val/acc=é", "asc", 2, ("params.a b", "metrics.x"))
    assert of(query.address().partition("?")[2]) == query


def test_what_makes_no_sense_counts_as_missing() -> None:
    assert of("state=lost&sweep=-1&page=x&sort=up&order_by=") == ListQuery()
    assert of("page=0&sweep=99999999999999999999&sweep=²") == ListQuery()


def test_a_heading_sorts_with_the_greatest_first_and_once_more_turns_it_round() -> None:
    first = of("page=4").sorted_by("metrics.accuracy")
    assert first == "/experiments?order_by=metrics.accuracy"
    assert of(first.partition("?")[2]).sorted_by("metrics.accuracy") == first + "&sort=asc"


def test_only_the_order_of_time_groups_sweeps() -> None:
    assert of("").is_grouped and not of("order_by=id").is_grouped and not of("sweep=1").is_grouped


@given(st.text(max_size=200))
def test_no_address_is_an_error(text: str) -> None:
    of(text).address()
