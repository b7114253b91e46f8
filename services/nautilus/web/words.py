"""How values read on a page: numbers, spans of time, sizes, times. Pure; used as Jinja filters.

`static/js/times.js` and `static/js/curves.js` write spans and numbers the same way.
"""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime

from markupsafe import Markup

_SPANS = ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))
_SIZES = ("B", "KiB", "MiB", "GiB", "TiB")


def number(value: object) -> str:
    """Up to 5 significant digits; an exponent only where it is shorter; a dash for no value."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return {"inf": "∞", "-inf": "−∞"}.get(str(value), "NaN")
    if float(value).is_integer() and abs(value) < 1e9:
        return str(int(value))
    if abs(value) < 1e-4 or abs(value) >= 1e9:
        return f"{value:.3e}".replace("e-0", "e-").replace("e+0", "e+")
    return f"{value:.5g}"


def parameter(value: object) -> str:
    """A parameter as text: numbers in full, text bare, anything nested as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def duration(seconds: float | None) -> str:
    """0.4 s, 12 s, 3 min 5 s, 2 h 4 min, 3 d 1 h; a dash for no value."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    whole = round(seconds)
    for width, unit, minor, minor_unit in _SPANS:
        if whole >= width:
            rest = whole % width // minor
            return f"{whole // width} {unit}" + (f" {rest} {minor_unit}" if rest else "")
    return f"{whole} s"


def filesize(size_bytes: float | None) -> str:
    """Binary units, three digits: 812 B, 4.2 MiB."""
    if size_bytes is None:
        return "–"
    size = float(size_bytes)
    for unit in _SIZES:
        if size < 1024 or unit == _SIZES[-1]:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError("unreachable")


def amount(value: float, unit: str) -> str:
    """What a job uses, in % or MB (10⁶ bytes): 12 %, 340 MB, 4.2 GB."""
    if unit == "MB" and value >= 1000:
        return f"{value / 1000:.3g} GB" if value < 1e6 else f"{value / 1e6:.3g} TB"
    return f"{value:.0f} {unit}" if value >= 10 or value == 0 else f"{value:.1f} {unit}"


def moment(value: datetime | str | None, style: str = "ago") -> Markup:
    """A `<time>` in UTC that `times.js` rewrites in the viewer's zone.

    `style`: "ago" (how long ago), "clock" (date and time), "lasting" (span since then, for what still runs).
    """
    if value is None:
        return Markup('<span class="muted">–</span>')
    at = datetime.fromisoformat(value.replace("Z", "+00:00")) if isinstance(value, str) else value
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    machine = at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return Markup('<time class="nowrap" datetime="{}" data-style="{}" title="{}">{}</time>').format(
        machine, style, at.strftime("%Y-%m-%d %H:%M:%S UTC"), at.strftime("%Y-%m-%d %H:%M UTC")
    )


def plural(count: int, one: str, many: str | None = None) -> str:
    """ "1 runner", "2 runners"."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def sentence(text: str) -> str:
    """With a capital and a full stop, as reasons stand alone."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def short_sha(sha: str | None) -> str:
    return (sha or "")[:8]
