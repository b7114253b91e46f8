"""Why a job failed, in GitLab's words.

Source: GitLab app/models/concerns/enums/ci/commit_status.rb (`failure_reasons`).
"""

from __future__ import annotations

from nautilus_forge.ci.model import Retry

RUNNER_REASONS = (
    "unknown_failure",
    "script_failure",
    "runner_system_failure",
    "job_execution_timeout",
    "image_pull_failure",
    "runner_configuration_error",
    "runner_external_dependency_failure",
    "runner_interrupted",
)
"""Those that a runner may give."""

SERVER_REASONS = (
    "api_failure",
    "stuck_or_timeout_failure",
    "stuck_pending_no_matching_runners",
    "no_updates_running",
    "no_updates_canceling",
    "job_execution_server_timeout",
    "missing_dependency_failure",
    "runner_unsupported",
    "scheduler_failure",
    "data_integrity_failure",
    "trace_size_exceeded",
    "project_deleted",
    "user_blocked",
    "job_token_expired",
    "unmet_prerequisites",
    "stale_schedule",
    "archived_failure",
    "environment_creation_failure",
    "failed_outdated_deployment_job",
)

ALL_REASONS = (*RUNNER_REASONS, *SERVER_REASONS)

_AUTOMATIC_RETRIES = {"scheduler_failure": 2}
"""Retried of themselves, this often, where the job's own `retry` says nothing of the reason."""


MAX_HANDED_BACK = 10
"""How often a job may be given back by its runners and run again without counting as a retry."""

_WORTH_A_PAUSE = frozenset(
    {
        *("runner_system_failure", "runner_external_dependency_failure", "runner_interrupted"),
        *("image_pull_failure", "api_failure", "scheduler_failure", "data_integrity_failure"),
        *("stuck_or_timeout_failure", "no_updates_running", "job_execution_server_timeout"),
    }
)
"""What goes wrong with machines and networks goes wrong again when it is tried again at once."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 2.0, 300.0
_HAND_BACKS_AT_ONCE = 3


def pause_s_before(reason: str, tries_before: int) -> float:
    """Seconds until an automatic retry: none for what the job did itself; else 2, 4, 8, … at most 300."""
    if reason not in _WORTH_A_PAUSE:
        return 0.0
    return min(_FIRST_PAUSE_S * 2.0 ** min(tries_before, 10), _LONGEST_PAUSE_S)


def pause_after_hand_back_s(times_before: int) -> float:
    """Seconds until a job that was given back is offered again: at once, unless that happens all the time."""
    if times_before < _HAND_BACKS_AT_ONCE:
        return 0.0
    return pause_s_before("runner_interrupted", times_before - _HAND_BACKS_AT_ONCE)


def known_reason(reason: str | None) -> str:
    """What is stored for a reason that a runner gave; one that is not known becomes `unknown_failure`."""
    return reason if reason in ALL_REASONS else "unknown_failure"


def may_retry(retry: Retry, reason: str, exit_code: int | None, tries_before: int) -> bool:
    """Whether a failed job is run again of itself. `tries_before`: automatic retries so far.

    Source: doc/ci/yaml/_index.md `retry`; lib/gitlab/ci/build/auto_retry.rb.
    """
    is_meant = not retry.when and not retry.exit_codes
    is_meant = is_meant or "always" in retry.when or reason in retry.when or exit_code in retry.exit_codes
    limit = retry.max if retry.max > 0 and is_meant else _AUTOMATIC_RETRIES.get(reason, 0)
    return tries_before < limit
