"""The search language: what it reads, and that nothing makes it fall over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nautilus.tracking.errors import InvalidParameter
from nautilus.tracking.filters import (
    EXPERIMENTS,
    MODELS,
    RUNS,
    Comparison,
    Entity,
    Ordering,
    parse_filter,
    parse_order_by,
)
from nautilus.tracking.search import next_token, offset_of, runs_query

_NUMBERS = st.one_of(
    st.integers(-(10**12), 10**12), st.floats(allow_nan=False, allow_infinity=False, width=64).map(float)
)
_WORDS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,10}", fullmatch=True)
_KEYS = st.text(
    st.characters(blacklist_characters="`\x00", blacklist_categories=("Cs",)), min_size=1, max_size=20
)
_VALUES = st.text(st.characters(blacklist_characters="\\\x00", blacklist_categories=("Cs",)), max_size=30)


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


_METRICS = st.builds(
    lambda key, operator, value: (
        f"metrics.`{key}` {operator} {value!r}",
        Comparison(Entity.METRIC, key, operator, float(value)),
    ),
    _KEYS,
    st.sampled_from(["=", "!=", "<", "<=", ">", ">="]),
    _NUMBERS,
)
_TEXTS = st.builds(
    lambda entity, key, operator, value: (
        f"{entity[0]}.`{key}` {operator} {_quoted(value)}",
        Comparison(entity[1], key, operator.upper(), value),
    ),
    st.sampled_from([("params", Entity.PARAM), ("tag", Entity.TAG)]),
    _KEYS,
    st.sampled_from(["=", "!=", "LIKE", "ilike"]),
    _VALUES,
)
_NULLS = st.builds(
    lambda key, negated: (
        f"tags.{key} is {'not ' if negated else ''}null",
        Comparison(Entity.TAG, key, "IS NOT NULL" if negated else "IS NULL", None),
    ),
    _WORDS,
    st.booleans(),
)
_LISTS = st.builds(
    lambda negated, values: (
        f"run_id {'NOT IN' if negated else 'in'} ({', '.join(map(_quoted, values))})",
        Comparison(Entity.ATTRIBUTE, "run_id", "NOT IN" if negated else "IN", tuple(values)),
    ),
    st.booleans(),
    st.lists(_VALUES, min_size=1, max_size=5),
)


@given(
    st.lists(st.one_of(_METRICS, _TEXTS, _NULLS, _LISTS), min_size=1, max_size=5),
    st.sampled_from([" AND ", " and ", "\n\tAnd  "]),
)
def test_what_is_written_is_what_is_read(parts: list[tuple[str, Comparison]], between: str) -> None:
    assert parse_filter(between.join(text for text, _ in parts), RUNS) == [
        comparison for _, comparison in parts
    ]


@given(st.text(max_size=200), st.sampled_from([RUNS, EXPERIMENTS, MODELS]))
def test_any_text_is_read_or_refused(text: str, vocabulary: object) -> None:
    try:
        parse_filter(text, vocabulary)  # type: ignore[arg-type]
    except InvalidParameter as error:
        assert error.status == 400


@given(
    st.lists(
        st.sampled_from(
            ["metrics", ".", "a", "`b c`", "'x'", '"y"', "=", "<", "1.5", "-2", "AND", "IN", "(", ")", ",", "IS", "NOT",
             "NULL", "LIKE", " ", "run_id", "tags", "start_time", "'"]
        ),
        max_size=14,
    )
)  # fmt: skip
def test_any_mixture_of_its_words_is_read_or_refused(tokens: list[str]) -> None:
    try:
        comparisons = parse_filter(" ".join(tokens), RUNS)
    except InvalidParameter:
        return
    statement, parameters = runs_query([1], "ALL", comparisons, [], 10, 0)
    assert statement.count("%s") == len(parameters)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("metrics.a.b > 1", "a.b"),
        ("metrics.v1.2 > 1", "v1.2"),
        ("metrics.1 > 1", "1"),
        ("metrics.top-5/acc > 1", "top-5/acc"),
        ("metrics.a>-1", "a"),
        ('metrics."with space" > 1', "with space"),
        ("`metrics`.`x` > 1", "x"),
    ],
)
def test_keys_may_be_written_in_many_ways(text: str, key: str) -> None:
    (comparison,) = parse_filter(text, RUNS)
    assert comparison.key == key


@pytest.mark.parametrize(
    ("clause", "ordering"),
    [
        ("metrics.loss", Ordering(Entity.METRIC, "loss", True)),
        ("params.`a b` desc", Ordering(Entity.PARAM, "a b", False)),
        ("created DESC", Ordering(Entity.ATTRIBUTE, "start_time", False)),
        ("attributes.run_name ASC", Ordering(Entity.ATTRIBUTE, "run_name", True)),
    ],
)
def test_orders_name_a_field_and_a_direction(clause: str, ordering: Ordering) -> None:
    assert parse_order_by([clause], RUNS) == [ordering]


def test_a_filter_has_an_end() -> None:
    with pytest.raises(InvalidParameter, match="At most"):
        parse_filter(" AND ".join(["metrics.a > 1"] * 500), RUNS)
    with pytest.raises(InvalidParameter, match="characters"):
        parse_filter("metrics.a > 1" + " " * 200_000, RUNS)


def test_values_never_become_sql() -> None:
    hostile = "x'; DROP TABLE tracking_run; --"
    comparisons = parse_filter(
        f"params.`{hostile}` = {_quoted(hostile)} AND tags.a LIKE {_quoted(hostile)}", RUNS
    )
    orderings = parse_order_by([f"metrics.`{hostile}` DESC"], RUNS)
    statement, parameters = runs_query([1], "ALL", comparisons, orderings, 10, 0)
    assert "DROP" not in statement
    assert parameters.count(hostile) == 4


@given(st.integers(0, 10_000_000))
def test_tokens_name_a_place(offset: int) -> None:
    assert offset_of(next_token(offset)) == offset


@given(st.text(max_size=60))
def test_other_tokens_are_refused_or_read(token: str) -> None:
    try:
        assert offset_of(token) >= 0
    except InvalidParameter as error:
        assert error.code == "INVALID_PARAMETER_VALUE"
