"""Variables inside variables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nautilus_forge.ci.model import Variable
from nautilus_forge.variables.assemble import is_in_scope
from nautilus_forge.variables.cipher import Cipher, Undecipherable
from nautilus_forge.variables.expand import expand_all, expand_text


def expanded(**values: str) -> dict[str, str]:
    return {v.key: v.value for v in expand_all([Variable(k, x) for k, x in values.items()])}


@pytest.mark.parametrize(
    ("value", "result"),
    [
        ("$A", "1"),
        ("${A}", "1"),
        ("%A%", "1"),
        ("x$A-y", "x1-y"),
        ("$$A", "$$A"),
        ("$NOPE", "$NOPE"),
        ("$", "$"),
        ("100%", "100%"),
        ("$B", "b1"),
    ],
)
def test_references(value: str, result: str) -> None:
    assert expanded(A="1", B="b$A", X=value)["X"] == result


def test_order_does_not_matter() -> None:
    assert expanded(X="$Y", Y="$Z", Z="1") == {"X": "1", "Y": "1", "Z": "1"}


def test_circles_stay_as_they_are() -> None:
    assert expanded(A="$B", B="$A", C="$C", D="ok $E", E="1") == {
        "A": "$B",
        "B": "$A",
        "C": "$C",
        "D": "ok 1",
        "E": "1",
    }


def test_raw_and_file_variables_are_not_looked_into() -> None:
    variables = [
        Variable("A", "1"),
        Variable("RAW", "$A", raw=True),
        Variable("FILE", "content", file=True),
        Variable("X", "$RAW $FILE $A"),
    ]
    assert {v.key: v.value for v in expand_all(variables)}["X"] == "$RAW $FILE 1"
    assert {v.key: v.value for v in expand_all(variables)}["RAW"] == "$A"


def test_the_last_one_wins() -> None:
    found = expand_all([Variable("A", "1"), Variable("X", "$A"), Variable("A", "2")])
    assert {v.key: v.value for v in found} == {"A": "2", "X": "2"}


def test_values_that_would_explode_stay() -> None:
    values = {"V0": "x" * 1000, **{f"V{n}": f"$V{n - 1}" * 10 for n in range(1, 12)}}
    assert all(len(value) <= 65536 for value in expanded(**values).values())


def test_a_chain_of_a_thousand() -> None:
    values = {f"V{n}": f"$V{n + 1}" for n in range(1000)}
    assert len(expanded(**values)) == 1000


@given(st.dictionaries(st.sampled_from("ABCD"), st.text("AB$%{}x", max_size=12)))
def test_any_values_at_all(values: dict[str, str]) -> None:
    assert set(expanded(**values)) == set(values)


def test_texts() -> None:
    assert expand_text("review/$CI_X/${Y}", [Variable("CI_X", "a")]) == "review/a/${Y}"


@pytest.mark.parametrize(
    ("scope", "environment", "is_in"),
    [
        ("*", None, True),
        ("*", "prod", True),
        ("prod", "prod", True),
        ("prod", None, False),
        ("review/*", "review/x/y", True),
        ("review/*", "prod", False),
        ("a?c", "abc", False),
        ("[ab]", "a", False),
    ],
)
def test_scopes(scope: str, environment: str | None, is_in: bool) -> None:
    assert is_in_scope(scope, environment) is is_in


def test_what_is_encrypted_opens_with_the_same_key_alone() -> None:
    stored = Cipher(b"k" * 32).encrypt("secret ✓")
    assert b"secret" not in stored
    assert Cipher(b"k" * 32).decrypt(stored) == "secret ✓"
    with pytest.raises(Undecipherable):
        Cipher(b"other" * 8).decrypt(stored)
