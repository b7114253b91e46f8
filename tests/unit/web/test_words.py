"""How values read on a page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from nautilus.web import words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0"),
        (3, "3"),
        (3.0, "3"),
        (0.1, "0.1"),
        (0.123456789, "0.12346"),
        (0.00001234, "1.234e-5"),
        (-0.00001234, "-1.234e-5"),
        (123456.789, "1.2346e+05"),
        (2e12, "2.000e+12"),
        (float("nan"), "NaN"),
        (float("inf"), "∞"),
        (True, "True"),
        ("relu", "relu"),
    ],
)
def test_numbers(value: object, text: str) -> None:
    assert words.number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (-1, "0.0 s"),
        (0.44, "0.4 s"),
        (9.96, "10.0 s"),
        (12.4, "12 s"),
        (59.6, "1 min"),
        (185, "3 min 5 s"),
        (7440, "2 h 4 min"),
        (3600, "1 h"),
        (262800, "3 d 1 h"),
        (float("nan"), "–"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(None, "–"), (0, "0 B"), (812, "812 B"), (1536, "1.5 KiB"), (2**30, "1.0 GiB"), (2**60, "1048576 TiB")],
)
def test_sizes(size: float | None, text: str) -> None:
    assert words.filesize(size) == text


def test_a_moment_is_utc_for_machines_and_for_readers_without_scripts() -> None:
    at = datetime(2026, 3, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    expected = 'datetime="2026-02-28T23:30:00Z"'
    assert expected in words.moment(at) and ">2026-02-28 23:30 UTC</time>" in words.moment(at)
    assert expected in words.moment("2026-02-28T23:30:00Z") and expected in words.moment(at.astimezone(UTC))


def test_parameters_keep_their_text() -> None:
    assert [words.parameter(v) for v in ("ü", 0.1, True, None, [1, "é"])] == [
        "ü",
        "0.1",
        "true",
        "null",
        '[1, "é"]',
    ]
