"""Expansion of variables.

Source: spec/lib/expand_variables_spec.rb, spec/lib/gitlab/ci/variables/collection_spec.rb.
"""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nautilus_forge.ci.model import Variable
from nautilus_forge.ci.variables import expand, expand_nested, merge, references, sort_and_expand

VALUES = {"A": "a", "B": "$A", "EMPTY": ""}


@pytest.mark.parametrize(
    ("text", "kept", "vanished"),
    [
        ("plain", "plain", "plain"),
        ("$A", "a", "a"),
        ("${A}b", "ab", "ab"),
        ("%A%", "a", "a"),
        ("$A$B", "a$A", "a$A"),
        ("x${EMPTY}y", "xy", "xy"),
        ("$NONE-${NONE}", "$NONE-${NONE}", "-"),
        ("$$A", "$$A", "$$A"),
        ("%%A%%", "%%A%%", "%%A%%"),
        ("cost $5", "cost $5", "cost $5"),
        ("${A", "${A", "${A"),
    ],
)
def test_references_are_replaced_once(text, kept, vanished):
    assert expand(text, VALUES) == kept
    assert expand(text, VALUES, keep_unknown=False) == vanished


def test_a_doubled_sign_can_be_made_single():
    assert expand("$$A %%", VALUES, unescape=True) == "$A %"


def test_nested_expansion():
    assert expand_nested("$C-$NONE", {**VALUES, "C": "$B!"}) == "a!-"
    assert expand_nested("$R", {"R": "$A", "A": "a"}, raw=["R"]) == "$A"


def expanded(**values: str) -> dict[str, str]:
    return {v.key: v.value for v in sort_and_expand(Variable(key, value) for key, value in values.items())}


def test_variables_in_variables_in_any_order():
    assert expanded(C="$B-$A", B="${A}b", A="a", N="$NONE") == {
        "C": "ab-a",
        "B": "ab",
        "A": "a",
        "N": "$NONE",
    }


def test_circles_stay_as_they_are_written():
    assert expanded(A="$B", B="$A", C="x") == {"A": "$B", "B": "$A", "C": "x"}
    assert expanded(A="$A") == {"A": "$A"}


def test_raw_and_file_variables_are_left_for_the_runner():
    variables = [
        Variable("RAW", "$A", raw=True),
        Variable("FILE", "$A", file=True),
        Variable("A", "a"),
        Variable("USES", "$RAW ${FILE} $A"),
    ]
    assert [v.value for v in sort_and_expand(variables)] == ["$A", "$A", "a", "${RAW} ${FILE} a"]
    assert sort_and_expand(variables, defer=False)[-1].value == "$A $A a"


def test_a_bomb_of_variables_does_not_go_off():
    bomb = {"V0": "x" * 1_000} | {f"V{i}": f"$V{i - 1}" * 10 for i in range(1, 30)}
    started = time.process_time()
    assert max(map(len, expanded(**bomb).values())) <= 200_000 + 1_000
    assert time.process_time() - started < 1


def test_merging_keeps_the_first_place_and_the_last_value():
    merged = merge([Variable("A", "1"), Variable("B", "1")], [Variable("C", "2"), Variable("A", "2")])
    assert [(v.key, v.value) for v in merged] == [("A", "2"), ("B", "1"), ("C", "2")]


def test_references_of_a_text():
    assert references("$A ${B} %C% $$D plain") == ["A", "B", "C"]


@given(st.dictionaries(st.sampled_from("ABCDE"), st.text(alphabet="$%{}ABCDE x", max_size=12)))
def test_any_variables_can_be_expanded(values):
    assert expanded(**values).keys() == values.keys()
