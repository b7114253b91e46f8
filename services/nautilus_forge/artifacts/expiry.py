"""How long artifacts are kept: GitLab's human durations.

Source: doc/ci/yaml/_index.md `artifacts:expire_in`, lib/gitlab/ci/build/duration_parser.rb (chronic_duration).
"""

from __future__ import annotations

import re

_UNITS_S: dict[str, int] = {
    "": 1,
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86400),
    **dict.fromkeys(("w", "wk", "wks", "week", "weeks"), 604800),
    **dict.fromkeys(("mo", "mos", "month", "months"), 2592000),
    **dict.fromkeys(("y", "yr", "yrs", "year", "years"), 31557600),
}
_TERM = re.compile(r"\s*(?:and\s+|,\s*)?(\d{1,12}(?:\.\d{1,6})?)\s*([a-z]*)\s*", re.ASCII)
_LONGEST_S = 100 * 31557600


def parse_duration_s(text: str) -> int | None:
    """Seconds in "3 mins 4 sec", "2h20min", "1 week", "42"; None for "never".

    Raises `ValueError` for anything else. Capped at 100 years.
    """
    text = text.strip().lower()
    if text == "never":
        return None
    position, total = 0, 0.0
    while position < len(text) or position == 0:
        term = _TERM.match(text, position)
        if term is None or term.group(2) not in _UNITS_S:
            raise ValueError("not a duration")
        total += float(term.group(1)) * _UNITS_S[term.group(2)]
        position = term.end()
    return min(int(total), _LONGEST_S)
