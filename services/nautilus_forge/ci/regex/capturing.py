"""What the groups of a regular expression have taken: a thread for each way to match, in order of preference.

Slower than `automaton` (which only finds), and as bounded: time is linear in the text times the pattern's size.

Source: R. Pike's machine (https://swtch.com/~rsc/regexp/regexp2.html); RE2's leftmost-first matches.
"""

from __future__ import annotations

from collections.abc import Iterator

from nautilus_forge.ci.budget import Budget
from nautilus_forge.ci.regex.program import CHARS, MATCH, SAVE, SPLIT, TEXT_START, Program, holds, kind_of
from nautilus_forge.ci.regex.syntax import parse

Slots = tuple[int, ...]


class Capturing:
    """A pattern that tells what its groups have taken. Raises `InvalidRegex`."""

    def __init__(self, pattern: str, flags: str = "") -> None:
        self._program = Program(parse(pattern, flags), is_capturing=True)

    @property
    def groups(self) -> int:
        return self._program.groups

    def scan(self, text: str, budget: Budget) -> Iterator[tuple[str | None, ...]]:
        """Each match, from left to right: its groups, or the whole where the pattern has none.

        Raises `BudgetExhausted`.
        """
        at = 0
        while at <= len(text):
            found = self._match(text, at, budget)
            if found is None:
                return
            pairs = [(found[i], found[i + 1]) for i in range(0, len(found), 2)]
            taken = [text[start:end] if start >= 0 <= end else None for start, end in pairs]
            yield tuple(taken[1:]) if self.groups else (taken[0],)
            at = found[1] if found[1] > at else found[1] + 1

    def _match(self, text: str, start: int, budget: Budget) -> Slots | None:
        """The slots of the first match from `start` on: begin and end of the whole, then of each group."""
        empty: Slots = (-1,) * (2 * self.groups + 2)
        program = self._program
        threads: list[tuple[int, Slots]] = []
        best: Slots | None = None
        for at in range(start, len(text) + 1):
            before = kind_of(text[at - 1]) if at else TEXT_START
            char = text[at] if at < len(text) else ""
            reached: list[tuple[int, Slots]] = []
            seen: set[int] = set()
            for pc, slots in threads:
                self._follow(reached, seen, pc, slots, at, before, char)
            if best is None:
                self._follow(reached, seen, program.first, empty, at, before, char)
            budget.spend(1 + len(seen))
            threads = []
            for pc, slots in reached:
                if program.kinds[pc] == MATCH:
                    best = slots
                    break
                if char and char in program.args[pc]:  # type: ignore[operator]
                    threads.append((program.next[pc], slots))
            if not threads and best is not None:
                return best
        return best

    def _follow(
        self,
        reached: list[tuple[int, Slots]],
        seen: set[int],
        first: int,
        slots: Slots,
        at: int,
        before: int,
        char: str,
    ) -> None:
        """Adds what is reached without taking a character, the preferred first."""
        program = self._program
        pending = [(first, slots)]
        while pending:
            pc, slots = pending.pop()
            if pc in seen:
                continue
            seen.add(pc)
            kind, arg = program.kinds[pc], program.args[pc]
            if kind in (CHARS, MATCH):
                reached.append((pc, slots))
            elif kind == SPLIT:
                pending += [(program.next[pc], slots), (int(arg), slots)]  # type: ignore[arg-type]
            elif kind == SAVE:
                slot = int(arg)  # type: ignore[arg-type]
                pending.append((program.next[pc], (*slots[:slot], at, *slots[slot + 1 :])))
            elif holds(str(arg), before, char):
                pending.append((program.next[pc], slots))
