"""When a schedule is due: cron lines with time zones.

Five fields (minute, hour, day of the month, month, day of the week) with lists, ranges (also over the end: `22-2`),
steps, names of months and days, `mon#2` (the second Monday of a month), and `@hourly`, `@daily`… Where both
days are restricted, one of them is enough.

Source: the gem fugit (GitLab's lib/gitlab/ci/cron_parser.rb), crontab(5).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

_NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@noon": "0 12 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS = {
    name: number
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1
    )
}
_DAYS = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
_PART = re.compile(r"(?P<first>\*|\w+)(?:-(?P<last>\w+))?(?:/(?P<step>\d{1,4}))?\Z", re.ASCII)
_NTH = re.compile(r"(?P<day>\w+)#(?P<nth>-?[1-5])\Z", re.ASCII)
_MAX_CHARS = 255
_LONGEST = timedelta(days=366 * 8 + 2)
"""Any day that there is comes again within eight years (29 February)."""


class InvalidCron(ValueError):
    """The text is no cron line, or one that is never due."""


@dataclass(frozen=True)
class Cron:
    """`days` and `weekdays` None: not restricted. `nth`: (weekday, which one of the month; -1 is the last)."""

    minutes: frozenset[int]
    hours: frozenset[int]
    months: frozenset[int]
    days: frozenset[int] | None
    weekdays: frozenset[int] | None
    nth: frozenset[tuple[int, int]]
    is_hour_fixed: bool

    def next_after(self, moment: datetime, zone: tzinfo) -> datetime:
        """The first due minute after the moment, in UTC. Raises `InvalidCron` where there is none.

        What falls into the hour that a zone leaves out is not due that day; what falls into the hour that
        comes twice is due once, unless it is due each hour.
        """
        at = moment.astimezone(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
        end = at + _LONGEST
        while at < end:
            local = at.astimezone(zone)
            if local.month not in self.months or not self._is_day(local):
                at = _until(at, local.replace(hour=0, minute=0, fold=0) + timedelta(days=1))
            elif local.hour not in self.hours or (local.fold and self.is_hour_fixed):
                at += timedelta(minutes=60 - local.minute)
            elif local.minute not in self.minutes:
                at += timedelta(minutes=1)
            else:
                return at
        raise InvalidCron("never due")

    def _is_day(self, local: datetime) -> bool:
        if self.days is None and self.weekdays is None:
            return True
        if self.days is not None and local.day in self.days:
            return True
        return self.weekdays is not None and self._is_weekday(local)

    def _is_weekday(self, local: datetime) -> bool:
        weekday = local.isoweekday() % 7
        assert self.weekdays is not None
        if weekday in self.weekdays:
            return True
        is_last = (local + timedelta(days=7)).month != local.month
        return (weekday, (local.day + 6) // 7) in self.nth or (is_last and (weekday, -1) in self.nth)


def _until(at: datetime, midnight: datetime) -> datetime:
    """The next local midnight; always later than `at`, also where a zone has no such midnight."""
    return max(midnight.astimezone(UTC), at + timedelta(minutes=1))


def parse(text: str) -> Cron:
    """Raises `InvalidCron`."""
    text = text.strip().lower()
    fields = _NICKNAMES.get(text, text).split()
    if len(fields) != 5 or len(text) > _MAX_CHARS:
        raise InvalidCron("not five fields")
    minute, hour, day, month, weekday = fields
    nth = [part for part in weekday.split(",") if "#" in part]
    plain = [part for part in weekday.split(",") if "#" not in part]
    weekdays = _field(",".join(plain), 0, 7, _DAYS) if plain else frozenset()
    hours = _field(hour, 0, 24, {})
    return Cron(
        minutes=_field(minute, 0, 59, {}),
        hours=frozenset(value % 24 for value in hours),
        months=_field(month, 1, 12, _MONTHS),
        days=None if day.startswith("*") and "/" not in day else _field(day, 1, 31, {}),
        weekdays=None if weekday == "*" else frozenset(value % 7 for value in weekdays),
        nth=frozenset(_nth(part) for part in nth),
        is_hour_fixed="*" not in hour,
    )


def _nth(part: str) -> tuple[int, int]:
    match = _NTH.match(part)
    if match is None:
        raise InvalidCron(part)
    return _value(match["day"], 0, 7, _DAYS) % 7, int(match["nth"])


def _field(text: str, low: int, high: int, names: dict[str, int]) -> frozenset[int]:
    """All values that a field names."""
    return frozenset(value for part in text.split(",") for value in _part(part, low, high, names))


def _part(text: str, low: int, high: int, names: dict[str, int]) -> list[int]:
    match = _PART.match(text)
    if match is None:
        raise InvalidCron(text)
    step = int(match["step"]) if match["step"] else 1
    if step == 0 or (match["first"] == "*" and match["last"]):
        raise InvalidCron(text)
    top = high - 1 if (low, high) in ((0, 7), (0, 24)) else high
    if match["first"] == "*":
        return list(range(low, top + 1, step))
    first = _value(match["first"], low, high, names)
    last = _value(match["last"], low, high, names) if match["last"] else (top if match["step"] else first)
    if last >= first:
        return list(range(first, last + 1, step))
    size = top - low + 1
    return [low + (value - low) % size for value in range(first, last + size + 1, step)]


def _value(text: str, low: int, high: int, names: dict[str, int]) -> int:
    value = names.get(text[:3]) if text.isalpha() and text in _full_names(names) else None
    if value is None:
        if not text.isdigit() or len(text) > 2:
            raise InvalidCron(text)
        value = int(text)
    if not low <= value <= high:
        raise InvalidCron(text)
    return value


def _full_names(names: dict[str, int]) -> frozenset[str]:
    """Months and days may be written out."""
    written = {
        1: "sunday monday tuesday wednesday thursday friday saturday",
        0: "january february march april may june july august september october november december",
    }[1 if "sun" in names else 0].split()
    return frozenset([*names, *written]) if names else frozenset()


def zone_of(name: str) -> ZoneInfo:
    """A zone by its tz name (`Europe/Berlin`) or by the name that Rails gives it (`Berlin`). Raises `InvalidCron`."""
    from zoneinfo import ZoneInfo

    from nautilus_forge.schedules.zones import RAILS_ZONES

    try:
        return ZoneInfo(RAILS_ZONES.get(name, name))
    except (ValueError, OSError, LookupError) as error:
        raise InvalidCron(f"no time zone: {name[:50]}") from error


def next_run(cron: str, zone: str, after: datetime) -> datetime:
    """The first time after `after`, in UTC. Raises `InvalidCron`."""
    return parse(cron).next_after(after, zone_of(zone))
