"""Coverage out of a log.

Source: GitLab spec/lib/gitlab/ci/trace/stream_spec.rb (`extract_coverage`); RE2's syntax page.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nautilus_forge.ci.budget import Budget
from nautilus_forge.ci.regex.capturing import Capturing
from nautilus_forge.reports.coverage import MAX_LOG_BYTES, coverage_of


@pytest.mark.parametrize(
    ("log", "pattern", "expected"),
    [
        ("Coverage 1033 / 1051 LOC (98.29%) covered", r"\(\d+.\d+\%\) covered", 98.29),
        ("TOTAL   100  7  93%\n", r"(?i)total.*? (100(?:\.0+)?\%|[1-9]?\d(?:\.\d+)?\%)$", 93.0),
        ("(98.1%) covered\nmore\n(99.5%) covered\nend", r"\(\d+.\d+\%\) covered", 99.5),
        ("a (1.0%) b (2.5%)", r"\((\d+\.\d+)%\)", 2.5),
        ("Code coverage is 65.5 and again 70", r"coverage is (?P<much>\d+\.\d+)", 65.5),
        ("coverage: 12% of statements\r\n", r"coverage: \d+% of statements", 12.0),
        ("\x1b[32mAll files | 87.5 |\x1b[0m", r"All files[^|]*\|[^|]*\s+([\d\.]+)", 87.5),
        ("2026-01-01T00:00:00.000000Z 00O 55% done", r"^\d+% done", 55.0),
        ("nothing here", r"\d+%", None),
        ("covered: many%", r"covered: \w+%", None),
        ("", r"\d+%", None),
    ],
)
def test_what_is_found(tmp_path: Path, log: str, pattern: str, expected: float | None) -> None:
    (tmp_path / "log").write_text(log, newline="")
    assert coverage_of(tmp_path / "log", pattern) == expected


def test_a_log_that_is_not_there_has_none(tmp_path: Path) -> None:
    assert coverage_of(tmp_path / "no", r"\d+%") is None


def test_only_the_end_of_a_long_log_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("10% covered\n" + "x\n" * MAX_LOG_BYTES)
    assert coverage_of(tmp_path / "log", r"\d+% covered") is None


@pytest.mark.parametrize("pattern", [r"(a*)*b", r"(a|aa)+$", r"(.*)(.*)(.*)(.*)[^a]c", r"(\d+)*x(\d+)*y"])
def test_no_pattern_takes_long(tmp_path: Path, pattern: str) -> None:
    (tmp_path / "log").write_text(("a" * 4000 + "1" * 4000 + "\n") * 100)
    start = time.process_time()
    coverage_of(tmp_path / "log", pattern)
    assert time.process_time() - start < 10


PATTERNS = st.sampled_from(
    [
        r"(a+)(b*)",
        r"(a|ab)(c|bcd)*",
        r"(a*?)(b?)",
        r"((a)|b)+",
        r"(?:x(\d{1,2}))+",
        r"a(b)?c",
        r"(\w+) (\w+)$",
        r"^(.)(.*?)(\d+)",
        r"[ab]{2,3}?",
        r"(?i)(A)b|(c)",
        r"\b(\w)",
    ]
)


@given(PATTERNS, st.text("abcdx12 ", max_size=12))
def test_groups_are_those_of_other_engines(pattern: str, text: str) -> None:
    ours = list(Capturing(pattern).scan(text, Budget()))
    theirs = [match.groups() or (match[0],) for match in _non_overlapping(pattern, text)]
    assert ours == theirs


def _non_overlapping(pattern: str, text: str) -> list[re.Match[str]]:
    """As `scan`: after an empty match one character on, and no empty match right behind another."""
    found, at = [], 0
    compiled = re.compile(pattern)
    while at <= len(text) and (match := compiled.search(text, at)) is not None:
        found.append(match)
        at = match.end() if match.end() > at else match.end() + 1
    return found
