r"""The language of `rules:if`: `$VAR == "x" && ($OTHER =~ /^v\d+/ || $THIRD == null)`.

`&&` and `||` give back a value as in Ruby (only null and false count as false on their way); a whole
expression holds where its value is present: not null, not false, not blank.

Source: lib/gitlab/ci/pipeline/expression/ and spec/lib/gitlab/ci/pipeline/expression/statement_spec.rb.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nautilus_forge.ci import regex
from nautilus_forge.ci.budget import Budget
from nautilus_forge.ci.regex import Automaton, InvalidRegex

MAX_TOKENS = 500
MAX_NESTING = 50

Value = str | bool | Automaton | None
Variables = Mapping[str, str]

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<open>\() | (?P<close>\)) |
      \$(?P<variable>\w+) | "(?P<double>[^"]*)" | '(?P<single>[^']*)' |
      (?P<pattern>/(?:[^/\\]|\\.)+/[ismU]*) |
      (?P<null>null\b) |
      (?P<operator>==|=~|!=|!~|&&|\|\|)
    )""",
    re.VERBOSE | re.DOTALL,
)
_COMPARISONS = frozenset({"==", "!=", "=~", "!~"})


class InvalidExpression(Exception):
    """The text is not an expression."""


class Patterns:
    """The regular expressions of one compilation, each compiled once."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._known: dict[tuple[str, str], Automaton | InvalidRegex] = {}
        self._matches: dict[tuple[int, str], bool] = {}

    def compile(self, literal: str) -> Automaton:
        """The automaton of `/pattern/flags`. Raises `InvalidRegex`, `BudgetExhausted`."""
        return self._compiled(literal, regex.compile_literal)

    def compile_pattern(self, pattern: str) -> Automaton:
        """The automaton of what stands between slashes. Raises `InvalidRegex`, `BudgetExhausted`."""
        return self._compiled(pattern, regex.compile_pattern)

    def _compiled(self, text: str, make: Callable[[str], Automaton]) -> Automaton:
        key = (make.__name__, text)
        found = self._known.get(key)
        if found is None:
            self._budget.spend(len(text) + 50)
            try:
                found = make(text)
                self._budget.spend(2 * found.size)
            except InvalidRegex as error:
                found = error
            self._known[key] = found
        if isinstance(found, InvalidRegex):
            raise found
        return found

    def is_match(self, text: str, pattern: Automaton) -> bool:
        """Whether the pattern is found in the text. Raises `BudgetExhausted`."""
        key = (id(pattern), text)
        found = self._matches.get(key)
        if found is None:
            found = self._matches[key] = pattern.search(text, self._budget)
        return found


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed expression; can be evaluated any number of times."""

    _evaluate: Callable[[Variables], Value]

    def value(self, variables: Variables) -> Value:
        """What the expression gives. Raises `InvalidExpression` (wrong types), `BudgetExhausted`."""
        return self._evaluate(variables)

    def holds(self, variables: Variables) -> bool:
        """Whether the value is present; what cannot be evaluated does not hold, as in GitLab."""
        try:
            return is_present(self._evaluate(variables))
        except InvalidExpression:
            return False


def is_present(value: Value) -> bool:
    """Ruby's `present?`: not null, not false, not blank."""
    if isinstance(value, str):
        return bool(value.strip())
    return value is not None and value is not False


def parse(text: str, patterns: Patterns) -> Expression:
    """The expression that the text is. Raises `InvalidExpression`."""
    tokens = _tokens(text)
    parser = _Parser(tokens, patterns)
    evaluate = parser.either(0)
    if parser.at != len(tokens):
        raise InvalidExpression("unexpected text behind the expression")
    return Expression(evaluate)


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at, end)
        if match is None or match.lastgroup is None:
            raise InvalidExpression("Unknown lexeme found!")
        tokens.append((match.lastgroup, match[match.lastgroup]))
        at = match.end()
        if len(tokens) > MAX_TOKENS:
            raise InvalidExpression("Too many tokens!")
    if not tokens:
        raise InvalidExpression("empty expression")
    return tokens


Evaluate = Callable[[Variables], Value]


class _Parser:
    """Precedence from low to high: `||`, `&&`, comparisons."""

    def __init__(self, tokens: list[tuple[str, str]], patterns: Patterns) -> None:
        self._tokens = tokens
        self._patterns = patterns
        self.at = 0

    def _operator(self) -> str:
        if self.at < len(self._tokens) and self._tokens[self.at][0] == "operator":
            return self._tokens[self.at][1]
        return ""

    def either(self, depth: int) -> Evaluate:
        parts = [self._both(depth)]
        while self._operator() == "||":
            self.at += 1
            parts.append(self._both(depth))
        return parts[0] if len(parts) == 1 else _first_true(parts)

    def _both(self, depth: int) -> Evaluate:
        parts = [self._comparison(depth)]
        while self._operator() == "&&":
            self.at += 1
            parts.append(self._comparison(depth))
        return parts[0] if len(parts) == 1 else _first_false(parts)

    def _comparison(self, depth: int) -> Evaluate:
        left = self._value(depth)
        rest: list[tuple[str, Evaluate]] = []
        while (operator := self._operator()) in _COMPARISONS:
            self.at += 1
            rest.append((operator, self._value(depth)))
        return _compared(left, rest, self._patterns) if rest else left

    def _value(self, depth: int) -> Evaluate:
        if self.at >= len(self._tokens):
            raise InvalidExpression("Invalid right operand")
        kind, text = self._tokens[self.at]
        self.at += 1
        if kind == "open":
            if depth >= MAX_NESTING:
                raise InvalidExpression("Too many parentheses")
            inner = self.either(depth + 1)
            if self.at >= len(self._tokens) or self._tokens[self.at][0] != "close":
                raise InvalidExpression("Unmatched parenthesis")
            self.at += 1
            return inner
        if kind == "variable":
            return lambda variables: variables.get(text)
        if kind in ("double", "single"):
            return lambda variables: text
        if kind == "null":
            return lambda variables: None
        if kind == "pattern":
            try:
                automaton = self._patterns.compile(text)
            except InvalidRegex as error:
                raise InvalidExpression("Invalid regular expression!") from error
            return lambda variables: automaton
        raise InvalidExpression("Invalid left operand")


def _is_match(text: Value, pattern: Value, patterns: Patterns) -> bool:
    if (text is not None and not isinstance(text, str)) or isinstance(pattern, bool):
        raise InvalidExpression("only texts can be matched, and only against patterns")
    if isinstance(pattern, Automaton):
        return patterns.is_match(text or "", pattern)
    assert isinstance(pattern, str)
    try:
        automaton = patterns.compile(pattern)
    except InvalidRegex:
        return (text or "") in pattern  # GitLab: a text that is no pattern is searched for the left side
    return patterns.is_match(text or "", automaton)


def _first_true(parts: list[Evaluate]) -> Evaluate:
    def evaluate(variables: Variables) -> Value:
        value: Value = None
        for part in parts:
            value = part(variables)
            if value is not None and value is not False:
                break
        return value

    return evaluate


def _first_false(parts: list[Evaluate]) -> Evaluate:
    def evaluate(variables: Variables) -> Value:
        value: Value = None
        for part in parts:
            value = part(variables)
            if value is None or value is False:
                break
        return value

    return evaluate


def _compared(first: Evaluate, rest: list[tuple[str, Evaluate]], patterns: Patterns) -> Evaluate:
    def evaluate(variables: Variables) -> Value:
        value = first(variables)
        for operator, other in rest:
            value = _compare(value, operator, other(variables), patterns)
        return value

    return evaluate


def _compare(left: Value, operator: str, right: Value, patterns: Patterns) -> bool:
    if operator == "==":
        return left == right
    if operator == "!=":
        return left != right
    wanted = operator == "=~"
    return (right is not None and _is_match(left, right, patterns)) is wanted
