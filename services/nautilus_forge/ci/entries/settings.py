"""The smaller keywords of a job: `retry`, `timeout`, `tags`, `environment`, `inherit`, `allow_failure`, `hooks`,
`coverage`.

Source: lib/gitlab/ci/config/entry/{retry,timeout,tags,environment,inherit,allow_failure,hooks,coverage}.rb.
"""

from __future__ import annotations

import re
from typing import Any

from nautilus_forge.ci import duration
from nautilus_forge.ci.entries import keywords
from nautilus_forge.ci.entries.checks import Fields, Problems, Spot, check_keys, is_text_list, read_script
from nautilus_forge.ci.entries.config import AllowFailure, Inherit
from nautilus_forge.ci.expression import Patterns
from nautilus_forge.ci.model import Environment, Retry
from nautilus_forge.ci.regex import InvalidRegex

MAX_TAGS = 50
MAX_RETRIES = 2
_ACTIONS = ("start", "stop", "prepare", "verify", "access")
_TIERS = ("production", "staging", "testing", "development", "other")
_ENVIRONMENT_NAME = re.compile(r"[a-zA-Z0-9_${}. -](?:[a-zA-Z0-9_/${}. -]*[a-zA-Z0-9_${}. -])?\Z")
_ENVIRONMENT_NAME_RULE = (
    "can contain only letters, digits, '-', '_', '/', '$', '{', '}', '.', and spaces, "
    "but it cannot start or end with '/'"
)
RETRY_REASONS = frozenset(
    [
        *("always", "unknown_failure", "script_failure", "api_failure", "stuck_or_timeout_failure"),
        *("runner_system_failure", "runner_unsupported", "stale_schedule", "job_execution_timeout"),
        *("archived_failure", "unmet_prerequisites", "scheduler_failure", "data_integrity_failure"),
        *("missing_dependency_failure", "forward_deployment_failure", "user_blocked", "project_deleted"),
        *("ci_quota_exceeded", "no_matching_runner", "trace_size_exceeded", "builds_disabled"),
        *("environment_creation_failure", "deployment_rejected", "failed_outdated_deployment_job"),
        *("runner_configuration_error", "runner_external_dependency_failure", "runner_interrupted"),
        *("image_pull_failure", "job_execution_server_timeout", "job_token_expired", "no_updates_running"),
        *("no_updates_canceling", "stuck_pending_no_matching_runners", "protected_environment_failure"),
        *("stuck_pending_with_matching_runners", "server_timeout_running", "server_timeout_canceling"),
    ]
)


def read_retry(value: Any, spot: Spot, problems: Problems) -> Retry | None:
    """`retry`. GitLab names no job in these messages."""
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        _check_range(value, "retry config", spot, problems)
        return Retry(max=value)
    if not isinstance(value, dict):
        problems.add("retry config has to be either an integer or a hash", spot.place)
        return None
    at = Spot("retry", spot.place)
    check_keys(value, keywords.RETRY, at, problems)
    fields = Fields(value, at, problems)
    maximum = value.get("max")
    if maximum is not None and (isinstance(maximum, bool) or not isinstance(maximum, int | float)):
        fields.fail("max", "is not a number")
    elif isinstance(maximum, float):
        fields.fail("max", "must be an integer")
    elif maximum is not None:
        _check_range(maximum, "retry max", at.key(value, "max"), problems)
    reasons = _retry_reasons(fields)
    return Retry(
        max=maximum if isinstance(maximum, int) else 0,
        when=reasons,
        exit_codes=fields.integers("exit_codes") or (),
    )


def _check_range(value: int, name: str, spot: Spot, problems: Problems) -> None:
    if value < 0:
        problems.add(f"{name} must be greater than or equal to 0", spot.place)
    elif value > MAX_RETRIES:
        problems.add(f"{name} must be less than or equal to {MAX_RETRIES}", spot.place)


def _retry_reasons(fields: Fields) -> tuple[str, ...]:
    value = fields.value.get("when")
    if value is None:
        return ()
    if isinstance(value, str):
        if value not in RETRY_REASONS:
            fields.fail("when", "is not included in the list")
        return (value,)
    if not is_text_list(value):
        fields.fail("when", "should be an array of strings or a string")
        return ()
    if unknown := [reason for reason in value if reason not in RETRY_REASONS]:
        fields.fail("when", f"contains unknown values: {', '.join(unknown)}")
    return tuple(value)


def read_timeout(value: Any, spot: Spot, problems: Problems) -> int | None:
    """`timeout`, in seconds; at most a month."""
    if value is None:
        return None
    seconds = duration.parse(value) if isinstance(value, str) else None
    if seconds is None:
        problems.add(f"{spot.where} config should be a duration", spot.place)
    elif seconds > duration.MONTH_S:
        problems.add(f"{spot.where} config should not exceed the limit", spot.place)
    return seconds


def read_tags(value: Any, spot: Spot, problems: Problems) -> tuple[str, ...] | None:
    """`tags`."""
    if value is None:
        return None
    if not is_text_list(value):
        problems.add(f"{spot.where} config should be an array of strings", spot.place)
        return None
    if len(value) >= MAX_TAGS:
        problems.add(f"{spot.where} config must be less than the limit of {MAX_TAGS} tags", spot.place)
    return tuple(value)


def read_hooks(value: Any, spot: Spot, problems: Problems) -> tuple[str, ...] | None:
    """`hooks:pre_get_sources_script`."""
    if value is None:
        return None
    if not isinstance(value, dict):
        problems.add(f"{spot.where} config should be a hash", spot.place)
        return None
    name = "pre_get_sources_script"
    check_keys(value, keywords.HOOKS, spot, problems)
    return read_script(value.get(name), spot.key(value, name), problems)


def read_allow_failure(value: Any, spot: Spot, parent: Spot, problems: Problems) -> AllowFailure | None:
    """`allow_failure`."""
    if value is None:
        return None
    if isinstance(value, bool):
        return AllowFailure(value)
    if not isinstance(value, dict):
        problems.add(f"{parent.where} allow failure should be a hash or a boolean value", spot.place)
        return None
    check_keys(value, keywords.ALLOW_FAILURE, spot, problems)
    return AllowFailure(exit_codes=Fields(value, spot, problems).integers("exit_codes") or ())


def read_environment(value: Any, spot: Spot, problems: Problems) -> Environment | None:
    """`environment`: a name, or a mapping."""
    if value is None:
        return None
    if not isinstance(value, str | dict):
        problems.add(f"{spot.where} config should be a hash or a string", spot.place)
        return None
    fields = Fields(value if isinstance(value, dict) else {"name": value}, spot, problems)
    name = fields.value.get("name")
    if name is None or name == "":
        fields.fail("name", "can't be blank")
    elif not isinstance(name, str) or not _ENVIRONMENT_NAME.match(name):
        fields.fail("name", _ENVIRONMENT_NAME_RULE)
    if isinstance(value, str):
        return Environment(value)
    check_keys(value, keywords.ENVIRONMENT, spot, problems)
    url = fields.text("url")
    if url is not None and len(url) > 255:
        fields.fail("url", "is too long (maximum is 255 characters)")
    auto_stop_in = value.get("auto_stop_in")
    if auto_stop_in is not None and not _is_duration_or_variable(auto_stop_in):
        fields.fail("auto_stop_in", "should be a duration")
    return Environment(
        name if isinstance(name, str) else "",
        url=url,
        action=fields.choice("action", _ACTIONS, "should be start, stop, prepare, verify, or access")
        or "start",
        on_stop=fields.text("on_stop"),
        auto_stop_in=auto_stop_in if isinstance(auto_stop_in, str) else None,
        deployment_tier=fields.choice("deployment_tier", _TIERS, f"must be one of {', '.join(_TIERS)}"),
    )


def _is_duration_or_variable(value: Any) -> bool:
    return isinstance(value, str) and ("$" in value or duration.is_duration_or_never(value))


def read_inherit(value: Any, spot: Spot, problems: Problems) -> Inherit:
    """`inherit`: whether, or which of, the defaults and the pipeline's variables a job takes."""
    if value is None:
        return Inherit()
    if not isinstance(value, dict):
        problems.add(f"{spot.where} config should be a hash", spot.place)
        return Inherit()
    check_keys(value, keywords.INHERIT, spot, problems)
    default = _inherited(value.get("default"), spot.key(value, "default"), problems)
    if isinstance(default, frozenset) and (unknown := sorted(default - set(keywords.INHERITABLE))):
        at = spot.key(value, "default")
        problems.add(f"{at.where} config contains unknown values: {', '.join(unknown)}", at.place)
    return Inherit(default, _inherited(value.get("variables"), spot.key(value, "variables"), problems))


def _inherited(value: Any, spot: Spot, problems: Problems) -> bool | frozenset[str]:
    if value is None:
        return True
    if isinstance(value, bool):
        return value
    if is_text_list(value):
        return frozenset(value)
    problems.add(f"{spot.where} should be a bool or array of strings", spot.place)
    return True


def read_coverage(value: Any, spot: Spot, problems: Problems, patterns: Patterns) -> str | None:
    """`coverage`: the pattern between the slashes. Raises `BudgetExhausted`."""
    if value is None:
        return None
    if isinstance(value, str) and len(value) > 2 and value.startswith("/") and value.endswith("/"):
        try:
            patterns.compile_pattern(value[1:-1])
        except InvalidRegex:
            pass
        else:
            return value[1:-1]
    problems.add(f"{spot.where} config must be a regular expression with re2 syntax", spot.place)
    return None
