"""The words that pipelines and jobs have for how they are, and how one status is made of many.

Source: GitLab app/models/concerns/ci/has_status.rb, lib/gitlab/ci/status/composite.rb.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Status(StrEnum):
    """Status of a job or a pipeline, in GitLab's words."""

    CREATED = "created"
    WAITING_FOR_RESOURCE = "waiting_for_resource"
    PREPARING = "preparing"
    PENDING = "pending"
    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"
    CANCELED = "canceled"
    CANCELING = "canceling"
    SKIPPED = "skipped"
    MANUAL = "manual"
    SCHEDULED = "scheduled"


COMPLETED = frozenset({Status.SUCCESS, Status.FAILED, Status.CANCELED, Status.SKIPPED})
"""A job or pipeline in one of these is over."""

ON_RUNNER = frozenset({Status.RUNNING, Status.CANCELING})
"""A runner works on the job; its job token is valid."""

CANCELABLE = frozenset(
    {
        Status.RUNNING,
        Status.WAITING_FOR_RESOURCE,
        Status.PREPARING,
        Status.PENDING,
        Status.CREATED,
        Status.SCHEDULED,
        Status.MANUAL,
    }
)

RETRYABLE = frozenset({Status.SUCCESS, Status.FAILED, Status.CANCELED, Status.CANCELING})

JOB_TRANSITIONS: dict[Status, frozenset[Status]] = {
    Status.CREATED: frozenset(
        {
            Status.PENDING,
            Status.MANUAL,
            Status.SCHEDULED,
            Status.WAITING_FOR_RESOURCE,
            Status.SKIPPED,
            Status.CANCELED,
            Status.FAILED,
        }
    ),
    Status.MANUAL: frozenset({Status.PENDING, Status.WAITING_FOR_RESOURCE, Status.CANCELED, Status.SKIPPED}),
    Status.SCHEDULED: frozenset(
        {Status.PENDING, Status.MANUAL, Status.WAITING_FOR_RESOURCE, Status.CANCELED, Status.FAILED}
    ),
    Status.WAITING_FOR_RESOURCE: frozenset({Status.PENDING, Status.CANCELED, Status.FAILED}),
    Status.PREPARING: frozenset({Status.PENDING, Status.CANCELED, Status.FAILED}),
    Status.PENDING: frozenset({Status.RUNNING, Status.CANCELED, Status.FAILED}),
    Status.RUNNING: frozenset(
        {Status.SUCCESS, Status.FAILED, Status.CANCELED, Status.CANCELING, Status.PENDING}
    ),
    Status.CANCELING: frozenset({Status.CANCELED}),
    Status.SKIPPED: frozenset({Status.CREATED}),
    Status.SUCCESS: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELED: frozenset(),
}
"""From each status, those that may follow. RUNNING → PENDING is the end of a lease that no runner confirmed."""


def may_become(old: Status, new: Status) -> bool:
    """Whether a job in `old` may be set to `new`."""
    return new in JOB_TRANSITIONS[old]


_SUCCESS_WITH_WARNINGS = "success_with_warnings"
_IGNORED = "ignored"
_LENIENT = frozenset({_SUCCESS_WITH_WARNINGS, _IGNORED})
_DAG_COMPLETE = frozenset(
    {Status.SUCCESS, Status.FAILED, Status.CANCELED, Status.SKIPPED, _SUCCESS_WITH_WARNINGS}
)

_ONLY_OF: tuple[tuple[Status, frozenset[str]], ...] = (
    (Status.SKIPPED, frozenset({Status.SKIPPED, _IGNORED})),
    (Status.SUCCESS, frozenset({Status.SUCCESS, Status.SKIPPED}) | _LENIENT),
    (Status.CREATED, frozenset({Status.CREATED}) | _LENIENT),
    (Status.PREPARING, frozenset({Status.PREPARING}) | _LENIENT),
    (Status.CANCELED, frozenset({Status.CANCELED, Status.SUCCESS, Status.SKIPPED}) | _LENIENT),
    (Status.PENDING, frozenset({Status.PENDING, Status.CREATED, Status.SKIPPED}) | _LENIENT),
)
"""In order: the status when nothing but these is there."""

_ANY_OF: tuple[tuple[Status, frozenset[str]], ...] = (
    (Status.RUNNING, frozenset({Status.RUNNING, Status.PENDING})),
    (Status.WAITING_FOR_RESOURCE, frozenset({Status.WAITING_FOR_RESOURCE})),
    (Status.MANUAL, frozenset({Status.MANUAL})),
    (Status.SCHEDULED, frozenset({Status.SCHEDULED})),
    (Status.PREPARING, frozenset({Status.PREPARING})),
    (Status.RUNNING, frozenset({Status.CREATED})),
    (Status.CANCELING, frozenset({Status.CANCELING})),
)
"""In order, after `_ONLY_OF`: the status when one of these is there."""


def _kind(status: Status, allow_failure: bool) -> str:
    if allow_failure and status in (Status.FAILED, Status.CANCELED):
        return _SUCCESS_WITH_WARNINGS
    if allow_failure and status is Status.MANUAL:
        return _IGNORED
    return status


def composite(jobs: Iterable[tuple[Status, bool]], *, dag: bool = False) -> Status | None:
    """The one status of many jobs, each given as (status, allow_failure); None for no jobs.

    With `dag` the jobs are one job's `needs`: a need that did not run skips the job, and one that is not
    over keeps it waiting (PENDING).
    """
    kinds = {_kind(status, allow_failure) for status, allow_failure in jobs}
    if not kinds:
        return None
    if dag and kinds & {Status.SKIPPED, _IGNORED}:
        return Status.SKIPPED
    if dag and not kinds <= _DAG_COMPLETE:
        return Status.PENDING
    for status, only in _ONLY_OF:
        if kinds <= only:
            return status
    for status, some in _ANY_OF:
        if kinds & some:
            return status
    return Status.FAILED
