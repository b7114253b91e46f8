"""The parts that a regular expression or a glob is made of."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass


class CharSet:
    """A set of characters: ranges and Unicode categories, perhaps negated, perhaps without regard to case."""

    __slots__ = ("categories", "fold", "negated", "nested", "ranges")

    def __init__(
        self,
        ranges: tuple[tuple[str, str], ...] = (),
        *,
        categories: tuple[str, ...] = (),
        nested: tuple[CharSet, ...] = (),
        negated: bool = False,
        fold: bool = False,
    ) -> None:
        self.ranges = ranges
        self.categories = categories
        self.nested = nested
        self.negated = negated
        self.fold = fold

    def __contains__(self, char: str) -> bool:
        found = self._holds(char)
        if not found and self.fold:
            found = any(self._holds(other) for other in (char.lower(), char.upper()) if other != char)
        return found != self.negated

    def _holds(self, char: str) -> bool:
        if any(low <= char <= high for low, high in self.ranges):
            return True
        if self.categories and unicodedata.category(char).startswith(self.categories):
            return True
        return any(char in part for part in self.nested)


@dataclass(frozen=True, slots=True)
class Chars:
    """One character of a set."""

    chars: CharSet


@dataclass(frozen=True, slots=True)
class Sequence:
    """One after the other; empty: the empty text."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of them."""

    options: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """`least` to `most` times (None: without end), as often as can be, or (`is_lazy`) as seldom."""

    node: Node
    least: int
    most: int | None
    is_lazy: bool = False


@dataclass(frozen=True, slots=True)
class Capture:
    """A group whose text is remembered; `index` counts from 1."""

    node: Node
    index: int


@dataclass(frozen=True, slots=True)
class Assertion:
    r"""A place, not a character: text_start, text_end, line_start, line_end, word_edge or no_word_edge."""

    kind: str


Node = Chars | Sequence | Choice | Repeat | Capture | Assertion

EMPTY = Sequence(())


def literal(char: str, *, fold: bool = False) -> Chars:
    """The node of one character."""
    return Chars(CharSet(((char, char),), fold=fold))
