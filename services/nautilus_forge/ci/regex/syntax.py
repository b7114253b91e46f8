r"""RE2's syntax, to a tree.

Everything of it but scripts in `\p{…}` (general categories are known); look-around, back-references,
possessive and atomic groups are errors, as in RE2.

Source: https://github.com/google/re2/wiki/Syntax
"""

from __future__ import annotations

from nautilus_forge.ci.regex import classes
from nautilus_forge.ci.regex.classes import InvalidRegex
from nautilus_forge.ci.regex.tree import (
    EMPTY,
    Assertion,
    Capture,
    Chars,
    CharSet,
    Choice,
    Node,
    Repeat,
    Sequence,
    literal,
)

__all__ = ["InvalidRegex", "parse"]

MAX_PATTERN_CHARS = 4_096
MAX_REPEAT = 1_000
MAX_NESTING = 100

_ANCHORS = {"A": "text_start", "z": "text_end", "b": "word_edge", "B": "no_word_edge"}


def parse(pattern: str, flags: str = "") -> Node:
    """The tree of a pattern. Raises `InvalidRegex`."""
    if len(pattern) > MAX_PATTERN_CHARS:
        raise InvalidRegex(f"pattern too long (maximum is {MAX_PATTERN_CHARS} characters)")
    parser = _Parser(pattern, frozenset(flags))
    tree = parser.choice(0)
    if parser.at < len(pattern):
        raise InvalidRegex(f"unexpected ): {pattern}")
    return tree


class _Parser:
    __slots__ = ("at", "captures", "flags", "pattern")

    def __init__(self, pattern: str, flags: frozenset[str]) -> None:
        self.pattern = pattern
        self.at = 0
        self.captures = 0
        self.flags = flags

    def peek(self) -> str:
        return self.pattern[self.at : self.at + 1]

    def choice(self, depth: int) -> Node:
        if depth > MAX_NESTING:
            raise InvalidRegex("expression nests too deeply")
        options = [self.sequence(depth)]
        while self.peek() == "|":
            self.at += 1
            options.append(self.sequence(depth))
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def sequence(self, depth: int) -> Node:
        parts: list[Node] = []
        while (char := self.peek()) and char not in "|)":
            if self.pattern.startswith("\\Q", self.at):
                parts.extend(self._quoted())
                continue
            node = self._atom(depth)
            if node is not None:
                parts.append(self._repeated(node))
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def _quoted(self) -> list[Node]:
        end = self.pattern.find("\\E", self.at + 2)
        text = self.pattern[self.at + 2 : end if end >= 0 else len(self.pattern)]
        self.at = end + 2 if end >= 0 else len(self.pattern)
        return [literal(char, fold="i" in self.flags) for char in text]

    def _atom(self, depth: int) -> Node | None:
        """The next atom; None where only flags were set, as by `(?i)`."""
        char = self.pattern[self.at]
        self.at += 1
        if char == "(":
            return self._group(depth)
        if char == "[":
            chars, self.at = classes.bracket(self.pattern, self.at, fold="i" in self.flags)
            return Chars(chars)
        if char == ".":
            return Chars(
                CharSet((("\n", "\n"),), negated=True) if "s" not in self.flags else CharSet(negated=True)
            )
        if char == "^":
            return Assertion("line_start" if "m" in self.flags else "text_start")
        if char == "$":
            return Assertion("line_end" if "m" in self.flags else "text_end")
        if char in "*+?":
            raise InvalidRegex(f"no argument for repetition operator: {char}")
        if char == "\\":
            return self._escape()
        return literal(char, fold="i" in self.flags)

    def _escape(self) -> Node:
        char = self.peek()
        if char in _ANCHORS and char:
            self.at += 1
            return Assertion(_ANCHORS[char])
        chars, self.at = classes.escape(self.pattern, self.at, fold="i" in self.flags)
        return Chars(chars)

    def _group(self, depth: int) -> Node | None:
        outer = self.flags
        index = None
        if self.peek() == "?":
            self.at += 1
            if self._is_named():
                index = self._next_capture()
            elif not self._group_head():
                return None
        else:
            index = self._next_capture()
        node = self.choice(depth + 1)
        if self.peek() != ")":
            raise InvalidRegex(f"missing ): {self.pattern}")
        self.at += 1
        self.flags = outer
        return Capture(node, index) if index is not None else node

    def _next_capture(self) -> int:
        self.captures += 1
        return self.captures

    def _is_named(self) -> bool:
        """Whether `(?` begins a named group; its name is then read."""
        rest = self.pattern[self.at :]
        if rest.startswith("P<") or (rest.startswith("<") and rest[1:2] not in ("=", "!")):
            name, found, _ = rest[rest.index("<") + 1 :].partition(">")
            if not found or not name or not all(char.isalnum() or char == "_" for char in name):
                raise InvalidRegex(f"invalid named capture group: (?{rest}")
            self.at += rest.index(">") + 1
            return True
        return False

    def _group_head(self) -> bool:
        """Read what follows `(?`; False where it only sets flags for what follows, as `(?i)` does."""
        rest = self.pattern[self.at :]
        on, off, setting = set(self.flags), False, 0
        for setting, char in enumerate(rest):
            if char in ":)":
                break
            if char == "-" and not off:
                off = True
            elif char in "imsU":
                (on.discard if off else on.add)(char)
            else:
                raise InvalidRegex(f"invalid perl operator: (?{rest[: setting + 1]}")
        else:
            raise InvalidRegex(f"missing ): {self.pattern}")
        self.flags = frozenset(on)
        self.at += setting + 1
        return rest[setting] == ":"

    def _repeated(self, node: Node) -> Node:
        bounds = self._bounds()
        if bounds is None:
            return node
        start = self.at
        is_lazy = "U" in self.flags
        if self.peek() == "?":
            self.at += 1
            is_lazy = not is_lazy
        if self._bounds() is not None:
            raise InvalidRegex(f"bad repetition operator: {self.pattern[start - 1 : self.at]}")
        least, most = bounds
        if most == 0:
            return EMPTY
        return Repeat(node, least, most, is_lazy)

    def _bounds(self) -> tuple[int, int | None] | None:
        """The repetition at the place, read; None (and nothing read) where there is none."""
        char = self.peek()
        if char and char in "*+?":
            self.at += 1
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[char]
        if char != "{":
            return None
        body, close, _ = self.pattern[self.at + 1 : self.at + 16].partition("}")
        least, comma, most = body.partition(",")
        if not close or not least.isdecimal() or not (most.isdecimal() or not most) or not body.isascii():
            return None
        self.at += len(body) + 2
        low = int(least)
        high = low if not comma else int(most) if most else None
        if max(low, high or 0) > MAX_REPEAT or (high is not None and high < low):
            raise InvalidRegex(f"bad repetition operator: {{{body}}}")
        return low, high
