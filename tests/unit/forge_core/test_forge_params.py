"""Parameters as Grape takes them."""

from __future__ import annotations

from contextlib import suppress
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nautilus_forge.errors import BadRequest, InvalidParams
from nautilus_forge.params import CommaList, Field, Id, ParamModel, check, nested


class Inner(ParamModel):
    file_path: str


class Example(ParamModel):
    name: str
    size: int = 0
    kind: Literal["a", "b"] = "a"
    flag: bool = False
    tags: CommaList = Field(default=[])
    inner: list[Inner] = Field(default=[])
    ref: Id | None = None


def wording(**values: object) -> str:
    with pytest.raises(InvalidParams) as refusal:
        check(Example, values)
    return str(refusal.value.body["error"])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "name is missing"),
        ({"name": "x", "size": "many"}, "size is invalid"),
        ({"name": "x", "kind": "c"}, "kind does not have a valid value"),
        ({"name": "x", "flag": "perhaps"}, "flag is invalid"),
        ({"name": "x", "inner": [{}]}, "inner[0][file_path] is missing"),
        ({"name": "x", "ref": 1 << 63}, "ref out of range"),
        ({"size": "many", "kind": "c"}, "name is missing, size is invalid, kind does not have a valid value"),
    ],
)
def test_mistakes_are_named_in_grapes_words(values: dict[str, object], words: str) -> None:
    assert wording(**values) == words


def test_text_becomes_what_is_wanted() -> None:
    found = check(Example, {"name": 5, "size": "7", "flag": "true", "tags": "a, b,,c", "unknown": 1})
    assert (found.name, found.size, found.flag, found.tags) == ("5", 7, True, ["a", "b", "c"])


def test_only_what_was_sent_is_given() -> None:
    assert check(Example, {"name": "x", "size": 0}).given() == {"name": "x", "size": 0}


@pytest.mark.parametrize(
    ("items", "result"),
    [
        ([("a", "1"), ("a", "2")], {"a": "2"}),
        ([("a[]", "1"), ("a[]", "2")], {"a": ["1", "2"]}),
        ([("a[b]", "1"), ("a[c][d]", "2")], {"a": {"b": "1", "c": {"d": "2"}}}),
        ([("a[][b]", "1"), ("a[][c]", "2"), ("a[][b]", "3")], {"a": [{"b": "1", "c": "2"}, {"b": "3"}]}),
        ([("user[login]", "x")], {"user": {"login": "x"}}),
    ],
)
def test_brackets_nest(items: list[tuple[str, str]], result: dict[str, object]) -> None:
    assert nested(items) == result


@given(st.lists(st.tuples(st.text(alphabet="ab[]", max_size=8), st.text(max_size=3)), max_size=6))
def test_any_keys_nest_or_are_refused(items: list[tuple[str, str]]) -> None:
    with suppress(BadRequest):
        assert isinstance(nested(items), dict)
