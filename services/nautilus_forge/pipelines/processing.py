"""What a pipeline's jobs become next: a pure function from the jobs' statuses to the changes to make.

Source: GitLab app/services/ci/pipeline_processing/atomic_processing_service.rb,
app/services/ci/process_build_service.rb.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from nautilus_forge.ci.model import When
from nautilus_forge.pipelines.statuses import COMPLETED, Status, composite


@dataclass(frozen=True)
class JobState:
    """A job as far as progress is concerned. `needs` None: the job waits for the earlier stages.

    `enqueue_now`: somebody played or retried the job, so `when: manual` and `when: delayed` no longer hold.
    """

    id: int
    name: str
    stage_idx: int
    status: Status
    when: When = When.ON_SUCCESS
    allow_failure: bool = False
    needs: tuple[str, ...] | None = None
    enqueue_now: bool = False


@dataclass(frozen=True)
class Progress:
    """Result of `advance`: new statuses by job id, and the status of the pipeline once they are set."""

    changes: dict[int, Status] = field(default_factory=dict)
    status: Status = Status.SUCCESS


_VALID_BEFORE: dict[When, frozenset[Status]] = {
    When.ON_SUCCESS: frozenset({Status.SUCCESS, Status.SKIPPED}),
    When.MANUAL: frozenset({Status.SUCCESS, Status.SKIPPED}),
    When.DELAYED: frozenset({Status.SUCCESS, Status.SKIPPED}),
    When.ON_FAILURE: frozenset({Status.FAILED}),
    When.ALWAYS: frozenset({Status.SUCCESS, Status.FAILED, Status.SKIPPED}),
}


def _may_run(job: JobState, before: Status) -> bool:
    if before is Status.SKIPPED and job.needs is not None and job.when is not When.ALWAYS:
        return False
    return before in _VALID_BEFORE[job.when]


def _started(job: JobState) -> Status:
    """Status of a job whose turn has come."""
    if job.when is When.DELAYED and not job.enqueue_now:
        return Status.SCHEDULED
    if job.when is When.MANUAL and not job.enqueue_now:
        return Status.MANUAL
    return Status.PENDING


def _in_order(jobs: Iterable[JobState]) -> list[JobState]:
    """Jobs by stage, within a stage after those that they need."""
    ordered: list[JobState] = []
    for _, group in _by_stage(jobs):
        pending = {job.name: job for job in group}
        while pending:
            free = [
                j for j in pending.values() if not any(n in pending and n != j.name for n in j.needs or ())
            ]
            for job in free or list(pending.values()):
                ordered.append(pending.pop(job.name))
    return ordered


def _by_stage(jobs: Iterable[JobState]) -> list[tuple[int, list[JobState]]]:
    stages: dict[int, list[JobState]] = {}
    for job in jobs:
        stages.setdefault(job.stage_idx, []).append(job)
    return sorted(stages.items())


def _needed(needs: Iterable[str], current: dict[str, JobState]) -> Status:
    """Status of the jobs that a job needs."""
    needed = (current[name] for name in needs if name in current)
    return composite(((n.status, n.allow_failure) for n in needed), dag=True) or Status.SUCCESS


def _earlier(stage_idx: int, current: dict[str, JobState]) -> Status:
    """Status of the stages before this one."""
    earlier = (j for j in current.values() if j.stage_idx < stage_idx)
    return composite((j.status, j.allow_failure) for j in earlier) or Status.SUCCESS


def advance(jobs: Sequence[JobState]) -> Progress:
    """Moves each job that is `created` on, as far as the others let it. `jobs`: all but retried ones."""
    current = {job.name: job for job in jobs}
    changes: dict[int, Status] = {}
    stages: dict[int, Status] = {}
    for job in _in_order(jobs):
        if job.status is not Status.CREATED:
            continue
        if job.needs is not None:
            before = _needed(job.needs, current)
        else:
            if job.stage_idx not in stages:
                stages[job.stage_idx] = _earlier(job.stage_idx, current)
            before = stages[job.stage_idx]
        if before not in COMPLETED:
            continue
        status = _started(job) if _may_run(job, before) else Status.SKIPPED
        changes[job.id] = status
        current[job.name] = replace(job, status=status)
    whole = composite((job.status, job.allow_failure) for job in current.values())
    return Progress(changes, whole or Status.SKIPPED)


def dependents(jobs: Sequence[JobState], of: Iterable[str]) -> list[JobState]:
    """Skipped jobs that may get another chance when the jobs named `of` run again: by stage or by needs.

    Source: GitLab app/services/ci/reset_skipped_jobs_service.rb.
    """
    names = set(of)
    stages = [job.stage_idx for job in jobs if job.name in names]
    if not stages:
        return []
    first = min(stages)
    grown = True
    while grown:
        more = {j.name for j in jobs if j.needs and j.name not in names and names & set(j.needs)}
        names |= more
        grown = bool(more)
    return [j for j in jobs if j.status is Status.SKIPPED and (j.stage_idx > first or j.name in names)]
