"""A pattern's tree as instructions: Thompson's construction, for the engines that run it (`automaton`, `capturing`).

Source: R. Pike's machine (https://swtch.com/~rsc/regexp/regexp2.html).
"""

from __future__ import annotations

from nautilus_forge.ci.regex.syntax import InvalidRegex
from nautilus_forge.ci.regex.tree import Assertion, Capture, Chars, CharSet, Choice, Node, Repeat, Sequence

MAX_INSTRUCTIONS = 5_000

CHARS, SPLIT, SAVE, ASSERT, MATCH = range(5)
TEXT_START, _NEWLINE, _WORD, _OTHER = range(4)
TEXT_END = ""


class Program:
    """Instruction i is `kinds[i]` with `args[i]`, and goes on at `next[i]`; the run begins at `first`.

    CHARS takes a character of its set; SPLIT prefers its argument to what follows, SAVE puts the place into the
    slot of its argument (2 g begins group g, 2 g + 1 ends it, 0 is the whole), ASSERT asks `holds`.
    `groups`: how many groups were found; none where `is_capturing` is not set, and no SAVE then.
    Raises `InvalidRegex` where the pattern is larger than a program may be.
    """

    __slots__ = ("_is_capturing", "args", "first", "groups", "kinds", "next")

    def __init__(self, tree: Node, is_capturing: bool = False) -> None:
        self.kinds: list[int] = []
        self.args: list[CharSet | int | str] = []
        self.next: list[int] = []
        self.groups = 0
        self._is_capturing = is_capturing
        match = self._add(MATCH, 0, 0)
        if is_capturing:
            self.first = self._add(SAVE, 0, self._build(tree, self._add(SAVE, 1, match)))
        else:
            self.first = self._build(tree, match)

    def _add(self, kind: int, arg: CharSet | int | str, following: int) -> int:
        if len(self.kinds) >= MAX_INSTRUCTIONS:
            raise InvalidRegex("pattern too large")
        self.kinds.append(kind)
        self.args.append(arg)
        self.next.append(following)
        return len(self.kinds) - 1

    def _build(self, node: Node, following: int) -> int:
        """The entry of the instructions that match the node and go on at `following`."""
        if isinstance(node, Chars):
            return self._add(CHARS, node.chars, following)
        if isinstance(node, Assertion):
            return self._add(ASSERT, node.kind, following)
        if isinstance(node, Capture):
            return self._capture(node, following) if self._is_capturing else self._build(node.node, following)
        if isinstance(node, Sequence):
            for part in reversed(node.parts):
                following = self._build(part, following)
            return following
        if isinstance(node, Choice):
            entries = [self._build(option, following) for option in node.options]
            entry = entries[-1]
            for other in reversed(entries[:-1]):
                entry = self._add(SPLIT, other, entry)
            return entry
        return self._repeat(node, following)

    def _capture(self, node: Capture, following: int) -> int:
        self.groups = max(self.groups, node.index)
        end = self._add(SAVE, 2 * node.index + 1, following)
        return self._add(SAVE, 2 * node.index, self._build(node.node, end))

    def _repeat(self, node: Repeat, following: int) -> int:
        if node.most is None:
            loop = self._add(SPLIT, 0, following)
            self._prefer(loop, self._build(node.node, loop), following, node.is_lazy)
            following = loop
        else:
            end = following
            for _ in range(node.most - node.least):
                split = self._add(SPLIT, 0, end)
                self._prefer(split, self._build(node.node, following), end, node.is_lazy)
                following = split
        for _ in range(node.least):
            following = self._build(node.node, following)
        return following

    def _prefer(self, split: int, more: int, enough: int, is_lazy: bool) -> None:
        self.args[split], self.next[split] = (enough, more) if is_lazy else (more, enough)


def kind_of(char: str) -> int:
    """What a character is to the assertions behind it."""
    if char == "\n":
        return _NEWLINE
    return _WORD if char.isascii() and (char.isalnum() or char == "_") else _OTHER


def holds(assertion: str, before: int, char: str) -> bool:
    """Whether an assertion is true between what is `before` (`kind_of`) and a character ("" is the end)."""
    if assertion == "text_start":
        return before == TEXT_START
    if assertion == "text_end":
        return char == TEXT_END
    if assertion == "line_start":
        return before in (TEXT_START, _NEWLINE)
    if assertion == "line_end":
        return char in (TEXT_END, "\n")
    edge = (before == _WORD) != (char != TEXT_END and kind_of(char) == _WORD)
    return edge if assertion == "word_edge" else not edge
