"""Making pipelines: from a commit to stored jobs, in the caller's transaction.

Source: GitLab app/services/ci/create_pipeline_service.rb and lib/gitlab/ci/pipeline/chain/*.rb.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.ci.model import (
    CiConfigError,
    CompiledJob,
    CompiledPipeline,
    Context,
    NoPipeline,
    Variable,
)
from nautilus_forge.ci.predefined import PipelineFacts, as_mapping, pipeline_variables
from nautilus_forge.ci_half import CiHalf
from nautilus_forge.db.engine import after_commit
from nautilus_forge.db.models import Job, Pipeline, PipelineVariable, Project, User
from nautilus_forge.forge import Forge
from nautilus_forge.git import revisions
from nautilus_forge.git.commits import Commit
from nautilus_forge.jobs import definition
from nautilus_forge.pipelines import configuration, redundancy
from nautilus_forge.pipelines.cache_keys import with_key
from nautilus_forge.pipelines.configuration import BrokenConfiguration, NoConfiguration, Source
from nautilus_forge.pipelines.progress import process
from nautilus_forge.pipelines.statuses import Status
from nautilus_forge.ports import ZERO_SHA, RefChange
from nautilus_forge.projects import branches
from nautilus_forge.variables.assemble import stored_variables
from nautilus_forge.variables.predefined import commit_facts, project_facts, server_facts, user_facts

_SKIP = re.compile(r"\[(ci[ _-]skip|skip[ _-]ci)\]", re.IGNORECASE)
_NEXT_IID = text(
    """
    INSERT INTO ci_projects AS c (project_id, last_iid) VALUES (:project, 1)
    ON CONFLICT (project_id) DO UPDATE SET last_iid = c.last_iid + 1 RETURNING last_iid
    """
)

_LAST_IID = text("SELECT last_iid FROM ci_projects WHERE project_id = :project")


class Refused(Exception):
    """No pipeline was made; the message is GitLab's."""


@dataclass(frozen=True)
class Plan:
    """What `create` is to make. `given`: variables for this pipeline alone. `is_skipped`: make it without jobs.

    `keeps_errors`: a configuration with mistakes makes a failed pipeline instead of `Refused`.
    """

    source: Source
    given: Sequence[Variable] = ()
    is_skipped: bool = False
    keeps_errors: bool = True


async def create_for_push(
    ci: CiHalf,
    db: AsyncSession,
    *,
    project: Project,
    user: User | None,
    change: RefChange,
    push_options: Sequence[str] = (),
) -> int | None:
    """Implements `ports.CreateForPush`. Without a user there is nobody with whose rights jobs could work."""
    if user is None:
        return None
    git = ci.forge.repositories.git(project.id)
    sha = await revisions.commit_sha(git, change.new_sha)
    if change.is_deletion or sha is None or not change.ref.startswith(("refs/heads/", "refs/tags/")):
        return None
    before = change.old_sha if not change.is_tag else ZERO_SHA
    source = Source(project, user, change.short_ref, change.is_tag, sha, before, "push")
    given = [Variable(key, value, public=False) for key, value in pushed_variables(push_options)]
    try:
        pipeline = await create(ci, db, Plan(source, given, is_skipped="ci.skip" in push_options))
    except Refused:
        return None
    return pipeline.id


def pushed_variables(push_options: Sequence[str]) -> list[tuple[str, str]]:
    """Those of `ci.variable=KEY=VALUE`. Source: doc/topics/git/commit.md "Push options for GitLab CI/CD"."""
    found = []
    for option in push_options:
        name, _, rest = option.partition("=")
        key, equals, value = rest.partition("=")
        if (
            name == "ci.variable"
            and equals
            and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key)
            and "\0" not in value
        ):
            found.append((key, value))
    return found


async def create(ci: CiHalf, db: AsyncSession, plan: Plan) -> Pipeline:
    """Adds the pipeline, its variables and jobs, and starts it. Raises `Refused`.

    Its ref `refs/pipelines/<id>` exists before the transaction commits, so no runner can miss it.
    """
    source = plan.source
    git = ci.forge.repositories.git(source.project.id)
    commit = (await ci.commits.of(git, source.project.id, [source.sha]))[source.sha]
    is_skipped = plan.is_skipped or (source.kind == "push" and _SKIP.search(commit.message) is not None)
    is_protected = await is_ref_protected(db, source)
    compiled, errors = await _compile(ci, db, plan, commit, is_protected)
    if errors is not None and not plan.keeps_errors:
        raise Refused(errors)
    if is_skipped:
        compiled = CompiledPipeline((), ())
    pipeline = await _store_pipeline(db, source, compiled, errors, is_protected, commit.committed_date)
    await _store_variables(ci, db, pipeline.id, plan.given)
    await _create_ref(ci.forge, pipeline)
    if errors is not None or is_skipped:
        return pipeline
    await _store_jobs(ci, db, pipeline, compiled.jobs)
    pipeline.status = (await process(db, pipeline.id)).value
    await db.refresh(pipeline)
    if source.kind == "push" and not source.is_tag:
        _cancel_redundant(ci, db, pipeline)
    return pipeline


async def _compile(
    ci: CiHalf, db: AsyncSession, plan: Plan, commit: Commit, is_protected: bool
) -> tuple[CompiledPipeline, str | None]:
    """The compiled pipeline, or its mistakes. Raises `Refused` where there is to be none."""
    from nautilus_forge.ci.compiler import compile_pipeline

    nothing = CompiledPipeline((), ())
    try:
        yaml = await configuration.read_configuration(ci.forge, db, plan.source)
        context = await _context(ci, db, plan.source, yaml, plan.given, commit, is_protected)
        return await asyncio.to_thread(compile_pipeline, yaml, context), None
    except NoConfiguration:
        raise Refused("Missing CI config file") from None
    except NoPipeline as reason:
        raise Refused(str(reason)) from reason
    except BrokenConfiguration as error:
        return nothing, str(error)
    except CiConfigError as error:
        return nothing, configuration.as_text(error.errors)


async def context_for(ci: CiHalf, db: AsyncSession, source: Source, yaml: str) -> Context:
    """The context in which a pipeline of this text would be made."""
    git = ci.forge.repositories.git(source.project.id)
    commit = (await ci.commits.of(git, source.project.id, [source.sha]))[source.sha]
    return await _context(ci, db, source, yaml, (), commit, await is_ref_protected(db, source))


async def is_ref_protected(db: AsyncSession, source: Source) -> bool:
    """Tags cannot be protected here."""
    rules = await branches.rules_of(db, source.project.id)
    return not source.is_tag and branches.is_protected(rules, source.ref)


async def _context(
    ci: CiHalf,
    db: AsyncSession,
    source: Source,
    yaml: str,
    given: Sequence[Variable],
    commit: Commit,
    is_protected: bool,
) -> Context:
    stored = await stored_variables(
        db, ci.cipher, source.project.id, is_protected=is_protected, environment=None
    )
    predefined = await _predefined(ci, db, source, commit, is_protected)
    return await configuration.make_context(
        ci.forge, db, source, yaml, as_mapping(predefined), as_mapping([*stored, *given])
    )


async def _predefined(
    ci: CiHalf, db: AsyncSession, source: Source, commit: Commit, is_protected: bool
) -> tuple[Variable, ...]:
    """What `rules` may look at: the `iid` is the one that the pipeline will get, if it is made."""
    settings = ci.forge.settings
    last = await db.scalar(_LAST_IID, {"project": source.project.id})
    facts = commit_facts(
        commit, source.ref, source.before_sha, is_tag=source.is_tag, is_protected=is_protected
    )
    return pipeline_variables(
        server_facts(settings),
        project_facts(settings.external_url, source.project),
        facts,
        PipelineFacts((last or 0) + 1, source.kind, datetime.now(UTC)),
        user_facts(source.user),
    )


async def _store_pipeline(
    db: AsyncSession,
    source: Source,
    compiled: CompiledPipeline,
    errors: str | None,
    is_protected: bool,
    committed_date: str,
) -> Pipeline:
    status = Status.FAILED if errors is not None else Status.CREATED if compiled.jobs else Status.SKIPPED
    now = await db.scalar(text("SELECT now()"))
    pipeline = Pipeline(
        iid=(await db.execute(_NEXT_IID, {"project": source.project.id})).scalar_one(),
        project_id=source.project.id,
        user_id=source.user.id if source.user is not None else None,
        ref=source.ref,
        is_tag=source.is_tag,
        is_protected=is_protected,
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
        committed_at=datetime.fromisoformat(committed_date),
        finished_at=now if status is not Status.CREATED else None,
    )
    db.add(pipeline)
    await db.flush()
    return pipeline


async def _store_variables(ci: CiHalf, db: AsyncSession, pipeline_id: int, given: Sequence[Variable]) -> None:
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


async def _store_jobs(ci: CiHalf, db: AsyncSession, pipeline: Pipeline, jobs: Sequence[CompiledJob]) -> None:
    git = ci.forge.repositories.git(pipeline.project_id)
    for compiled in jobs:
        job = replace(
            compiled, cache=tuple([await with_key(git, pipeline.sha, cache) for cache in compiled.cache])
        )
        db.add(
            Job(
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
        )
    await db.flush()


async def _create_ref(forge: Forge, pipeline: Pipeline) -> None:
    git = forge.repositories.git(pipeline.project_id)
    await git.output("update-ref", f"refs/pipelines/{pipeline.id}", pipeline.sha)


def _cancel_redundant(ci: CiHalf, db: AsyncSession, pipeline: Pipeline) -> None:
    """Older pipelines of the branch are cancelled beside the request, each in a transaction of its own."""
    mode = pipeline.auto_cancel.get("on_new_commit", "conservative")
    newest, project_id, ref = pipeline.id, pipeline.project_id, pipeline.ref

    async def start() -> None:
        work = redundancy.cancel_older(ci.forge.database, newest, project_id, ref, mode)
        ci.forge.spawn(work, f"redundant pipelines before {newest}")

    after_commit(db, start)
