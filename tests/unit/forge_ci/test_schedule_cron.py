"""When a schedule is due. Source: crontab(5), fugit's README, GitLab spec/lib/gitlab/ci/cron_parser_spec.rb."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nautilus_forge.schedules.cron import InvalidCron, next_run, parse, zone_of
from nautilus_forge.schedules.zones import RAILS_ZONES


def due(cron: str, after: str, zone: str = "UTC") -> str:
    """The next run in the zone's own time, as `YYYY-mm-ddTHH:MM`."""
    moment = next_run(cron, zone, datetime.fromisoformat(after).replace(tzinfo=UTC))
    return moment.astimezone(zone_of(zone)).strftime("%Y-%m-%dT%H:%M")


@pytest.mark.parametrize(
    ("cron", "after", "expected"),
    [
        ("* * * * *", "2026-01-01T00:00:30", "2026-01-01T00:01"),
        ("0 1 * * *", "2026-01-01T01:00:00", "2026-01-02T01:00"),
        ("*/20 * * * *", "2026-01-01T00:41:00", "2026-01-01T01:00"),
        ("5-59/25 3 * * *", "2026-01-01T03:05:00", "2026-01-01T03:30"),
        ("0 22-2 * * *", "2026-01-01T00:30:00", "2026-01-01T01:00"),
        ("0 24 * * *", "2026-01-01T12:00:00", "2026-01-02T00:00"),
        ("0 0 29 2 *", "2026-01-01T00:00:00", "2028-02-29T00:00"),
        ("0 0 1,15 * *", "2026-01-02T00:00:00", "2026-01-15T00:00"),
        ("0 9 * * mon-fri", "2026-01-02T10:00:00", "2026-01-05T09:00"),
        ("0 9 * * Sunday", "2026-01-02T10:00:00", "2026-01-04T09:00"),
        ("0 9 * * 7", "2026-01-02T10:00:00", "2026-01-04T09:00"),
        ("0 9 * * fri-mon", "2026-01-06T10:00:00", "2026-01-09T09:00"),
        ("0 0 1 jan *", "2026-01-02T00:00:00", "2027-01-01T00:00"),
        ("0 0 * * mon#2", "2026-01-01T00:00:00", "2026-01-12T00:00"),
        ("0 0 * * fri#-1", "2026-01-01T00:00:00", "2026-01-30T00:00"),
        ("0 0 13 * fri", "2026-01-03T00:00:00", "2026-01-09T00:00"),
        ("@daily", "2026-01-01T05:00:00", "2026-01-02T00:00"),
        ("@hourly", "2026-01-01T05:00:00", "2026-01-01T06:00"),
    ],
)
def test_the_next_time(cron: str, after: str, expected: str) -> None:
    assert due(cron, after) == expected


def test_hours_are_those_of_the_zone() -> None:
    moment = next_run("0 9 * * *", "America/New_York", datetime(2026, 1, 1, tzinfo=UTC))
    assert moment == datetime(2026, 1, 1, 14, tzinfo=UTC)
    assert next_run("0 9 * * *", "Berlin", datetime(2026, 7, 1, tzinfo=UTC)).hour == 7


def test_what_falls_into_the_hour_that_is_left_out_waits_for_the_next_day() -> None:
    assert due("30 2 * * *", "2026-03-29T00:00:00", "Europe/Berlin") == "2026-03-30T02:30"


def test_what_falls_into_the_hour_that_comes_twice_is_due_once() -> None:
    first = next_run("30 2 * * *", "Europe/Berlin", datetime(2026, 10, 25, tzinfo=UTC))
    assert first == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert next_run("30 2 * * *", "Europe/Berlin", first) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


def test_what_is_due_each_hour_is_due_in_both() -> None:
    times = [datetime(2026, 10, 24, 23, 30, tzinfo=UTC)]
    for _ in range(3):
        times.append(next_run("30 * * * *", "Europe/Berlin", times[-1]))
    assert [later - earlier for earlier, later in itertools.pairwise(times)] == [timedelta(hours=1)] * 3


@pytest.mark.parametrize(
    "cron",
    [
        *("", "hello", "* * * *", "* * * * * *", "60 * * * *", "* 25 * * *", "* * 0 * *", "* * * 13 *"),
        *("* * * * 8", "*/0 * * * *", "1- * * * *", "a * * * *", "* * * foo *", "* * * * mon#6", "@never"),
        *("*-5 * * * *", "-1 * * * *", "1,,2 * * * *", "٣ * * * *"),
    ],
)
def test_what_is_no_cron_line(cron: str) -> None:
    with pytest.raises(InvalidCron):
        parse(cron)


def test_a_day_that_never_comes_is_refused() -> None:
    with pytest.raises(InvalidCron):
        next_run("0 0 31 2 *", "UTC", datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("zone", ["Nowhere", "", "../../etc/passwd", "/etc/localtime", "a\0b", "Europe"])
def test_what_is_no_time_zone(zone: str) -> None:
    with pytest.raises(InvalidCron):
        zone_of(zone)


def test_each_of_rails_names_is_a_zone() -> None:
    assert len({str(zone_of(name)) for name in RAILS_ZONES}) > 100


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 59), min_size=1, max_size=3),
    st.lists(st.integers(0, 23), min_size=1, max_size=3),
    st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)),
    st.sampled_from(["UTC", "Europe/Berlin", "America/Sao_Paulo", "Asia/Kathmandu", "Pacific/Apia"]),
)
def test_the_next_time_is_later_and_fits(
    minutes: list[int], hours: list[int], after: datetime, zone: str
) -> None:
    line = f"{','.join(map(str, minutes))} {','.join(map(str, hours))} * * *"
    moment = next_run(line, zone, after.replace(tzinfo=UTC))
    local = moment.astimezone(ZoneInfo(zone))
    assert moment > after.replace(tzinfo=UTC)
    assert local.minute in minutes and local.hour in hours
