"""The headers of a page. Source: doc/api/rest/_index.md."""

from __future__ import annotations

import re

import pytest

from nautilus_forge.pagination import COUNT_LIMIT, Page


def page(number: int, per_page: int = 20, query: tuple[tuple[str, str], ...] = ()) -> Page:
    return Page(number, per_page, "http://x/api/v4/projects", query)


@pytest.mark.parametrize(
    ("number", "total", "pages", "following", "previous"),
    [
        (1, 0, "1", "", ""),
        (1, 20, "1", "", ""),
        (1, 21, "2", "2", ""),
        (2, 21, "2", "", "1"),
        (3, 100, "5", "4", "2"),
    ],
)
def test_numbers(number: int, total: int, pages: str, following: str, previous: str) -> None:
    headers = page(number).headers(total, 20)
    assert headers["X-Total"] == str(total)
    assert headers["X-Total-Pages"] == pages
    assert (headers["X-Next-Page"], headers["X-Prev-Page"]) == (following, previous)


def test_links_keep_the_query() -> None:
    links = page(2, 10, (("search", "a b"), ("page", "2"), ("per_page", "10"))).headers(35, 10)["Link"]
    found = {rel: url for url, rel in re.findall(r'<([^>]+)>; rel="(\w+)"', links)}
    assert set(found) == {"prev", "next", "first", "last"}
    assert found["next"] == "http://x/api/v4/projects?search=a+b&page=3&per_page=10"
    assert found["last"].endswith("page=4&per_page=10")


def test_beyond_ten_thousand_no_total_is_told() -> None:
    headers = page(1).headers(COUNT_LIMIT + 1, 20)
    assert "X-Total" not in headers
    assert "X-Total-Pages" not in headers
    assert headers["X-Next-Page"] == "2"
    assert 'rel="last"' not in headers["Link"]


def test_without_a_total_a_full_page_has_a_next_one() -> None:
    assert page(1).headers(None, 20)["X-Next-Page"] == "2"
    assert page(1).headers(None, 19)["X-Next-Page"] == ""
