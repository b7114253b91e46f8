"""Making pipelines: from a commit to stored jobs, in the caller's transaction.

Source: GitLab app/services/ci/create_pipeline_service.rb and lib/gitlab/ci/pipeline/chain/*.rb.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.ci.model import (
    CiConfigError,
    CompiledPipeline,
    Context,
    NoPipeline,
    Variable,
)
from nautilus_forge.ci.predefined import PipelineFacts, as_mapping, pipeline_variables
from nautilus_forge.ci_half import CiHalf
from nautilus_forge.db.engine import after_commit
from nautilus_forge.db.models import Pipeline, PipelineSchedule, Project, User
from nautilus_forge.forge import Forge
from nautilus_forge.git import revisions
from nautilus_forge.git.commits import Commit
from nautilus_forge.pipelines import configuration, origin, redundancy, storing
from nautilus_forge.pipelines.configuration import BrokenConfiguration, NoConfiguration, Source
from nautilus_forge.pipelines.merge_request_variables import with_variables
from nautilus_forge.pipelines.progress import process
from nautilus_forge.pipelines.refusal import Refused
from nautilus_forge.ports import BY_JOB, ZERO_SHA, RefChange
from nautilus_forge.variables.assemble import stored_variables
from nautilus_forge.variables.predefined import commit_facts, project_facts, server_facts, user_facts

__all__ = ["Plan", "Refused", "context_for", "create", "create_for_push", "is_ref_protected"]

_SKIP = re.compile(r"\[(ci[ _-]skip|skip[ _-]ci)\]", re.IGNORECASE)
_BY_PUSH = ("push", "merge_request_event")
_LAST_IID = text("SELECT last_iid FROM ci_projects WHERE project_id = :project")


@dataclass(frozen=True)
class Plan:
    """What `create` is to make. `given`: variables for this pipeline alone. `is_skipped`: make it without jobs.

    `keeps_errors`: a configuration with mistakes makes a failed pipeline instead of `Refused`. `inputs`: values for
    the configuration's own `spec:inputs`. `schedule`, `trigger_id`: what asks for the pipeline.
    """

    source: Source
    given: Sequence[Variable] = ()
    is_skipped: bool = False
    keeps_errors: bool = True
    inputs: Mapping[str, Any] = field(default_factory=dict)
    schedule: PipelineSchedule | None = None
    trigger_id: int | None = None


async def create_for_push(
    ci: CiHalf,
    db: AsyncSession,
    *,
    project: Project,
    user: User | None,
    change: RefChange,
    push_options: Sequence[str] = (),
) -> int | None:
    """Implements `ports.CreateForPush`. Without a user there is nobody with whose rights jobs could work.

    What a job pushes with its token makes none. Source: doc/ci/jobs/ci_job_token.md ("Allow Git push requests").
    """
    if user is None or BY_JOB in push_options or origin.are_off(project):
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
    plan = replace(plan, source=await with_variables(ci, db, plan.source))
    source = plan.source
    git = ci.forge.repositories.git(source.project.id)
    commit = (await ci.commits.of(git, source.project.id, [source.sha]))[source.sha]
    is_skipped = plan.is_skipped or (source.kind in _BY_PUSH and _SKIP.search(commit.message) is not None)
    is_protected = await is_ref_protected(db, source)
    compiled, errors, context = await _compile(ci, db, plan, commit, is_protected)
    if errors is not None and not plan.keeps_errors:
        raise Refused(errors)
    if is_skipped:
        compiled = CompiledPipeline((), ())
    of_pipeline = storing.NewPipeline(
        source,
        compiled,
        errors,
        is_protected,
        datetime.fromisoformat(commit.committed_date),
        plan.schedule.id if plan.schedule is not None else None,
        plan.trigger_id,
    )
    pipeline = await storing.store_pipeline(db, of_pipeline)
    await storing.store_variables(ci, db, pipeline.id, plan.given)
    await _create_ref(ci.forge, pipeline)
    if errors is not None or is_skipped or context is None:
        return pipeline
    await storing.store_jobs(ci, db, pipeline, compiled.jobs, context)
    pipeline.status = (await process(db, pipeline.id)).value
    await db.refresh(pipeline)
    if source.kind in _BY_PUSH and not source.is_tag:
        _cancel_redundant(ci, db, pipeline)
    return pipeline


async def _compile(
    ci: CiHalf, db: AsyncSession, plan: Plan, commit: Commit, is_protected: bool
) -> tuple[CompiledPipeline, str | None, Context | None]:
    """The compiled pipeline and its context, or its mistakes. Raises `Refused` where there is to be none."""
    from nautilus_forge.ci.compiler import compile_pipeline

    nothing = CompiledPipeline((), ())
    try:
        yaml = await configuration.read_configuration(ci.forge, db, plan.source)
        context = await _context(ci, db, plan, yaml, commit, is_protected)
        return await asyncio.to_thread(compile_pipeline, yaml, context), None, context
    except NoConfiguration:
        raise Refused("Missing CI config file") from None
    except NoPipeline as reason:
        raise Refused(str(reason)) from reason
    except BrokenConfiguration as error:
        return nothing, str(error), None
    except CiConfigError as error:
        return nothing, configuration.as_text(error.errors), None


async def context_for(ci: CiHalf, db: AsyncSession, source: Source, yaml: str) -> Context:
    """The context in which a pipeline of this text would be made."""
    git = ci.forge.repositories.git(source.project.id)
    commit = (await ci.commits.of(git, source.project.id, [source.sha]))[source.sha]
    return await _context(ci, db, Plan(source), yaml, commit, await is_ref_protected(db, source))


async def is_ref_protected(db: AsyncSession, source: Source) -> bool:
    """That of a merge request is not: whoever made the request wrote what runs."""
    if source.merge_request is not None:
        return False
    return await origin.is_protected(db, source.project.id, source.ref, is_tag=source.is_tag)


async def _context(
    ci: CiHalf, db: AsyncSession, plan: Plan, yaml: str, commit: Commit, is_protected: bool
) -> Context:
    source = plan.source
    stored = await stored_variables(
        db, ci.cipher, source.project.id, is_protected=is_protected, environment=None
    )
    predefined = await _predefined(ci, db, plan, commit, is_protected)
    context = await configuration.make_context(
        ci.forge, db, source, yaml, as_mapping(predefined), as_mapping([*stored, *plan.given])
    )
    return replace(context, inputs=plan.inputs) if plan.inputs else context


async def _predefined(
    ci: CiHalf, db: AsyncSession, plan: Plan, commit: Commit, is_protected: bool
) -> tuple[Variable, ...]:
    """What `rules` may look at: the `iid` is the one that the pipeline will get, if it is made."""
    source = plan.source
    description = plan.schedule.description if plan.schedule is not None else None
    settings = ci.forge.settings
    last = await db.scalar(_LAST_IID, {"project": source.project.id})
    facts = commit_facts(
        commit,
        source.branch_name,
        source.before_sha,
        is_tag=source.is_tag,
        is_protected=is_protected,
        is_merge_request=source.merge_request is not None,
    )
    return pipeline_variables(
        server_facts(settings),
        project_facts(settings.external_url, source.project),
        facts,
        PipelineFacts((last or 0) + 1, source.kind, datetime.now(UTC), schedule_description=description),
        user_facts(source.user),
        source.merge_variables,
    )


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
