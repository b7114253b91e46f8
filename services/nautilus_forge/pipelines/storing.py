"""The rows of a new pipeline: the pipeline itself, its variables, its jobs.

Source: GitLab lib/gitlab/ci/pipeline/chain/create.rb, app/models/ci/pipeline.rb.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.ci.model import CompiledJob, CompiledPipeline, Context, Variable
from nautilus_forge.ci_half import CiHalf
from nautilus_forge.db.models import Job, Pipeline, PipelineVariable
from nautilus_forge.environments import service as environments
from nautilus_forge.environments.names import with_expanded_name
from nautilus_forge.jobs import definition
from nautilus_forge.pipelines.cache_keys import with_key
from nautilus_forge.pipelines.configuration import Source
from nautilus_forge.pipelines.statuses import Status

_NEXT_IID = text(
    """
    INSERT INTO ci_projects AS c (project_id, last_iid) VALUES (:project, 1)
    ON CONFLICT (project_id) DO UPDATE SET last_iid = c.last_iid + 1 RETURNING last_iid
    """
)


@dataclass(frozen=True)
class NewPipeline:
    """What a pipeline's row is made of. `errors`: why it has no jobs; then it has failed."""

    source: Source
    compiled: CompiledPipeline
    errors: str | None
    is_protected: bool
    committed_at: datetime
    schedule_id: int | None = None
    trigger_id: int | None = None


async def store_pipeline(db: AsyncSession, new: NewPipeline) -> Pipeline:
    source, compiled, errors = new.source, new.compiled, new.errors
    status = Status.FAILED if errors is not None else Status.CREATED if compiled.jobs else Status.SKIPPED
    now = await db.scalar(text("SELECT now()"))
    pipeline = Pipeline(
        iid=(await db.execute(_NEXT_IID, {"project": source.project.id})).scalar_one(),
        project_id=source.project.id,
        user_id=source.user.id if source.user is not None else None,
        ref=source.ref,
        is_tag=source.is_tag,
        is_protected=new.is_protected,
        sha=source.sha,
        before_sha=source.before_sha,
        source=source.kind,
        status=status.value,
        name=compiled.name,
        stages=list(compiled.stages),
        config_path=source.project.ci_path,
        auto_cancel={
            "on_new_commit": compiled.auto_cancel_on_new_commit,
            "on_job_failure": compiled.auto_cancel_on_job_failure,
        },
        yaml_errors=errors,
        failure_reason="config_error" if errors is not None else None,
        schedule_id=new.schedule_id,
        trigger_id=new.trigger_id,
        merge_request_id=source.merge_request.id if source.merge_request is not None else None,
        merge_request_variables=dict(source.merge_variables) or None,
        committed_at=new.committed_at,
        finished_at=now if status is not Status.CREATED else None,
    )
    db.add(pipeline)
    await db.flush()
    return pipeline


async def store_variables(ci: CiHalf, db: AsyncSession, pipeline_id: int, given: Sequence[Variable]) -> None:
    db.add_all(
        PipelineVariable(
            pipeline_id=pipeline_id,
            key=variable.key,
            value=ci.cipher.encrypt(variable.value),
            variable_type="file" if variable.file else "env_var",
            is_raw=variable.raw,
        )
        for variable in given
    )
    await db.flush()


async def store_jobs(
    ci: CiHalf, db: AsyncSession, pipeline: Pipeline, jobs: Sequence[CompiledJob], context: Context
) -> None:
    """`context`: in which they were compiled. A job whose environment there cannot be has failed from the start."""
    git = ci.forge.repositories.git(pipeline.project_id)
    for compiled in jobs:
        job = replace(
            compiled, cache=tuple([await with_key(git, pipeline.sha, cache) for cache in compiled.cache])
        )
        job = with_expanded_name(job, context.predefined, context.variables, _own_variables(pipeline))
        row = _row(pipeline, job)
        db.add(row)
        if job.environment is not None:
            await db.flush()
            if not await environments.for_new_job(db, pipeline, row, job):
                row.status, row.failure_reason = Status.FAILED.value, "environment_creation_failure"
                row.finished_at = await db.scalar(text("SELECT now()"))
    await db.flush()


def _own_variables(pipeline: Pipeline) -> list[Variable]:
    return [Variable("CI_PIPELINE_ID", str(pipeline.id)), Variable("CI_PIPELINE_IID", str(pipeline.iid))]


def _row(pipeline: Pipeline, job: CompiledJob) -> Job:
    return Job(
        pipeline_id=pipeline.id,
        project_id=pipeline.project_id,
        user_id=pipeline.user_id,
        name=job.name,
        stage=job.stage,
        stage_idx=job.stage_idx,
        status=Status.CREATED.value,
        when=job.when.value,
        allow_failure=job.allow_failure,
        definition=definition.to_json(job),
        needs=[need.job for need in job.needs] if job.needs is not None else None,
        tags=list(job.tags),
        is_protected=pipeline.is_protected,
    )
