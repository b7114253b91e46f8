"""GitLab's language of durations: "1h 30m", "3 weeks and 2 days", "90", "1:30:00", "2h20min".

Source: the gem gitlab-chronic-duration; lib/gitlab/ci/build/duration_parser.rb.
"""

from __future__ import annotations

import re

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
WEEK_S = 7 * _DAY
MONTH_S = 30 * _DAY
_YEAR = 31_557_600

_UNITS_S = {
    name: seconds
    for seconds, names in {
        1: "seconds second secs sec s",
        _MINUTE: "minutes minute mins min m",
        _HOUR: "hours hour hrs hr h",
        _DAY: "days day dy d",
        WEEK_S: "weeks week wks wk w",
        MONTH_S: "months month mos mo",
        _YEAR: "years year yrs yr y",
    }.items()
    for name in names.split()
}
_JOINING = frozenset({"and", "with", "plus"})
_NUMBERS = {
    word: str(number)
    for number, word in enumerate(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
        ]
    )
}
_TOKEN = re.compile(r"\s*(?:(\d+(?:\.\d+)?|\.\d+)|([a-z]+)|[,\s])")
_CLOCK = re.compile(r"\d{1,9}(?::\d{1,9}){1,5}\Z")
_MAX_CHARS = 200


def parse(text: str) -> int | None:
    """The duration in whole seconds; None where the text is none, or is zero (GitLab takes neither)."""
    text = text.strip().lower()
    if len(text) > _MAX_CHARS:
        return None
    seconds = _clock(text) if _CLOCK.match(text) else _words(text)
    return int(seconds) if seconds and int(seconds) > 0 else None


def is_duration_or_never(text: str) -> bool:
    """Whether `artifacts:expire_in` takes the text."""
    return text.strip().lower() == "never" or parse(text) is not None


def _clock(text: str) -> float | None:
    sizes = (1, _MINUTE, _HOUR, _DAY, MONTH_S, _YEAR)
    return sum(int(part) * size for part, size in zip(reversed(text.split(":")), sizes, strict=False))


def _words(text: str) -> float | None:
    total, number, at = 0.0, None, 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            return None
        at = match.end()
        digits, word = match[1], match[2]
        digits = _NUMBERS.get(word or "", digits)
        if digits:
            if number is not None:
                return None
            number = float(digits)
        elif word in _UNITS_S:
            total += (1.0 if number is None else number) * _UNITS_S[word]
            number = None
        elif word and word not in _JOINING:
            return None
    return total + (number or 0.0)
