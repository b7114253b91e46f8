"""The language of `rules:if`.

Source: spec/lib/gitlab/ci/pipeline/expression/statement_spec.rb (the tables), lexer_spec.rb, parser_spec.rb.
"""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nautilus_forge.ci.budget import Budget, BudgetExhausted
from nautilus_forge.ci.expression import Expression, InvalidExpression, Patterns, is_present, parse

VARIABLES = {
    "PRESENT": "my variable",
    "PATH_VARIABLE": "a/path/variable/value",
    "FULL_PATH": "/a/full/path/variable/value",
    "EMPTY": "",
    "TEXT": "abcde",
    "PATTERN": "/^ab.*/",
    "OTHER_PATTERN": "/^at.*/",
}


def parsed(text: str) -> Expression:
    return parse(text, Patterns(Budget()))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('$PRESENT == "my variable"', True),
        ("'my variable' == $PRESENT", True),
        ("$PRESENT == null", False),
        ("$EMPTY == null", False),
        ('"" == $EMPTY', True),
        ("$UNDEFINED == null", True),
        ("null == $UNDEFINED", True),
        ("$PRESENT", "my variable"),
        ("$EMPTY", ""),
        ("$UNDEFINED", None),
        ("$PRESENT =~ /var.*e$/", True),
        ("$PRESENT =~ /^var.*/", False),
        ("$EMPTY =~ /var.*/", False),
        ("$UNDEFINED =~ /var.*/", False),
        ("$PRESENT =~ /VAR.*/i", True),
        (r"$PATH_VARIABLE =~ /path\/variable/", True),
        (r"$FULL_PATH =~ /^\/a\/full\/path\/variable\/value$/", True),
        ('$PRESENT != "my variable"', False),
        ("$PRESENT != null", True),
        ("$EMPTY != null", True),
        ("$UNDEFINED != null", False),
        ("$PRESENT !~ /^var.*/", True),
        ("$UNDEFINED !~ /var.*/", True),
        ('$PRESENT && "string"', "string"),
        ("$PRESENT && $EMPTY", ""),
        ("$PRESENT && null", None),
        ("$EMPTY && $PRESENT", "my variable"),
        ("null && $PRESENT", None),
        ("$PRESENT =~ /my var/ && $EMPTY =~ /nope/", False),
        ('$EMPTY == "" && $PRESENT', "my variable"),
        ("$UNDEFINED || $PRESENT", "my variable"),
        ("$PRESENT || $UNDEFINED == null", "my variable"),
        ('$PRESENT && null || $EMPTY == ""', True),
        ("(($PRESENT))", "my variable"),
        ('($PRESENT) && (null || $EMPTY == "")', True),
        ('("string" || "test") == "string"', True),
        ('("string" == ("test" && "string"))', True),
        ('("string" == ("test" || "string"))', False),
        ('("string" == "test" || "string")', "string"),
        ('("string" == ("string" || (("1" == "1") && ("2" == "3"))))', True),
        ('$TEXT =~ "abcde"', True),
        ("$TEXT =~ $TEXT", True),
        ("$TEXT =~ $PATTERN", True),
        ("$TEXT =~ $OTHER_PATTERN", False),
        ("$TEXT !~ $UNDEFINED", True),
        ("$TEXT =~ $UNDEFINED", False),
        ("$TEXT =~ /./", True),
        ("\n  $TEXT\n  && $PATTERN\n", "/^ab.*/"),
    ],
)
def test_an_expression_has_the_value_that_gitlab_gives_it(text, value):
    assert parsed(text).value(VARIABLES) == value


@pytest.mark.parametrize("value", [True, "x", "false"])
def test_a_value_that_is_present_holds(value):
    assert is_present(value)


@pytest.mark.parametrize("value", [None, False, "", "  "])
def test_a_blank_value_does_not_hold(value):
    assert not is_present(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "$A = 1",
        "== null",
        "$A ==",
        "$A &&",
        "&& $A",
        "($A",
        "$A)",
        "()",
        "$A $B",
        '"open',
        "$A =~ /(/",
        "$A =~ /a(?=b)/",
        "nullable",
        "1 == 1",
        "$A == ==",
        "$A | $B",
        "$",
        "!$A",
        "$A =~ //",
    ],
)
def test_what_is_no_expression_is_an_error(text):
    with pytest.raises(InvalidExpression):
        parsed(text)


def test_matching_something_other_than_texts_does_not_hold():
    assert parsed("($TEXT == $TEXT) =~ /true/").holds(VARIABLES) is False
    assert parsed("$TEXT =~ ($TEXT == $TEXT)").holds(VARIABLES) is False


def test_parentheses_and_tokens_are_limited():
    for hostile in ("(" * 10_000 + "$A" + ")" * 10_000, "$A || " * 10_000 + "$A"):
        started = time.process_time()
        with pytest.raises(InvalidExpression):
            parsed(hostile)
        assert time.process_time() - started < 1


def test_a_catastrophic_pattern_in_a_variable_takes_no_time():
    started = time.process_time()
    assert parsed("$T =~ $P").holds({"T": "a" * 50_000 + "b", "P": "/(a+)+(a+)+(a+)+$/"}) is False
    assert time.process_time() - started < 2


TOKENS = st.sampled_from(
    [
        "$PRESENT",
        "$EMPTY",
        "$UNDEFINED",
        "$PATTERN",
        '"text"',
        "'x'",
        '""',
        "null",
        "/a.*/",
        "/(/",
        "==",
        "!=",
        "=~",
        "!~",
        "&&",
        "||",
        "(",
        ")",
        "!",
        "$[[ inputs.x ]]",
        "\n",
        "\\",
    ]
)


@settings(max_examples=500, deadline=None)
@given(
    st.lists(TOKENS, max_size=15).map(" ".join)
    | st.text(alphabet="$A=!~&|()'\"/\\ null\n", max_size=40)
    | st.text()
)
def test_any_text_is_an_expression_or_an_invalid_one(text):
    try:
        expression = parsed(text)
    except InvalidExpression:
        return
    try:
        assert expression.holds(VARIABLES) in (True, False)
    except BudgetExhausted:
        pytest.fail("a short expression used up the whole budget")


VALUES = st.sampled_from(["$PRESENT", "$EMPTY", "$UNDEFINED", '"text"', "null", "($PRESENT == null)"])
WELL_FORMED = st.recursive(
    VALUES,
    lambda inner: st.tuples(inner, st.sampled_from(["==", "!=", "&&", "||"]), inner).map(
        lambda parts: f"({parts[0]} {parts[1]} {parts[2]})"
    ),
    max_leaves=10,
)


@settings(max_examples=300, deadline=None)
@given(WELL_FORMED)
def test_well_formed_expressions_are_taken_and_mean_the_same_in_more_parentheses(text):
    assert parsed(text).value(VARIABLES) == parsed(f"(({text}))").value(VARIABLES)
