r"""Sets of characters in RE2's syntax: `[…]`, `\d`, `\pL`, `[:alpha:]`, and single escaped characters."""

from __future__ import annotations

from nautilus_forge.ci.regex.tree import CharSet

_PERL = {
    "d": CharSet((("0", "9"),)),
    "w": CharSet((("0", "9"), ("A", "Z"), ("_", "_"), ("a", "z"))),
    "s": CharSet((("\t", "\n"), ("\f", "\r"), (" ", " "))),
}
_POSIX: dict[str, tuple[tuple[str, str], ...]] = {
    "alnum": (("0", "9"), ("A", "Z"), ("a", "z")),
    "alpha": (("A", "Z"), ("a", "z")),
    "ascii": (("\0", "\x7f"),),
    "blank": (("\t", "\t"), (" ", " ")),
    "cntrl": (("\0", "\x1f"), ("\x7f", "\x7f")),
    "digit": (("0", "9"),),
    "graph": (("!", "~"),),
    "lower": (("a", "z"),),
    "print": ((" ", "~"),),
    "punct": (("!", "/"), (":", "@"), ("[", "`"), ("{", "~")),
    "space": (("\t", "\r"), (" ", " ")),
    "upper": (("A", "Z"),),
    "word": (("0", "9"), ("A", "Z"), ("_", "_"), ("a", "z")),
    "xdigit": (("0", "9"), ("A", "F"), ("a", "f")),
}
_CONTROL = {"a": "\a", "f": "\f", "t": "\t", "n": "\n", "r": "\r", "v": "\v"}
_CATEGORIES = frozenset(
    major + minor
    for major, minors in {
        "C": "cfos",
        "L": "lmotu",
        "M": "cen",
        "N": "dlo",
        "P": "cdefios",
        "S": "ckmo",
        "Z": "lps",
    }.items()
    for minor in ("", *minors)
)


class InvalidRegex(Exception):
    """The text is not a regular expression that RE2 takes; the message is RE2's where it is known."""


def escape(pattern: str, at: int, *, fold: bool) -> tuple[CharSet, int]:
    r"""The set that the escape at `at` (behind the backslash) stands for, and the place behind it."""
    char = pattern[at : at + 1]
    if not char:
        raise InvalidRegex("trailing \\ at end of regexp")
    if char.lower() in _PERL and char.isascii():
        chars = _PERL[char.lower()]
        return (chars if char.islower() else CharSet(nested=(chars,), negated=True)), at + 1
    if char in "pP":
        return _category(pattern, at + 1, negated=char == "P")
    found, at = single(pattern, at)
    return CharSet(((found, found),), fold=fold), at


def single(pattern: str, at: int) -> tuple[str, int]:
    r"""The one character that the escape at `at` (behind the backslash) stands for, and the place after."""
    char = pattern[at : at + 1]
    if char in _CONTROL and char:
        return _CONTROL[char], at + 1
    if char == "x":
        return _hexadecimal(pattern, at + 1)
    if char in "01234567" and char:
        end = at + 1
        while end < at + 3 and pattern[end : end + 1] in set("01234567"):
            end += 1
        if char != "0" and end == at + 1:
            raise InvalidRegex(f"invalid escape sequence: \\{char}")
        return chr(int(pattern[at:end], 8)), end
    if not char or (char.isascii() and char.isalnum()):
        raise InvalidRegex(f"invalid escape sequence: \\{char}")
    return char, at + 1


def _hexadecimal(pattern: str, at: int) -> tuple[str, int]:
    if pattern[at : at + 1] == "{":
        digits, close, _ = pattern[at + 1 : at + 12].partition("}")
        end = at + len(digits) + 2
    else:
        digits, close, end = pattern[at : at + 2], "}", at + 2
    try:
        if not close or not digits.isalnum() or (len(digits) < 2 and end == at + 2):
            raise ValueError
        return chr(int(digits, 16)), end
    except (ValueError, OverflowError):
        raise InvalidRegex(f"invalid escape sequence: \\x{pattern[at : at + 8]}") from None


def _category(pattern: str, at: int, *, negated: bool) -> tuple[CharSet, int]:
    name, end = pattern[at : at + 1], at + 1
    if name == "{":
        name, close, _ = pattern[at + 1 : at + 40].partition("}")
        end = at + len(name) + 2
        if not close:
            raise InvalidRegex("invalid character class range: \\p{")
    if name.startswith("^"):
        name, negated = name[1:], not negated
    if name == "Any":
        return CharSet(negated=not negated), end
    if name not in _CATEGORIES:
        raise InvalidRegex(f"invalid character class range: \\p{{{name}}}")
    return CharSet(categories=(name,), negated=negated), end


def bracket(pattern: str, at: int, *, fold: bool) -> tuple[CharSet, int]:
    """The set of `[…]`, from behind its opening, and the place behind its closing."""
    start = at
    negated = pattern.startswith("^", at)
    at += negated
    ranges: list[tuple[str, str]] = []
    nested: list[CharSet] = []
    first = True
    while first or not pattern.startswith("]", at):
        first = False
        if at >= len(pattern):
            raise InvalidRegex(f"missing ]: [{pattern[start:]}")
        part, at = _posix(pattern, at) or _class_escape(pattern, at) or (None, at)
        if part is not None:
            nested.append(part)
            continue
        low, at = _member(pattern, at)
        high = low
        if pattern.startswith("-", at) and pattern[at + 1 : at + 2] not in ("]", ""):
            high, at = _member(pattern, at + 1)
        if high < low:
            raise InvalidRegex(f"invalid character class range: {low}-{high}")
        ranges.append((low, high))
    return CharSet(tuple(ranges), nested=tuple(nested), negated=negated, fold=fold), at + 1


def _member(pattern: str, at: int) -> tuple[str, int]:
    if pattern[at] == "\\":
        return single(pattern, at + 1)
    return pattern[at], at + 1


def _posix(pattern: str, at: int) -> tuple[CharSet, int] | None:
    if not pattern.startswith("[:", at):
        return None
    name, close, _ = pattern[at + 2 : at + 16].partition(":]")
    if not close:
        return None
    negated = name.startswith("^")
    plain = name.removeprefix("^")
    if plain not in _POSIX:
        raise InvalidRegex(f"invalid character class range: [:{name}:]")
    return CharSet(_POSIX[plain], negated=negated), at + len(name) + 4


def _class_escape(pattern: str, at: int) -> tuple[CharSet, int] | None:
    if pattern[at] == "\\" and pattern[at + 1 : at + 2] in tuple("dDwWsSpP"):
        return escape(pattern, at + 1, fold=False)
    return None
