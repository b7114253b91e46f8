"""Ruby's `File.fnmatch?` with the flags that GitLab uses, in linear time.

`*` and `?` stop at `/`, `**/` goes through folders, dots are ordinary, `{a,b}` is a choice.

Source: GitLab's lib/gitlab/ci/build/rules/rule/clause/{changes,exists}.rb (FNM_PATHNAME, FNM_DOTMATCH,
FNM_EXTGLOB).
"""

from __future__ import annotations

from collections.abc import Collection

from nautilus_forge.ci.budget import Budget
from nautilus_forge.ci.regex.automaton import Automaton
from nautilus_forge.ci.regex.syntax import InvalidRegex
from nautilus_forge.ci.regex.tree import Assertion, Chars, CharSet, Choice, Node, Repeat, Sequence, literal

_NO_SLASH = Chars(CharSet((("/", "/"),), negated=True))
_FOLDERS = Repeat(Sequence((Repeat(_NO_SLASH, 1, None), literal("/"))), 0, None)
_SPECIAL = "*?[{\\"
MAX_GLOB_CHARS = 1_024
MAX_BRACES = 20


def is_exact(glob: str) -> bool:
    """Whether the glob can only match the path that it spells."""
    return not any(char in glob for char in _SPECIAL)


class Glob:
    """A compiled glob. Most paths are told apart by how they begin and end, without running the automaton."""

    __slots__ = ("_automaton", "_prefix", "_suffix")

    def __init__(self, glob: str) -> None:
        """Raises `InvalidRegex` where the glob is too large."""
        if len(glob) > MAX_GLOB_CHARS or glob.count("{") > MAX_BRACES:
            raise InvalidRegex("pattern too large")
        node, _ = _parse(glob, 0, segment_start=True, in_brace=False)
        self._automaton = Automaton(Sequence((Assertion("text_start"), node, Assertion("text_end"))))
        special = [at for at, char in enumerate(glob) if char in _SPECIAL]
        self._prefix = glob[: special[0]] if special else glob
        has_groups = any(char in glob for char in "[{\\")
        self._suffix = "" if has_groups or not special else glob[special[-1] + 1 :].lstrip("/")

    def matches(self, path: str, budget: Budget) -> bool:
        """Whether the whole path matches. Raises `BudgetExhausted`."""
        if not path.startswith(self._prefix) or not path.endswith(self._suffix):
            return False
        return self._automaton.search(path, budget)

    def matches_any(self, paths: Collection[str], budget: Budget) -> bool:
        """Whether one of the paths matches. Raises `BudgetExhausted`."""
        budget.spend(20 + len(paths) // 20)
        return any(self.matches(path, budget) for path in paths)


def _parse(glob: str, at: int, *, segment_start: bool, in_brace: bool) -> tuple[Node, int]:
    """The tree from `at` to the end, or to the `,` or `}` that ends a choice; and the place reached."""
    parts: list[Node] = []
    while at < len(glob):
        char = glob[at]
        if in_brace and char in ",}":
            break
        starts = segment_start
        segment_start = char == "/"
        if char == "*" and starts and glob.startswith("**/", at):
            parts.append(_FOLDERS)
            at += 3
            segment_start = True
        elif char == "*":
            parts.append(Repeat(_NO_SLASH, 0, None))
            at += 1
        elif char == "?":
            parts.append(_NO_SLASH)
            at += 1
        elif char == "[":
            node, at = _bracket(glob, at)
            parts.append(node)
        elif char == "{" and "}" in glob[at:]:
            node, at = _braces(glob, at, segment_start=starts)
            parts.append(node)
        else:
            if char == "\\" and at + 1 < len(glob):
                at += 1
            parts.append(literal(glob[at]))
            at += 1
    return Sequence(tuple(parts)), at


def _braces(glob: str, at: int, *, segment_start: bool) -> tuple[Node, int]:
    options: list[Node] = []
    end = at
    while end == at or glob[end : end + 1] == ",":
        node, end = _parse(glob, end + 1, segment_start=segment_start, in_brace=True)
        options.append(node)
    if glob[end : end + 1] != "}":
        return literal("{"), at + 1
    return Choice(tuple(options)), end + 1


def _bracket(glob: str, at: int) -> tuple[Node, int]:
    start = at + 1
    negated = glob[start : start + 1] in ("!", "^")
    at = start + negated
    ranges: list[tuple[str, str]] = []
    while at < len(glob) and (glob[at] != "]" or not ranges):
        if glob[at] == "\\" and at + 1 < len(glob):
            at += 1
        low = high = glob[at]
        if glob[at + 1 : at + 2] == "-" and glob[at + 2 : at + 3] not in ("]", ""):
            high = glob[at + 2]
            at += 2
        ranges.append((low, high))
        at += 1
    if at >= len(glob):
        return literal("["), start
    if negated:
        ranges.append(("/", "/"))
        return Chars(CharSet(tuple(ranges), negated=True)), at + 1
    return Chars(CharSet(tuple(_without_slash(ranges)))), at + 1


def _without_slash(ranges: list[tuple[str, str]]) -> list[tuple[str, str]]:
    kept: list[tuple[str, str]] = []
    for low, high in ranges:
        if low <= "/" <= high:
            kept += [part for part in ((low, "."), ("0", high)) if part[0] <= part[1]]
        else:
            kept.append((low, high))
    return kept
