"""What a plain YAML scalar means, and how a value is written back as text.

GitLab reads with Psych, so its rules hold: YAML 1.1 with `yes` and `off`, octal `010`, sexagesimal `22:22`.

Source: ruby/psych lib/psych/scalar_scanner.rb.
"""

from __future__ import annotations

import math
import re

Scalar = str | int | float | bool | None

_WORDS: dict[str, Scalar] = {
    "": None,
    "~": None,
    "null": None,
    "yes": True,
    "true": True,
    "on": True,
    "no": False,
    "false": False,
    "off": False,
}
NUMERIC_START = frozenset("0123456789+-.")
_MAX_DIGITS = 300
_DECIMAL = re.compile(r"[-+]?(?:0|[1-9](?:[0-9]|,[0-9]|_[0-9])*)\Z")
_OCTAL = re.compile(r"[-+]?0[0-7_,]+\Z")
_HEXADECIMAL = re.compile(r"[-+]?0[xX][0-9a-fA-F_,]*[0-9a-fA-F][0-9a-fA-F_,]*\Z")
_BINARY = re.compile(r"[-+]?0[bB][01_,]*[01][01_,]*\Z")
_SEXAGESIMAL = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9]){1,2}\Z")
_FLOAT = re.compile(r"[-+]?(?:[0-9][0-9_,]*)?\.[0-9]*(?:[eE][+-][0-9]+)?\Z")
_INFINITE = re.compile(r"([-+]?)\.(?:inf|Inf|INF)\Z")
_TIME = re.compile(
    r"-?\d{4}-\d{1,2}-\d{1,2}(?:[Tt]|\s+)\d{1,2}:\d\d:\d\d(?:\.\d*)?(?:\s*(?:Z|[-+]\d{1,2}:?(?:\d\d)?))?\Z",
    re.ASCII,
)
_DATE = re.compile(r"\d{4}-(?:1[012]|0\d|\d)-(?:[12]\d|3[01]|0\d|\d)\Z")


class DateScalar(ValueError):
    """A plain date or time, which GitLab refuses to read."""


def resolve(text: str) -> Scalar:
    """The value of a plain scalar. Raises `DateScalar`."""
    if text[:1] in NUMERIC_START and text:
        return _number(text)
    if len(text) <= 5:
        word = _WORDS.get(text if text.islower() else text.lower(), text)
        return text if isinstance(word, str) else word
    return text


def _number(text: str) -> Scalar:
    if len(text) > _MAX_DIGITS:
        return text
    digits = text.replace(",", "").replace("_", "")
    if _DECIMAL.match(text):
        return int(digits)
    if _OCTAL.match(text):
        return int(digits, 8)
    if _FLOAT.match(text):
        return text if digits in (".", "+.", "-.") else float(digits)
    if _HEXADECIMAL.match(text):
        return int(digits, 16)
    if _BINARY.match(text):
        return int(digits, 2)
    if _SEXAGESIMAL.match(text):
        return _sexagesimal(digits)
    if _DATE.match(text):
        raise DateScalar("Tried to load unspecified class: Date")
    if _TIME.match(text):
        raise DateScalar("Tried to load unspecified class: Time")
    if infinite := _INFINITE.match(text):
        return -math.inf if infinite[1] == "-" else math.inf
    return math.nan if text in (".nan", ".NaN", ".NAN") else text


def _sexagesimal(digits: str) -> int:
    total = 0
    for part in digits.lstrip("+-").split(":"):
        total = total * 60 + int(part)
    return -total if digits.startswith("-") else total


def to_text(value: object) -> str:
    """The value as GitLab writes it into a variable or a message (Ruby's `to_s`)."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _float_text(value)
    return str(value)


def _float_text(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    text = repr(value)
    mantissa, exponent, power = text.partition("e")
    if exponent and "." not in mantissa:
        mantissa += ".0"
    return mantissa + exponent + power


def quote(value: object) -> str:
    """The value as GitLab shows it in a message (Ruby's `inspect` of texts and lists of texts)."""
    if isinstance(value, list | tuple):
        return "[" + ", ".join(quote(part) for part in value) + "]"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    return "nil" if value is None else to_text(value)
