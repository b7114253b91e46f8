"""Pipelines of any shape, driven in any order: jobs change as the table allows, and all come to an end.

Source: GitLab app/models/concerns/ci/has_status.rb, lib/gitlab/ci/status/composite.rb,
app/services/ci/pipeline_processing/atomic_processing_service.rb.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nautilus_forge.ci.model import When
from nautilus_forge.pipelines.processing import JobState, advance, dependents
from nautilus_forge.pipelines.statuses import (
    CANCELABLE,
    COMPLETED,
    JOB_TRANSITIONS,
    ON_RUNNER,
    RETRYABLE,
    Status,
    composite,
    may_become,
)

STATUSES = st.sampled_from(list(Status))
JOBS = st.lists(st.tuples(STATUSES, st.booleans()), min_size=1, max_size=8)
WAITING = frozenset(Status) - COMPLETED - ON_RUNNER


def passes(status: Status, is_lenient: bool) -> bool:
    """Whether a job like this keeps nothing from being over."""
    return status in COMPLETED or (is_lenient and status is Status.MANUAL)


@given(JOBS, st.booleans(), st.randoms(use_true_random=False))
def test_neither_order_nor_number_of_jobs_counts(
    jobs: list[tuple[Status, bool]], dag: bool, chance: object
) -> None:
    shuffled = [*jobs, *jobs]
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert composite(shuffled, dag=dag) == composite(jobs, dag=dag)


@given(JOBS)
def test_a_pipeline_is_over_exactly_when_nothing_of_it_is_to_come(jobs: list[tuple[Status, bool]]) -> None:
    assert (composite(jobs) in COMPLETED) == all(passes(*job) for job in jobs)


@given(JOBS)
def test_a_pipeline_fails_by_a_job_that_may_not_fail(jobs: list[tuple[Status, bool]]) -> None:
    whole = composite(jobs)
    if whole is Status.FAILED:
        assert (Status.FAILED, False) in jobs
    elif all(passes(*job) for job in jobs):
        assert (Status.FAILED, False) not in jobs


@given(JOBS, st.integers(0, 7))
def test_a_failure_that_is_allowed_counts_as_a_success(jobs: list[tuple[Status, bool]], place: int) -> None:
    rest = [*jobs[:place], *jobs[place + 1 :]]
    allowed = composite([*rest, (Status.FAILED, True)])
    if {status for status, _ in rest} <= COMPLETED:
        assert allowed == composite([*rest, (Status.SUCCESS, False)])


@given(JOBS)
def test_needs_let_a_job_go_only_when_all_of_them_are_over(jobs: list[tuple[Status, bool]]) -> None:
    whole = composite(jobs, dag=True)
    assert whole in COMPLETED | {Status.PENDING}
    if whole in (Status.SUCCESS, Status.FAILED, Status.CANCELED):
        assert all(status in COMPLETED - {Status.SKIPPED} for status, _ in jobs)


@given(STATUSES, STATUSES)
def test_what_is_over_stays_over_and_no_status_follows_itself(old: Status, new: Status) -> None:
    assert not may_become(old, old)
    if old in COMPLETED - {Status.SKIPPED}:
        assert not may_become(old, new)
    if old is Status.CANCELING:
        assert may_become(old, new) == (new is Status.CANCELED)
    if may_become(old, Status.RUNNING):
        assert old is Status.PENDING


@st.composite
def pipelines(draw: st.DrawFn) -> list[JobState]:
    """Jobs in up to four stages; each waits for the earlier stages, or needs some jobs before it."""
    stages = sorted(draw(st.lists(st.integers(0, 3), min_size=1, max_size=7)))
    jobs: list[JobState] = []
    for number, stage in enumerate(stages):
        names = [job.name for job in jobs]
        needs = draw(
            st.none() | st.lists(st.sampled_from(names), unique=True, max_size=3) if names else st.none()
        )
        jobs.append(
            JobState(
                id=number,
                name=f"job {number}",
                stage_idx=stage,
                status=Status.CREATED,
                when=draw(st.sampled_from(list(When))),
                allow_failure=draw(st.booleans()),
                needs=tuple(needs) if needs is not None else None,
            )
        )
    return draw(st.permutations(jobs))


class APipeline(RuleBasedStateMachine):
    """What runners and people do to the jobs of one pipeline, each followed by the pipeline's own progress."""

    jobs: dict[int, JobState]
    status: Status

    @initialize(jobs=pipelines())
    def make(self, jobs: Sequence[JobState]) -> None:
        self.jobs = {job.id: job for job in jobs}
        self.progress()

    def set(self, job: JobState, status: Status, **more: bool) -> None:
        assert may_become(job.status, status), f"{job.status} → {status}"
        self.jobs[job.id] = replace(job, status=status, **more)

    def progress(self) -> None:
        before = dict(self.jobs)
        found = advance(list(self.jobs.values()))
        for job_id, status in found.changes.items():
            self.let_go(before[job_id], status, found.changes)
            self.set(self.jobs[job_id], status)
        self.status = found.status

    def let_go(self, job: JobState, status: Status, changes: dict[int, Status]) -> None:
        """A job starts only when everything that it waits for is over, or one of its needs never will run."""
        assert job.status is Status.CREATED
        awaited = [
            (changes.get(other.id, other.status), other.allow_failure)
            for other in self.jobs.values()
            if (other.stage_idx < job.stage_idx if job.needs is None else other.name in job.needs)
        ]
        if job.needs is not None and composite(awaited, dag=True) is Status.SKIPPED:
            assert status is Status.SKIPPED or job.when is When.ALWAYS
        elif status is Status.PENDING:
            assert all(passes(*other) for other in awaited)

    def these(self, *statuses: Status) -> list[JobState]:
        return [job for job in self.jobs.values() if job.status in statuses]

    def any_of(self, data: st.DataObject, *statuses: Status) -> JobState:
        return data.draw(st.sampled_from(self.these(*statuses)))

    @rule()
    def the_upkeep_looks(self) -> None:
        self.progress()

    @precondition(lambda self: self.these(Status.PENDING))
    @rule(data=st.data())
    def a_runner_claims(self, data: st.DataObject) -> None:
        self.set(self.any_of(data, Status.PENDING), Status.RUNNING)

    @precondition(lambda self: self.these(Status.RUNNING))
    @rule(data=st.data(), end=st.sampled_from([Status.SUCCESS, Status.FAILED]))
    def a_job_ends(self, data: st.DataObject, end: Status) -> None:
        self.set(self.any_of(data, Status.RUNNING), end)
        self.progress()

    @precondition(lambda self: self.these(Status.RUNNING))
    @rule(data=st.data())
    def a_lease_runs_out(self, data: st.DataObject) -> None:
        self.set(self.any_of(data, Status.RUNNING), Status.PENDING)
        self.progress()

    @precondition(lambda self: self.these(Status.MANUAL, Status.SCHEDULED))
    @rule(data=st.data())
    def somebody_plays(self, data: st.DataObject) -> None:
        self.set(self.any_of(data, Status.MANUAL, Status.SCHEDULED), Status.PENDING, enqueue_now=True)
        self.progress()

    @precondition(lambda self: self.these(*CANCELABLE))
    @rule(data=st.data(), gracefully=st.booleans())
    def somebody_cancels(self, data: st.DataObject, gracefully: bool) -> None:
        job = self.any_of(data, *CANCELABLE)
        is_slow = gracefully and job.status is Status.RUNNING
        self.set(job, Status.CANCELING if is_slow else Status.CANCELED)
        self.progress()

    @precondition(lambda self: self.these(Status.CANCELING))
    @rule(data=st.data())
    def a_runner_confirms_the_cancel(self, data: st.DataObject) -> None:
        self.set(self.any_of(data, Status.CANCELING), Status.CANCELED)
        self.progress()

    @precondition(lambda self: self.these(*RETRYABLE - {Status.CANCELING}))
    @rule(data=st.data())
    def somebody_retries(self, data: st.DataObject) -> None:
        """A new try stands in the place of the old one, and what was skipped by it gets another chance."""
        job = self.any_of(data, *RETRYABLE - {Status.CANCELING})
        for skipped in dependents(list(self.jobs.values()), [job.name]):
            self.set(skipped, Status.CREATED)
        self.jobs[job.id] = replace(job, status=Status.CREATED, enqueue_now=True)
        self.progress()

    @invariant()
    def the_pipeline_is_over_when_its_jobs_are(self) -> None:
        jobs = self.jobs.values()
        if all(passes(job.status, job.allow_failure) for job in jobs):
            assert composite((job.status, job.allow_failure) for job in jobs) in COMPLETED

    @invariant()
    def progress_leaves_nothing_for_a_second_look(self) -> None:
        assert advance(list(self.jobs.values())).changes == {}

    def teardown(self) -> None:
        """Whatever has happened: when runners finish what there is and people play the rest, all is over."""
        if not hasattr(self, "jobs"):
            return
        for _ in range(4 * len(self.jobs) + 4):
            for job in self.these(Status.MANUAL, Status.SCHEDULED):
                self.set(job, Status.PENDING, enqueue_now=True)
            for job in self.these(Status.PENDING):
                self.set(job, Status.RUNNING)
            for job in self.these(Status.RUNNING):
                self.set(job, Status.SUCCESS)
            for job in self.these(Status.CANCELING):
                self.set(job, Status.CANCELED)
            self.progress()
        assert not self.these(*WAITING, *ON_RUNNER)
        assert self.status in COMPLETED


TestAPipeline = APipeline.TestCase
TestAPipeline.settings = settings(max_examples=60, stateful_step_count=25, deadline=None, derandomize=True)


def test_the_table_names_every_status() -> None:
    assert set(JOB_TRANSITIONS) == set(Status)
    reached = set().union(*JOB_TRANSITIONS.values())
    assert set(Status) - reached == {Status.PREPARING}, "no job needs preparing: there are no clusters"
