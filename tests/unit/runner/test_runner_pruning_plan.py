"""What pruning takes: never what a job uses, the oldest first, no more than is needed."""

from __future__ import annotations

from nautilus_runner.pruning.plan import Item, Policy, choose


def item(name: str, size: int, used_at: float, kind: str = "data", **fields: bool) -> Item:
    return Item(kind, name, size, used_at, **fields)


def names(items: list[Item], policy: Policy) -> dict[str, str]:
    return {removal.item.name: removal.why for removal in choose(items, policy)}


def test_beyond_a_limit_the_oldest_of_its_kind_go_and_no_more() -> None:
    items = [item("old", 5, 1), item("new", 5, 3), item("middle", 5, 2), item("other", 50, 0, kind="cache")]
    assert names(items, Policy(10, {"data": 10})) == {"old": "limit"}
    assert names(items, Policy(10, {"data": 4})) == {"old": "limit", "middle": "limit", "new": "limit"}
    assert names(items, Policy(10, {"data": 15})) == {}


def test_what_a_job_uses_counts_but_stays() -> None:
    items = [item("old", 5, 1, is_held=True), item("new", 5, 2)]
    assert names(items, Policy(10, {"data": 5})) == {"new": "limit"}
    assert names(items, Policy(10, {}, is_all=True)) == {"new": "asked"}


def test_for_the_reserve_the_oldest_of_all_kinds_go_until_it_is_there() -> None:
    items = [
        item("a", 5, 1),
        item("b", 5, 2, kind="cache"),
        item("c", 5, 3),
        item("far", 9, 0, is_local=False),
    ]
    assert names(items, Policy(10, {}, missing=6)) == {"a": "reserve", "b": "reserve"}
    assert names(items, Policy(10, {}, missing=0)) == {}


def test_for_the_reserve_what_nothing_brings_back_goes_last() -> None:
    items = [
        item("saved", 5, 1, kind="checkpoint"),
        item("needed", 5, 0, kind="checkpoint", is_held=True),
        item("repository", 5, 8, kind="mirror"),
        item("object", 5, 9, kind="lfs"),
    ]
    assert names(items, Policy(10, {}, missing=9)) == {"repository": "reserve", "object": "reserve"}
    assert list(names(items, Policy(10, {}, missing=99))) == ["repository", "object", "saved"]
    assert names([item("saved", 5, 1, kind="checkpoint", is_stale=True)], Policy(10, {})) == {
        "saved": "stale"
    }


def test_leftovers_and_stale_downloads_go_always_and_count_for_the_reserve() -> None:
    week = 7 * 86400.0
    items = [
        item("left", 5, 9, kind="work-tree", is_leftover=True),
        item("half", 5, 0, kind="partial"),
        item("fresh", 5, week, kind="partial"),
        item("kept", 5, 1),
    ]
    assert names(items, Policy(week + 1, {}, missing=10)) == {"left": "leftover", "half": "stale"}


def test_everything_unused_goes_when_asked_each_thing_once() -> None:
    items = [item("a", 5, 1), item("a", 5, 1, kind="cache"), item("left", 1, 1, is_leftover=True)]
    found = choose(items, Policy(10, {"data": 0}, is_all=True))
    assert sorted((removal.item.kind, removal.item.name) for removal in found) == [
        ("cache", "a"),
        ("data", "a"),
        ("data", "left"),
    ]
