"""What the groups of a regular expression have taken: a thread for each way to match, in order of preference.

Slower than `automaton` (which only finds), and as bounded: time is linear in the text times the pattern's size.

Source: R. Pike's machine (https://swtch.com/~rsc/regexp/regexp2.html); RE2's leftmost-first matches.
"""

from __future__ import annotations

from collections.abc import Iterator

from nautilus_forge.ci.budget import Budget
from nautilus_forge.ci.regex.automaton import MAX_INSTRUCTIONS, TEXT_START, holds, kind_of
from nautilus_forge.ci.regex.syntax import InvalidRegex, parse
from nautilus_forge.ci.regex.tree import Assertion, Capture, Chars, CharSet, Choice, Node, Repeat, Sequence

_CHARS, _SPLIT, _SAVE, _ASSERT, _MATCH = range(5)

Slots = tuple[int, ...]


class Capturing:
    """A pattern that tells what its groups have taken. Raises `InvalidRegex`."""

    def __init__(self, pattern: str, flags: str = "") -> None:
        self._kinds: list[int] = []
        self._args: list[CharSet | int | str] = []
        self._next: list[int] = []
        self.groups = 0
        match = self._add(_MATCH, 0, 0)
        end = self._add(_SAVE, 1, match)
        self._first = self._add(_SAVE, 0, self._build(parse(pattern, flags), end))

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
                self._follow(reached, seen, self._first, empty, at, before, char)
            budget.spend(1 + len(seen))
            threads = []
            for pc, slots in reached:
                if self._kinds[pc] == _MATCH:
                    best = slots
                    break
                if char and char in self._args[pc]:  # type: ignore[operator]
                    threads.append((self._next[pc], slots))
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
        pending = [(first, slots)]
        while pending:
            pc, slots = pending.pop()
            if pc in seen:
                continue
            seen.add(pc)
            kind, arg = self._kinds[pc], self._args[pc]
            if kind in (_CHARS, _MATCH):
                reached.append((pc, slots))
            elif kind == _SPLIT:
                pending += [(self._next[pc], slots), (int(arg), slots)]  # type: ignore[arg-type]
            elif kind == _SAVE:
                slot = int(arg)  # type: ignore[arg-type]
                pending.append((self._next[pc], (*slots[:slot], at, *slots[slot + 1 :])))
            elif holds(str(arg), before, char):
                pending.append((self._next[pc], slots))

    # Building

    def _add(self, kind: int, arg: CharSet | int | str, following: int) -> int:
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
            self.groups = max(self.groups, node.index)
            end = self._add(_SAVE, 2 * node.index + 1, following)
            return self._add(_SAVE, 2 * node.index, self._build(node.node, end))
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
        return self._repeat(node, following)

    def _repeat(self, node: Repeat, following: int) -> int:
        if node.most is None:
            loop = self._add(_SPLIT, 0, following)
            self._prefer(loop, self._build(node.node, loop), following, node.is_lazy)
            following = loop
        else:
            end = following
            for _ in range(node.most - node.least):
                split = self._add(_SPLIT, 0, end)
                self._prefer(split, self._build(node.node, following), end, node.is_lazy)
                following = split
        for _ in range(node.least):
            following = self._build(node.node, following)
        return following

    def _prefer(self, split: int, more: int, enough: int, is_lazy: bool) -> None:
        self._args[split], self._next[split] = (enough, more) if is_lazy else (more, enough)
