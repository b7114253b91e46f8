"""Regular expressions: RE2's syntax, the same answers as Python's engine, and never more than linear time.

Source: RE2's syntax page, spec/lib/gitlab/untrusted_regexp_spec.rb.
"""

from __future__ import annotations

import contextlib
import random
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nautilus_forge.ci import regex
from nautilus_forge.ci.budget import Budget, BudgetExhausted


def found(pattern: str, text: str, flags: str = "") -> bool:
    return regex.compile_pattern(pattern, flags).search(text, Budget())


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("b+", "abbc", True),
        ("^b", "ab", False),
        ("^a$", "a\n", False),
        ("(?m)^b$", "a\nb\nc", True),
        (".", "\n", False),
        ("(?s)a.b", "a\nb", True),
        ("(?i)MAIN", "main", True),
        ("(?i:a)B", "AB", True),
        ("(?i:a)B", "Ab", False),
        ("(?i)[a-c]x", "CX", True),
        ("(?-i)A", "a", False),
        (r"\Afoo\z", "foo", True),
        (r"\bfoo\b", "a foo!", True),
        (r"\Bo", "foo", True),
        (r"[[:alpha:]]{3}\d", "abc1", True),
        (r"[^[:space:]]", " \t", False),
        (r"[\w-]+", "--", True),
        (r"[]a]", "]", True),
        (r"[^]a]", "]", False),
        (r"\x41\x{42}\103", "ABC", True),
        (r"\pL\p{Nd}\P{L}", "é١ ", True),
        (r"\Q.*\E", "a.*b", True),
        (r"(?P<name>a)(?<other>b)", "ab", True),
        ("a{2}", "a", False),
        ("a{,2}", "a{,2}", True),
        ("a{2,}b", "aaab", True),
        ("a*?b", "b", True),
        ("", "", True),
        ("a|", "", True),
        ("(?:a|b)*c", "ababc", True),
        ("x{0}y", "y", True),
    ],
)
def test_patterns_mean_what_re2_means_by_them(pattern, text, expected):
    assert found(pattern, text) is expected


@pytest.mark.parametrize(
    "pattern",
    [
        "(",
        ")",
        "(a",
        "[a",
        "a**",
        "*a",
        "a++",
        r"\1",
        r"(a)\1",
        "(?=a)",
        "(?!a)",
        "(?<=a)b",
        "(?<!a)b",
        "(?>a)",
        "(?#x)",
        "[b-a]",
        r"\y",
        "a{1001}",
        "a{2,1}",
        "(?z)a",
        "[[:foo:]]",
        r"\p{Greek_}",
        "\\",
        "(?P<>a)",
        r"\x{110000}",
        "(?i",
    ],
)
def test_what_re2_does_not_take_is_an_error(pattern):
    with pytest.raises(regex.InvalidRegex):
        regex.compile_pattern(pattern)


@pytest.mark.parametrize(
    "pattern", ["(" * 5_000, "a" * 5_000, "((((a{100}){100}){100}){100})", "(a|b){1000}{1000}"]
)
def test_patterns_that_are_too_large_are_refused_at_once(pattern):
    started = time.process_time()
    with pytest.raises(regex.InvalidRegex):
        regex.compile_pattern(pattern)
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("(a+)+$", "a" * 20_000 + "b"),
        ("(a|a)+$", "a" * 20_000 + "b"),
        ("(a*)*b", "a" * 20_000),
        ("(.*)(.*)(.*)(.*)(.*)(.*)x", "y" * 20_000),
        (r"^(([a-z])+.)+[A-Z]([a-z])+$", "a" * 20_000),
    ],
)
def test_catastrophic_patterns_take_no_longer_than_others(pattern, text):
    started = time.process_time()
    assert found(pattern, text) is False
    assert time.process_time() - started < 1


def test_a_pattern_with_very_many_states_runs_out_of_its_budget_instead_of_time():
    started = time.process_time()
    with pytest.raises(BudgetExhausted):
        found("(a|b)*a(a|b){400}c", "".join(random.Random(1).choices("ab", k=50_000)))
    assert time.process_time() - started < 5


ATOMS = st.sampled_from(
    ["a", "b", "0", ".", r"\d", r"\w", "[ab]", "[^a]", "[0-9a-b]", " ", "-", r"\s", r"\W", "_"]
)
PATTERNS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda pair: f"(?:{pair[0]}|{pair[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{0,2}", "*?", "{2,}"])).map(
            lambda pair: f"(?:{pair[0]}){pair[1]}"
        ),
        inner.map(lambda part: f"({part})"),
        inner.map(lambda part: f"^{part}"),
        inner.map(lambda part: rf"{part}\b"),
        inner.map(lambda part: rf"{part}\Z"),
    ),
    max_leaves=8,
)


@settings(max_examples=500, deadline=None)
@given(PATTERNS, st.text(alphabet="ab01 -_\n", max_size=12))
def test_it_finds_what_pythons_engine_finds(pattern, text):
    ours = regex.compile_pattern(pattern.replace(r"\Z", r"\z"))
    assert ours.search(text, Budget()) is bool(re.search(pattern, text, re.ASCII))


@settings(max_examples=500, deadline=None)
@given(st.text(alphabet="ab\\[]{}()^$*+?|.-,0123<>P=!:imsUQExd\n", max_size=30), st.text(max_size=20))
def test_any_text_is_a_pattern_or_an_invalid_one(pattern, text):
    with contextlib.suppress(regex.InvalidRegex, BudgetExhausted):
        regex.compile_pattern(pattern).search(text, Budget())


def test_a_literal_has_slashes_and_flags():
    assert regex.compile_literal(r"/a\/B/i").search("A/b", Budget())
    for wrong in ("a", "/a", "a/", "/a/x", ""):
        with pytest.raises(regex.InvalidRegex):
            regex.compile_literal(wrong)
