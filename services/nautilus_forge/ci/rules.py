"""Asking rules: which one matches in this context, and what follows from it.

Source: lib/gitlab/ci/build/rules.rb and rules/rule/clause/{if,changes,exists}.rb.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from nautilus_forge.ci.budget import Budget
from nautilus_forge.ci.entries.config import Rule
from nautilus_forge.ci.glob import Glob, is_exact
from nautilus_forge.ci.model import RefNotFound
from nautilus_forge.ci.regex import InvalidRegex
from nautilus_forge.ci.variables import expand_existing, expand_nested

MAX_EXISTS_COMPARISONS = 10_000
MAX_CHANGES_COMPARISONS = 50_000
"""Past so many comparisons of a glob with a path a rule counts as matching, as in GitLab."""


class InvalidRule(Exception):
    """A rule that cannot be asked in this context; the message is GitLab's."""


class RuleEvaluator:
    """Evaluates the rules of one compilation; what was found for a glob is remembered."""

    def __init__(
        self,
        changed_paths: Iterable[str] | None,
        existing_paths: frozenset[str],
        budget: Budget,
        changed_since: Callable[[str], frozenset[str] | None] | None = None,
    ) -> None:
        """`changed_since`: as that of `Context`."""
        self._changed = None if changed_paths is None else frozenset(changed_paths)
        self._existing = existing_paths
        self._budget = budget
        self._globs: dict[tuple[str, str], bool] = {}
        self._changed_since = changed_since
        self._since: dict[str, frozenset[str] | None] = {}

    def first_match(self, rules: Sequence[Rule], variables: Mapping[str, str]) -> Rule | None:
        """The first rule of which all conditions hold; None where there is none.

        Raises `InvalidRule`, `BudgetExhausted`.
        """
        for rule in rules:
            self._budget.spend(2)
            if self._matches(rule, variables):
                return rule
        return None

    def _matches(self, rule: Rule, variables: Mapping[str, str]) -> bool:
        if rule.condition is not None and not rule.condition.holds(variables):
            return False
        if rule.changes is not None and not self._has_changes(rule, rule.changes, variables):
            return False
        if rule.exists is not None:
            self._budget.spend(len(rule.exists))
            globs = [expand_existing(glob, variables) for glob in rule.exists]
            return self._any(globs, self._existing, "exists", MAX_EXISTS_COMPARISONS)
        return True

    def _has_changes(self, rule: Rule, changes: Sequence[str], variables: Mapping[str, str]) -> bool:
        changed, kind = self._changed, "changes"
        if rule.compare_to is not None:
            ref = expand_nested(rule.compare_to, variables, budget=self._budget, keep_unknown=True)
            changed, kind = self._changes_since(ref), f"changes since {ref}"
        if changed is None:
            return True
        globs = [expand_nested(glob, variables, budget=self._budget, keep_unknown=True) for glob in changes]
        if len(globs) * len(changed) > MAX_CHANGES_COMPARISONS:
            return True
        return self._any(globs, changed, kind, MAX_CHANGES_COMPARISONS)

    def _changes_since(self, ref: str) -> frozenset[str] | None:
        if self._changed_since is None:
            return None
        if ref not in self._since:
            try:
                self._since[ref] = self._changed_since(ref)
            except RefNotFound as error:
                raise InvalidRule("rules:changes:compare_to is not a valid ref") from error
        return self._since[ref]

    def _any(self, globs: list[str], paths: frozenset[str], kind: str, limit: int) -> bool:
        exact = [glob for glob in globs if is_exact(glob)]
        if any(glob in paths for glob in exact):
            return True
        patterns = [glob for glob in globs if not is_exact(glob)]
        return (len(patterns) * len(paths) > limit) or any(
            self._found(glob, paths, kind) for glob in patterns
        )

    def _found(self, glob: str, paths: frozenset[str], kind: str) -> bool:
        key = (kind, glob)
        known = self._globs.get(key)
        if known is None:
            try:
                known = Glob(glob).matches_any(paths, self._budget)
            except InvalidRegex:  # beyond all limits: matches nothing
                known = False
            self._globs[key] = known
        return known
