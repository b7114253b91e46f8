"""Statuses that other systems report of commits: each is a job of a pipeline that no runner gets.

Source: gitlabhq app/services/ci/create_commit_status_service.rb, app/models/generic_commit_status.rb,
app/models/commit_status.rb (the state machine).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.ci.model import CompiledPipeline
from nautilus_forge.ci_half import CiHalf
from nautilus_forge.db.models import Job, Pipeline, Project, User
from nautilus_forge.errors import BadRequest, Forbidden, InvalidRecord, NotFound, Unprocessable
from nautilus_forge.git import commits, refs
from nautilus_forge.outbound.errors import UrlBlocked
from nautilus_forge.outbound.target import parse
from nautilus_forge.pipelines import origin
from nautilus_forge.pipelines.configuration import Source
from nautilus_forge.pipelines.progress import lock_pipeline, process
from nautilus_forge.pipelines.statuses import COMPLETED, Status
from nautilus_forge.pipelines.storing import NewPipeline, store_pipeline
from nautilus_forge.policy import Level
from nautilus_forge.ports import ZERO_SHA
from nautilus_forge.projects import branches

STAGE, STAGE_IDX = "external", 1_000_000
MOST_JOBS = 1000
"""Jobs that one pipeline may have before further statuses begin another."""
_LONGEST = 255

_EVENTS: dict[Status, tuple[str, frozenset[Status]]] = {
    Status.PENDING: ("enqueue", frozenset({Status.CREATED, Status.SKIPPED, Status.MANUAL})),
    Status.RUNNING: ("run", frozenset({Status.CREATED, Status.PENDING})),
    Status.SUCCESS: ("success", frozenset({Status.CREATED, Status.PENDING, Status.RUNNING})),
    Status.FAILED: ("drop", frozenset({Status.CREATED, Status.PENDING, Status.RUNNING})),
    Status.CANCELED: ("cancel", frozenset({Status.CREATED, Status.PENDING, Status.RUNNING})),
    Status.SKIPPED: ("skip", frozenset({Status.CREATED, Status.PENDING})),
}
"""For each status: the event that leads there, and from where."""

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))")


@dataclass(frozen=True)
class Report:
    """`given`: of target_url, description and coverage those that the reporter sent."""

    sha: str
    state: Status
    name: str
    ref: str | None
    pipeline_id: int | None
    given: dict[str, str | float | None]


async def report(
    ci: CiHalf, db: AsyncSession, project: Project, user: User, level: Level, told: Report
) -> tuple[Job, Pipeline]:
    """The status as it now is. Raises `NotFound`, `Forbidden`, `InvalidRecord`, `Unprocessable`, and `BadRequest` for
    a change of state that cannot be.
    """
    _check(told)
    await db.execute(_LOCK, {"key": f"commit status {project.id} {told.sha}"})
    pipeline = await _newest(db, project, told)
    if pipeline is None and told.pipeline_id is not None:
        raise NotFound("Pipeline for pipeline_id, sha and ref")
    ref = (
        told.ref
        or (pipeline.ref if pipeline is not None else None)
        or await _branch_of(ci, project, told.sha)
    )
    await _require_ref(db, project, ref, level)
    job = await _open(db, pipeline, told.name, user) if pipeline is not None else None
    if pipeline is None or (job is None and await _is_full(db, pipeline, told)):
        pipeline = await _new_pipeline(ci, db, project, user, ref, told.sha)
    await lock_pipeline(db, pipeline.id)
    if job is None:
        job = await _new_job(db, pipeline, user, told.name)
    for name, value in told.given.items():
        setattr(job, name, value)
    _move(job, told.state, await db.scalar(select(func.now())) or datetime.min)
    await db.flush()
    await process(db, pipeline.id)
    await db.refresh(job)
    await db.refresh(pipeline)
    return job, pipeline


def _check(told: Report) -> None:
    problems: dict[str, list[str]] = {}
    too_long = [f"is too long (maximum is {_LONGEST} characters)"]
    if len(told.name) > _LONGEST:
        problems["name"] = too_long
    if len(str(told.given.get("description") or "")) > _LONGEST:
        problems["description"] = too_long
    url = told.given.get("target_url")
    if isinstance(url, str) and url:
        try:
            parse(url)
        except UrlBlocked as refusal:
            problems["target_url"] = [f"is blocked: {refusal.reason}"]
        if len(url) > _LONGEST:
            problems["target_url"] = too_long
    if problems:
        raise InvalidRecord(problems)


async def _newest(db: AsyncSession, project: Project, told: Report) -> Pipeline | None:
    statement = select(Pipeline).where(Pipeline.project_id == project.id, Pipeline.sha == told.sha)
    if told.ref is not None:
        statement = statement.where(Pipeline.ref == told.ref)
    if told.pipeline_id is not None:
        statement = statement.where(Pipeline.id == told.pipeline_id)
    return await db.scalar(statement.order_by(Pipeline.id.desc()).limit(1))


async def _branch_of(ci: CiHalf, project: Project, sha: str) -> str:
    git = ci.forge.repositories.git(project.id)
    containing = await refs.containing(git, "branch", sha)
    if not containing:
        raise NotFound("References for commit")
    return containing[0]


async def _require_ref(db: AsyncSession, project: Project, ref: str, level: Level) -> None:
    """Of a protected branch, whoever may push to it reports."""
    if not branches.can_push(await branches.rules_of(db, project.id), ref, level):
        raise Forbidden


async def _open(db: AsyncSession, pipeline: Pipeline, name: str, user: User) -> Job | None:
    """The reporter's own status of this name that is not over yet."""
    statement = select(Job).where(
        Job.pipeline_id == pipeline.id,
        Job.is_external,
        Job.is_retried.is_(False),
        Job.name == name,
        Job.user_id == user.id,
        Job.status.in_((Status.PENDING.value, Status.RUNNING.value)),
    )
    return await db.scalar(statement.order_by(Job.id.desc()).limit(1))


async def _is_full(db: AsyncSession, pipeline: Pipeline, told: Report) -> bool:
    jobs = select(func.count()).select_from(Job).where(Job.pipeline_id == pipeline.id)
    if (await db.scalar(jobs) or 0) < MOST_JOBS:
        return False
    if told.pipeline_id is not None:
        raise Unprocessable("The number of jobs has exceeded the limit")
    return True


async def _new_pipeline(
    ci: CiHalf, db: AsyncSession, project: Project, user: User, ref: str, sha: str
) -> Pipeline:
    git = ci.forge.repositories.git(project.id)
    commit = await commits.read_commit(git, sha)
    new = NewPipeline(
        source=Source(project, user, ref, False, sha, ZERO_SHA, "external"),
        compiled=CompiledPipeline((), ()),
        errors=None,
        is_protected=await origin.is_protected(db, project.id, ref, is_tag=False),
        committed_at=datetime.fromisoformat(commit.committed_date),
    )
    pipeline = await store_pipeline(db, new)
    pipeline.stages = [STAGE]
    await db.flush()
    return pipeline


async def _new_job(db: AsyncSession, pipeline: Pipeline, user: User, name: str) -> Job:
    """Takes the place of earlier ones of this name, which count as retried."""
    job = Job(
        pipeline_id=pipeline.id,
        project_id=pipeline.project_id,
        user_id=user.id,
        name=name,
        stage=STAGE,
        stage_idx=STAGE_IDX,
        status=Status.CREATED.value,
        definition={},
        tags=[],
        is_protected=pipeline.is_protected,
        is_external=True,
        is_processed=True,
    )
    db.add(job)
    if STAGE not in pipeline.stages:
        pipeline.stages = [*pipeline.stages, STAGE]
    await db.flush()
    await db.execute(
        update(Job)
        .where(Job.pipeline_id == pipeline.id, Job.name == name, Job.id != job.id, Job.is_external)
        .values(is_retried=True, is_processed=True)
    )
    return job


def _move(job: Job, state: Status, now: datetime) -> None:
    event, sources = _EVENTS[state]
    if Status(job.status) not in sources:
        raise BadRequest(
            message=f"Cannot transition status via :{event} from :{job.status} "
            f'(Reason(s): Status cannot transition via "{event}")'
        )
    job.status = state.value
    if state in (Status.PENDING, Status.RUNNING) and job.queued_at is None:
        job.queued_at = now
    if state is Status.RUNNING or (state is not Status.PENDING and job.started_at is None):
        job.started_at = job.started_at or now
    if state in COMPLETED:
        job.finished_at = now
        job.failure_reason = "api_failure" if state is Status.FAILED else None
