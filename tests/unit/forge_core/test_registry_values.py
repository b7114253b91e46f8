"""Names of repositories, and which tags a bulk deletion means."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nautilus_forge.errors import InvalidParams
from nautilus_forge.registry import cleanup, paths
from nautilus_forge.registry.tags import TagDetails

NOW = datetime(2025, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("ada/digits", "ada/digits"),
        ("Ada/Digits", "ada/digits"),
        ("a/b-c/d__e/f.g", "a/b-c/d__e/f.g"),
        ("ada/digits--x", "ada/digits--x"),
    ],
)
def test_names_that_a_registry_knows(name: str, path: str) -> None:
    assert paths.normalised(name) == path


@pytest.mark.parametrize(
    "name",
    [
        "",
        "ada",
        "/ada/x",
        "ada/x/",
        "ada//x",
        "ada/-x",
        "ada/x-",
        "ada/x..y",
        "ada/../x",
        "ada/ä",
        "ada/x\n",
        "a/" * 20 + "b",
        "a/" + "b" * 300,
    ],
)
def test_names_that_none_knows(name: str) -> None:
    assert paths.normalised(name) is None


def test_the_longest_project_is_tried_first_and_two_levels_up() -> None:
    assert list(paths.candidates("a/b/c/d/e")) == ["a/b/c/d/e", "a/b/c/d", "a/b/c"]
    assert list(paths.candidates("a/b")) == ["a/b"]
    assert paths.name_below("a/b/c/d", "A/B") == "c/d"
    assert paths.name_below("a/b", "a/b") == ""


def tag(name: str, days: float | None) -> TagDetails:
    created = None if days is None else NOW - timedelta(days=days)
    return TagDetails(name, f"sha256:{name}", None, created, None)


def test_the_newest_stay_and_the_young_too() -> None:
    tags = [tag("old", 30), tag("older", 40), tag("new", 1), tag("undated", None)]
    plan = cleanup.Cleanup(".*", keep_n=1, older_than_s=35 * 86_400)
    assert cleanup.doomed(plan, tags, NOW) == ["older"]
    assert cleanup.doomed(cleanup.Cleanup(".*", keep_n=2), tags, NOW) == ["old", "older"]
    assert sorted(cleanup.doomed(cleanup.Cleanup(".*"), tags, NOW)) == ["new", "old", "older", "undated"]


@given(
    days=st.lists(st.none() | st.floats(0, 100), max_size=8),
    keep_n=st.integers(0, 10),
    older_than_s=st.none() | st.integers(1, 10**7),
)
def test_never_more_than_asked_for(days: list[float | None], keep_n: int, older_than_s: int | None) -> None:
    tags = [tag(f"t{number}", age) for number, age in enumerate(days)]
    going = cleanup.doomed(cleanup.Cleanup(".*", "", keep_n, older_than_s), tags, NOW)
    assert len(going) <= max(0, len(tags) - keep_n)
    ages = {one.name: one.created_at for one in tags}
    if older_than_s is not None:
        assert all(
            (at := ages[name]) is not None and at < NOW - timedelta(seconds=older_than_s) for name in going
        )


def test_names_are_matched_as_a_whole_and_latest_never() -> None:
    names = ["v1", "v10", "xv1", "latest"]
    assert cleanup.named(cleanup.Cleanup("v1"), names) == ["v1"]
    assert cleanup.named(cleanup.Cleanup(".*", keep="v.*"), names) == ["xv1"]
    assert cleanup.named(cleanup.Cleanup("latest"), names) == []


def test_a_pattern_that_would_hold_others_takes_linear_time() -> None:
    hostile = cleanup.checked(delete="(a+)+b", deprecated=None, keep=None, keep_n=None, older_than=None)
    assert cleanup.named(hostile, ["a" * 128] * 100) == []


@pytest.mark.parametrize("pattern", ["(", "a{2000}", "(?=x)", "x" * 1001])
def test_patterns_that_are_refused(pattern: str) -> None:
    with pytest.raises(InvalidParams) as refused:
        cleanup.checked(delete=pattern, deprecated=None, keep=None, keep_n=None, older_than=None)
    assert refused.value.body == {"error": "name_regex_delete is an invalid regexp"}
