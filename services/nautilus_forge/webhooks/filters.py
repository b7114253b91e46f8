"""Which branches a hook wants to hear of.

Source: gitlabhq app/models/hooks/active_hook_filter.rb, app/validators/web_hooks/wildcard_branch_filter_validator.rb.
"""

from __future__ import annotations

import re

from nautilus_forge.ci.budget import Budget, BudgetExhausted
from nautilus_forge.ci.regex import InvalidRegex, compile_pattern
from nautilus_forge.db.models import WebHook
from nautilus_forge.projects.branches import matches

_STEPS = 1_000_000
_NO_BRANCH = re.compile(r"[\x00-\x20\x7f~^:?\[\\]|\.\.|@\{|//|^/|/$|\.$|^\.|/\.|\.lock(/|$)|^@$|^-")


def wants_branch(hook: WebHook, branch: str) -> bool:
    wanted = hook.push_events_branch_filter
    if not wanted or hook.branch_filter_strategy == "all_branches":
        return True
    if hook.branch_filter_strategy == "wildcard":
        return matches(wanted, branch)
    try:
        return compile_pattern(wanted).search(branch, Budget(_STEPS))
    except (InvalidRegex, BudgetExhausted):
        return False


def is_valid(strategy: str, wanted: str | None) -> bool:
    if not wanted or strategy == "all_branches":
        return True
    if strategy == "wildcard":
        return _NO_BRANCH.search(wanted) is None and len(wanted) <= 255
    try:
        compile_pattern(wanted)
    except InvalidRegex:
        return False
    return True
