"""States of an experiment, and the one table of what may follow what.

They follow GitLab's job states: a failed job is a failed experiment, a job that a lost runner gives back
is queued again. Only the three ends are final; a re-run is a new experiment.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType

from nautilus.errors import InvalidTransition


class ExperimentState(StrEnum):
    QUEUED = "queued"
    """Accepted; GitLab has no job yet, or no runner has taken it."""
    STARTING = "starting"
    """A runner has it and prepares the workspace."""
    RUNNING = "running"
    CANCELING = "canceling"
    """Somebody asked for its end; the runner has not confirmed it."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def is_final(self) -> bool:
        return self in FINAL_STATES


class JobState(StrEnum):
    """GitLab's. Source: https://docs.gitlab.com/api/jobs/ (`scope`), app/models/concerns/ci/has_status.rb."""

    CREATED = "created"
    WAITING_FOR_RESOURCE = "waiting_for_resource"
    WAITING_FOR_CALLBACK = "waiting_for_callback"
    PREPARING = "preparing"
    PENDING = "pending"
    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"
    CANCELING = "canceling"
    CANCELED = "canceled"
    SKIPPED = "skipped"
    MANUAL = "manual"
    SCHEDULED = "scheduled"


_Q, _ST, _R, _CG = (
    ExperimentState.QUEUED,
    ExperimentState.STARTING,
    ExperimentState.RUNNING,
    ExperimentState.CANCELING,
)
FINAL_STATES = frozenset({ExperimentState.SUCCEEDED, ExperimentState.FAILED, ExperimentState.CANCELED})
ACTIVE_STATES = frozenset(set(ExperimentState) - FINAL_STATES)

TRANSITIONS: MappingProxyType[ExperimentState, frozenset[ExperimentState]] = MappingProxyType(
    {
        _Q: frozenset({_ST, _R, _CG}) | FINAL_STATES,
        _ST: frozenset({_Q, _R, _CG}) | FINAL_STATES,
        _R: frozenset({_Q, _ST, _CG}) | FINAL_STATES,
        _CG: FINAL_STATES,
        ExperimentState.SUCCEEDED: frozenset(),
        ExperimentState.FAILED: frozenset(),
        ExperimentState.CANCELED: frozenset(),
    }
)

OF_JOB: MappingProxyType[JobState, ExperimentState] = MappingProxyType(
    {
        JobState.CREATED: _Q,
        JobState.WAITING_FOR_RESOURCE: _Q,
        JobState.WAITING_FOR_CALLBACK: _Q,
        JobState.PENDING: _Q,
        JobState.SCHEDULED: _Q,
        JobState.MANUAL: _Q,
        JobState.PREPARING: _ST,
        JobState.RUNNING: _R,
        JobState.CANCELING: _CG,
        JobState.SUCCESS: ExperimentState.SUCCEEDED,
        JobState.FAILED: ExperimentState.FAILED,
        JobState.CANCELED: ExperimentState.CANCELED,
        JobState.SKIPPED: ExperimentState.FAILED,
    }
)


def check_transition(before: ExperimentState, after: ExperimentState) -> None:
    """Raises InvalidTransition where `after` may not follow `before`; staying is always allowed."""
    if after is not before and after not in TRANSITIONS[before]:
        raise InvalidTransition(f"an experiment that is {before} cannot become {after}")


def state_of_job(before: ExperimentState, job: JobState, *, has_runner: bool) -> ExperimentState:
    """The experiment's state when its GitLab job is in state `job`.

    A pending job that a runner holds (two-phase commit of GitLab 18) is starting. Once canceling, only an end
    follows: a late "running" from GitLab changes nothing, nor does anything after an end.
    """
    after = OF_JOB[job]
    if job is JobState.PENDING and has_runner:
        after = ExperimentState.STARTING
    return after if after in TRANSITIONS[before] else before
