"""Sentences for people: why an experiment waits, and why it ended as it did."""

from __future__ import annotations

import re
from collections.abc import Sequence

_EXIT_CODE = re.compile(rb"Job failed: (?:exit (?:code|status)|command terminated with exit code) (\d{1,3})")
"""What runners print last. Source: gitlab-runner, common/build.go and executors/docker."""

WAITS_FOR_LAUNCH = "its branch is being made at GitLab"
WAITS_FOR_PIPELINE = "waiting for GitLab to make its pipeline"
WAITS_FOR_RUNNER = "waiting for a runner"
STARTS = "a runner prepares its workspace"
CANCEL_REQUESTED = "its cancellation was asked for"
CANCELED = "it was canceled"
PREEMPTING = "it is to go on elsewhere: its job keeps its checkpoint and ends"

_BY_GITLAB: dict[str, str] = {
    "script_failure": "the command failed",
    "job_execution_timeout": "it ran longer than its time limit",
    "job_execution_server_timeout": "it ran longer than its time limit",
    "stuck_or_timeout_failure": "it was stuck: no runner took it, or its runner stopped reporting",
    "stuck_pending_no_matching_runners": "no runner matches its tags",
    "no_updates_running": "its runner stopped reporting",
    "no_updates_canceling": "its runner stopped reporting while the run was canceled",
    "runner_system_failure": "the runner failed, not the command (runner system failure)",
    "runner_configuration_error": "the runner is configured wrongly",
    "runner_external_dependency_failure": "something that the runner depends on failed",
    "runner_interrupted": "the runner was interrupted",
    "runner_unsupported": "the runner is too old for this job",
    "image_pull_failure": "its image could not be pulled",
    "missing_dependency_failure": "something that it depends on is missing",
    "scheduler_failure": "GitLab could not hand it to a runner",
    "data_integrity_failure": "GitLab found its data damaged",
    "api_failure": "GitLab's API failed",
    "trace_size_exceeded": "its log grew too long",
    "project_deleted": "its project was deleted",
    "user_blocked": "its user is blocked",
    "job_token_expired": "its job token expired",
    "archived_failure": "its project is archived",
    "ci_quota_exceeded": "the CI quota is used up",
}


_OF_RUNNERS = frozenset(
    {
        "script_failure",
        "unknown_failure",
        "job_execution_timeout",
        "image_pull_failure",
        "runner_system_failure",
        "runner_configuration_error",
        "runner_external_dependency_failure",
        "runner_interrupted",
    }
)
_CAUSES = {
    "out_of_memory": "out of memory",
    "disk": "out of its disk space",
    "pids": "too many processes",
    "timeout": "out of time",
    "idle_gpu": "its GPU was idle",
    "image": "its image could not be had",
    "data": "its data could not be had",
    "configuration": "its runner can't run it as asked",
    "platform": "the runner failed, not the command",
    "interrupted": "the runner was interrupted",
}
"""The runner's words for the cause of an end. Source: docs/reference/runner.md."""


def failure_sentence(failure_reason: str | None, exit_code: int | None) -> str:
    """Why a job failed, from GitLab's `failure_reason` and the command's exit code where they are known."""
    if failure_reason in (None, "script_failure", "unknown_failure") and exit_code is not None:
        return f"the command ended with exit code {exit_code}{_of_signal(exit_code)}"
    if failure_reason is None or failure_reason == "unknown_failure":
        return "the job failed; GitLab gives no reason"
    return _BY_GITLAB.get(failure_reason, f"the job failed: {failure_reason.replace('_', ' ')}")


def runner_words(failure_reason: str | None, cause: str | None, reason: str | None) -> str | None:
    """Why a job failed as its runner tells it; None where it tells nothing better than GitLab.

    Only where GitLab's reason is a runner's: what an earlier attempt's runner said is not believed of a later one.
    """
    if failure_reason not in _OF_RUNNERS or not cause or not reason or cause == "succeeded":
        return None
    if cause == "user":
        return f"the command ended with {reason}" if "(" in reason else None
    return f"{_CAUSES.get(cause, 'it failed')}: {reason}"


def exit_code_in(trace_tail: bytes) -> int | None:
    """The exit code that the runner's last lines name; None where they name none."""
    found = _EXIT_CODE.findall(trace_tail)
    return int(found[-1]) if found else None


def runner_sentence(online: int, total: int, ahead: int, tags: Sequence[str] = ()) -> str:
    """Why a job that no runner has taken waits: `ahead` jobs are before it, as far as is known. With `tags` all
    numbers are of the runners, and the jobs, with these tags."""
    if tags and not online:
        named = ("tag " if len(tags) == 1 else "tags ") + ", ".join(tags)
        if total == 0:
            return f"no runner has the {named}: is it spelt so? `nautilus runner add --tags` adds one"
        return f"none of the runners with the {named} is online"
    if total == 0:
        return "no runner is registered: `nautilus runner token` says how to add one"
    if online == 0:
        return f"none of the {total} runners is online" if total > 1 else "the runner is not online"
    if ahead:
        return f"waiting for a runner: {ahead} {'run is' if ahead == 1 else 'runs are'} before it"
    return WAITS_FOR_RUNNER


def _of_signal(exit_code: int) -> str:
    names = {130: "interrupted", 134: "aborted", 137: "killed, perhaps for memory", 139: "segmentation fault"}
    if exit_code == 127:
        return " (a program was not found)"
    return f" ({names[exit_code]})" if exit_code in names else ""
