"""`rules`, of a job, of `workflow`, of an `include`.

Source: lib/gitlab/ci/config/entry/rules.rb, rules/rule.rb, rules/rule/{changes,exists}.rb, include/rules/rule.rb,
auto_cancel.rb.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nautilus_forge.ci import duration
from nautilus_forge.ci.entries import keywords
from nautilus_forge.ci.entries.checks import (
    Fields,
    Problems,
    Spot,
    check_keys,
    check_required,
    is_text_list,
)
from nautilus_forge.ci.entries.config import AutoCancel, Rule
from nautilus_forge.ci.entries.keywords import Keywords
from nautilus_forge.ci.entries.needs import read_needs
from nautilus_forge.ci.entries.variables import read_variables
from nautilus_forge.ci.expression import Expression, InvalidExpression, Patterns, parse
from nautilus_forge.ci.scalars import to_text
from nautilus_forge.ci.values import place_of

MAX_PATHS = 50
MAX_NESTING = 10
_ON_NEW_COMMIT = ("conservative", "interruptible", "none")
_ON_JOB_FAILURE = ("none", "all")


@dataclass(frozen=True, slots=True)
class RuleKind:
    """What a rule may say where it stands."""

    name: str
    keywords: Keywords
    when: tuple[str, ...]


JOB_RULES = RuleKind(
    "job",
    keywords.RULES,
    ("on_success", "on_failure", "always", "never", "manual", "delayed"),
)
WORKFLOW_RULES = RuleKind(
    "workflow",
    keywords.WORKFLOW_RULES,
    ("always", "never"),
)
INCLUDE_RULES = RuleKind("include", keywords.INCLUDE_RULES, ("never", "always"))


class RuleReader:
    """Reads rules; each expression is parsed once, however many jobs share it."""

    def __init__(self, problems: Problems, patterns: Patterns) -> None:
        self._problems = problems
        self.patterns = patterns
        self._expressions: dict[str, Expression | None] = {}

    def read(
        self, value: Any, spot: Spot, kind: RuleKind, *, entry: str = "rules"
    ) -> tuple[Rule, ...] | None:
        """The rules, flattened; `spot` is that of what has them."""
        at = spot.key(value, entry) if isinstance(value, dict) else Spot(f"{spot.where}:{entry}", spot.place)
        rules = value.get(entry) if isinstance(value, dict) else value
        if rules is None:
            return None

        def read() -> tuple[Rule, ...] | None:
            flat: list[tuple[Any, Spot]] = []
            if not isinstance(rules, list) or not _flatten(rules, 1, at, flat):
                message = f"{spot.where} {entry} should be an array containing hashes and arrays of hashes"
                self._problems.add(message, at.place)
                return None
            found = [self._rule(rule, where, kind) for rule, where in flat]
            return tuple(rule for rule in found if rule is not None)

        return self._problems.shared(f"rules {kind.name}", rules, read)

    def _rule(self, value: dict[Any, Any], spot: Spot, kind: RuleKind) -> Rule | None:
        problems = self._problems
        if not value:
            problems.add(f"{spot.where} config can't be blank", spot.place)
            return None
        check_keys(value, kind.keywords, spot, problems)
        fields = Fields(value, spot, problems)
        when = value.get("when")
        if when is not None and when not in kind.when:
            fields.fail("when", f"unknown value: {to_text(when)}")
            when = None
        return Rule(
            condition=self._condition(fields),
            when=when,
            start_in_s=_start_in(fields, is_delayed=when == "delayed")
            if "start_in" in kind.keywords.known
            else None,
            allow_failure=fields.flag("allow_failure"),
            interruptible=fields.flag("interruptible"),
            **_rarely(value, spot, problems, kind),
        )

    def _condition(self, fields: Fields) -> Expression | None:
        text = fields.value.get("if")
        if text is None:
            return None
        if not isinstance(text, str):
            fields.fail("if", "invalid expression syntax")
            return None
        if text not in self._expressions:
            try:
                self._expressions[text] = parse(text, self.patterns)
            except InvalidExpression:
                self._expressions[text] = None
        if self._expressions[text] is None:
            fields.fail("if", "invalid expression syntax")
        return self._expressions[text]


def _rarely(value: dict[Any, Any], spot: Spot, problems: Problems, kind: RuleKind) -> dict[str, Any]:
    """The keywords that few rules have."""
    found: dict[str, Any] = {}
    if "changes" in value:
        at = spot.key(value, "changes")
        found["changes"], found["compare_to"] = _changes(value["changes"], at, problems)
    if "exists" in value:
        is_limited = kind is not INCLUDE_RULES
        found["exists"] = _exists(value["exists"], spot.key(value, "exists"), problems, is_limited=is_limited)
    if "variables" in value:
        at = spot.key(value, "variables")
        found["variables"] = read_variables(value["variables"], at, problems, keywords.JOB_VARIABLES) or ()
    if "needs" in value:
        found["needs"] = read_needs(value["needs"], spot.key(value, "needs"), problems)
    if "auto_cancel" in value:
        at = spot.key(value, "auto_cancel")
        found["auto_cancel"] = read_auto_cancel(value["auto_cancel"], at, problems)
    return found


def _flatten(rules: list[Any], level: int, spot: Spot, flat: list[tuple[Any, Spot]]) -> bool:
    if level > MAX_NESTING:
        return False
    for index, rule in enumerate(rules):
        if isinstance(rule, dict):
            flat.append((rule, spot.item(rules, index, "rule")))
        elif not isinstance(rule, list) or not _flatten(rule, level + 1, spot, flat):
            return False
    return True


def _start_in(fields: Fields, *, is_delayed: bool) -> int | None:
    if not is_delayed:
        if "start_in" in fields.value:
            place = place_of(fields.value, "start_in") or fields.spot.place
            fields.problems.add(f"{fields.spot.where} config contains disallowed keys: start_in", place)
        return None
    return read_start_in(fields)


def read_start_in(fields: Fields) -> int | None:
    """`start_in` where it must be there: a duration of at most a week."""
    value = fields.value.get("start_in")
    seconds = duration.parse(value) if isinstance(value, str) else None
    if seconds is None:
        fields.fail("start_in", "should be a duration")
    elif seconds > duration.WEEK_S:
        fields.fail("start_in", "should not exceed the limit")
    return seconds


def _changes(value: Any, spot: Spot, problems: Problems) -> tuple[tuple[str, ...] | None, str | None]:
    """The globs, and the ref to compare with."""
    if value is None:
        return None, None
    if isinstance(value, list):
        return _paths(value, f"{spot.where} config", spot, problems), None
    if not isinstance(value, dict):
        problems.add(f"{spot.where} should be an array or a hash", spot.place)
        return None, None
    check_keys(value, keywords.CHANGES, spot, problems)
    if "regexp" not in value:
        check_required(value, "paths", spot, problems)
    compare_to = Fields(value, spot, problems).text("compare_to")
    if "paths" not in value:
        return None, compare_to
    return _paths(value["paths"], f"{spot.where} paths", spot.key(value, "paths"), problems), compare_to


def _exists(value: Any, spot: Spot, problems: Problems, *, is_limited: bool) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list):
        return _paths(value, f"{spot.where} config", spot, problems, is_limited=is_limited)
    if not isinstance(value, dict):
        problems.add(f"{spot.where} should be a string, an array of strings, or a hash", spot.place)
        return None
    check_keys(value, keywords.EXISTS, spot, problems)
    if "regexp" not in value:
        check_required(value, "paths", spot, problems)
    if value.get("paths") is None:
        return None
    return _paths(value["paths"], f"{spot.where} paths", spot.key(value, "paths"), problems)


def _paths(
    value: Any, name: str, spot: Spot, problems: Problems, *, is_limited: bool = True
) -> tuple[str, ...] | None:
    if not is_text_list(value):
        problems.add(f"{name} should be an array of strings", spot.place)
        return None
    if is_limited and len(value) > MAX_PATHS:
        problems.add(f"{name} has too many entries (maximum {MAX_PATHS})", spot.place)
        return None
    return tuple(value)


def read_auto_cancel(value: Any, spot: Spot, problems: Problems) -> AutoCancel | None:
    """`auto_cancel` of `workflow` or of one of its rules."""
    if value is None:
        return None
    if not isinstance(value, dict):
        problems.add(f"{spot.where} config should be a hash", spot.place)
        return None
    check_keys(value, keywords.AUTO_CANCEL, spot, problems)
    fields = Fields(value, spot, problems)
    return AutoCancel(
        fields.choice("on_new_commit", _ON_NEW_COMMIT, f"must be one of: {', '.join(_ON_NEW_COMMIT)}"),
        fields.choice("on_job_failure", _ON_JOB_FAILURE, f"must be one of: {', '.join(_ON_JOB_FAILURE)}"),
    )
