"""Running a regular expression: Thompson's construction, made deterministic as it is needed.

Time is linear in the text times the size of the pattern at worst; memory is bounded since the table of
states is dropped when it grows past a limit.
"""

from __future__ import annotations

from nautilus_forge.ci.budget import Budget
from nautilus_forge.ci.regex.syntax import InvalidRegex
from nautilus_forge.ci.regex.tree import Assertion, Capture, Chars, CharSet, Choice, Node, Repeat, Sequence

MAX_INSTRUCTIONS = 5_000
MAX_STATES = 1_000

_CHARS, _SPLIT, _ASSERT, _MATCH = range(4)
TEXT_START, _NEWLINE, _WORD, _OTHER = range(4)
_FOUND = -1
_END = ""


class Automaton:
    """A compiled pattern. Not safe for use from several threads at once (its tables grow as it runs)."""

    __slots__ = ("_args", "_first", "_ids", "_kinds", "_next", "_states", "_steps")

    def __init__(self, tree: Node) -> None:
        """Raises `InvalidRegex` where the pattern is larger than an automaton may be."""
        self._kinds: list[int] = []
        self._args: list[CharSet | str | int] = []
        self._next: list[int] = []
        match = self._add(_MATCH, 0, 0)
        self._first = self._build(tree, match)
        self._reset()

    @property
    def size(self) -> int:
        """How many instructions it has."""
        return len(self._kinds)

    def search(self, text: str, budget: Budget) -> bool:
        """Whether the pattern is found anywhere in the text. Raises `BudgetExhausted`."""
        budget.spend(1 + len(text) // 8)
        state = 0
        for char in text:
            following = self._steps[state].get(char)
            if following is None:
                following = self._step(state, char, budget)
            if following == _FOUND:
                return True
            state = following
        following = self._steps[state].get(_END)
        if following is None:
            following = self._step(state, _END, budget)
        return following == _FOUND

    # Building

    def _add(self, kind: int, arg: CharSet | str | int, following: int) -> int:
        if len(self._kinds) >= MAX_INSTRUCTIONS:
            raise InvalidRegex("pattern too large")
        self._kinds.append(kind)
        self._args.append(arg)
        self._next.append(following)
        return len(self._kinds) - 1

    def _build(self, node: Node, following: int) -> int:
        """The entry of the instructions that match the node and go on at `following`."""
        if isinstance(node, Chars):
            return self._add(_CHARS, node.chars, following)
        if isinstance(node, Assertion):
            return self._add(_ASSERT, node.kind, following)
        if isinstance(node, Capture):
            return self._build(node.node, following)
        if isinstance(node, Sequence):
            for part in reversed(node.parts):
                following = self._build(part, following)
            return following
        if isinstance(node, Choice):
            entries = [self._build(option, following) for option in node.options]
            entry = entries[-1]
            for other in reversed(entries[:-1]):
                entry = self._add(_SPLIT, other, entry)
            return entry
        return self._build_repeat(node, following)

    def _build_repeat(self, node: Repeat, following: int) -> int:
        if node.most is None:
            loop = self._add(_SPLIT, 0, following)
            self._args[loop] = self._build(node.node, loop)
            following = loop
        else:
            end = following
            for _ in range(node.most - node.least):
                following = self._add(_SPLIT, self._build(node.node, following), end)
        for _ in range(node.least):
            following = self._build(node.node, following)
        return following

    # Running

    def _reset(self) -> None:
        start = (frozenset[int](), TEXT_START)
        self._states: list[tuple[frozenset[int], int]] = [start]
        self._ids: dict[tuple[frozenset[int], int], int] = {start: 0}
        self._steps: list[dict[str, int]] = [{}]

    def _step(self, state: int, char: str, budget: Budget) -> int:
        """Where the state goes on the character ("" is the end of the text); remembers it."""
        threads, before = self._states[state]
        reached = self._closure(threads, before, char, budget)
        if reached is None:
            self._steps[state][char] = _FOUND
            return _FOUND
        if char == _END:
            self._steps[state][char] = 0
            return 0
        kinds, args = self._kinds, self._args
        following = (
            frozenset(self._next[i] for i in reached if kinds[i] == _CHARS and char in args[i]),  # type: ignore[operator]
            kind_of(char),
        )
        number = self._ids.get(following)
        if number is None:
            if len(self._states) >= MAX_STATES:
                self._reset()
                state = -1
            number = self._ids.setdefault(following, len(self._states))
            if number == len(self._states):
                self._states.append(following)
                self._steps.append({})
        if state >= 0:
            self._steps[state][char] = number
        return number

    def _closure(self, threads: frozenset[int], before: int, char: str, budget: Budget) -> list[int] | None:
        """All instructions reached without taking a character; None where one of them is the match."""
        seen = set(threads)
        seen.add(self._first)
        pending = list(seen)
        reached: list[int] = []
        kinds, args, following = self._kinds, self._args, self._next
        while pending:
            i = pending.pop()
            kind = kinds[i]
            if kind == _MATCH:
                return None
            if kind == _CHARS:
                reached.append(i)
                continue
            if kind == _SPLIT:
                other = args[i]
                if other not in seen:
                    seen.add(other)  # type: ignore[arg-type]
                    pending.append(other)  # type: ignore[arg-type]
            elif not holds(str(args[i]), before, char):
                continue
            if following[i] not in seen:
                seen.add(following[i])
                pending.append(following[i])
        budget.spend(len(seen))
        return reached


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
        return char == _END
    if assertion == "line_start":
        return before in (TEXT_START, _NEWLINE)
    if assertion == "line_end":
        return char in (_END, "\n")
    edge = (before == _WORD) != (char != _END and kind_of(char) == _WORD)
    return edge if assertion == "word_edge" else not edge
