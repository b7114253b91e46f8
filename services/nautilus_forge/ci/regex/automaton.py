"""Whether a regular expression is found: its program, made deterministic as it is needed.

Time is linear in the text times the size of the pattern at worst; memory is bounded since the table of
states is dropped when it grows past a limit.
"""

from __future__ import annotations

from nautilus_forge.ci.budget import Budget
from nautilus_forge.ci.regex.program import CHARS, MATCH, SPLIT, TEXT_END, TEXT_START, Program, holds, kind_of
from nautilus_forge.ci.regex.tree import Node

MAX_STATES = 1_000

_FOUND = -1


class Automaton:
    """A compiled pattern. Not safe for use from several threads at once (its tables grow as it runs)."""

    __slots__ = ("_ids", "_program", "_states", "_steps")

    def __init__(self, tree: Node) -> None:
        """Raises `InvalidRegex` where the pattern is larger than an automaton may be."""
        self._program = Program(tree)
        self._reset()

    @property
    def size(self) -> int:
        """How many instructions it has."""
        return len(self._program.kinds)

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
        following = self._steps[state].get(TEXT_END)
        if following is None:
            following = self._step(state, TEXT_END, budget)
        return following == _FOUND

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
        if char == TEXT_END:
            self._steps[state][char] = 0
            return 0
        program = self._program
        following = (
            frozenset(program.next[i] for i in reached if char in program.args[i]),  # type: ignore[operator]
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
        seen.add(self._program.first)
        pending = list(seen)
        reached: list[int] = []
        program = self._program
        kinds, args, following = program.kinds, program.args, program.next
        while pending:
            i = pending.pop()
            kind = kinds[i]
            if kind == MATCH:
                return None
            if kind == CHARS:
                reached.append(i)
                continue
            if kind == SPLIT:
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
