"""From a row of the outbox to what is sent; and samples, for tests of a hook."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import (
    CommitNote,
    Deployment,
    Job,
    MergeRequest,
    MergeRequestNote,
    Pipeline,
    Project,
    User,
)
from nautilus_forge.errors import Unprocessable
from nautilus_forge.forge import Forge
from nautilus_forge.ports import RefChange
from nautilus_forge.webhooks.payloads import jobs, merge_requests, notes, push, system
from nautilus_forge.webhooks.triggers import SYSTEM

Payload = dict[str, Any]


async def build(
    db: AsyncSession, forge: Forge, project_id: int | None, trigger: str, facts: Mapping[str, Any]
) -> Payload | None:
    """None where there is nothing to tell any more: what it was about is gone, its user is blocked."""
    if trigger == SYSTEM:
        return await system.build(db, facts)
    project = await db.get(Project, project_id or 0)
    maker = _MAKERS.get(trigger)
    if project is None or project.deleted_at is not None or maker is None:
        return None
    return await maker(db, forge, project, facts)


async def _user(db: AsyncSession, facts: Mapping[str, Any]) -> User | None:
    return await db.get(User, facts.get("user_id") or 0)


async def _push(db: AsyncSession, forge: Forge, project: Project, facts: Mapping[str, Any]) -> Payload:
    change = RefChange(facts["ref"], facts["before"], facts["after"])
    return await push.build(db, forge, project, await _user(db, facts), change, facts["push_options"])


async def _update(db: AsyncSession, forge: Forge, project: Project, facts: Mapping[str, Any]) -> Payload:
    change = RefChange(facts["ref"], facts["before"], facts["after"])
    return push.repository_update(forge, project, await _user(db, facts), change)


async def _merge_request(
    db: AsyncSession, forge: Forge, project: Project, facts: Mapping[str, Any]
) -> Payload | None:
    merge_request = await db.get(MergeRequest, facts["id"])
    if merge_request is None:
        return None
    return await merge_requests.build(
        db,
        forge,
        project,
        merge_request,
        await _user(db, facts),
        action=facts["action"],
        old_sha=facts["old_sha"],
        was=facts["was"],
        changes=facts["changes"],
    )


async def _note(db: AsyncSession, forge: Forge, project: Project, facts: Mapping[str, Any]) -> Payload | None:
    user = await _user(db, facts)
    if facts["of"] == "commit":
        of_commit = await db.get(CommitNote, facts["id"])
        if of_commit is None:
            return None
        return await notes.of_commit(forge, project, of_commit, user, facts["action"])
    note = await db.get(MergeRequestNote, facts["id"])
    if note is None:
        return None
    merge_request = await db.get_one(MergeRequest, note.merge_request_id)
    return await notes.of_merge_request(db, forge, project, merge_request, note, user, facts["action"])


async def _job(db: AsyncSession, forge: Forge, project: Project, facts: Mapping[str, Any]) -> Payload | None:
    job = await db.get(Job, facts["id"])
    return await jobs.build_job(db, forge, project, job, facts["status"]) if job is not None else None


async def _pipeline(
    db: AsyncSession, forge: Forge, project: Project, facts: Mapping[str, Any]
) -> Payload | None:
    pipeline = await db.get(Pipeline, facts["id"])
    if pipeline is None:
        return None
    return await jobs.build_pipeline(db, forge, project, pipeline, facts["status"])


async def _deployment(
    db: AsyncSession, forge: Forge, project: Project, facts: Mapping[str, Any]
) -> Payload | None:
    found = await db.get(Deployment, facts["id"])
    if found is None:
        return None
    return await jobs.build_deployment(db, forge, project, found, facts["status"], facts.get("at"))


_Maker = Callable[[AsyncSession, Forge, Project, Mapping[str, Any]], Awaitable[Payload | None]]
_MAKERS: dict[str, _Maker] = {
    "push_hooks": _push,
    "tag_push_hooks": _push,
    "repository_update_hooks": _update,
    "merge_request_hooks": _merge_request,
    "note_hooks": _note,
    "confidential_note_hooks": _note,
    "job_hooks": _job,
    "pipeline_hooks": _pipeline,
    "deployment_hooks": _deployment,
}

_NOTHING_TO_SHOW = {
    "push_events": "Ensure the project has at least one commit.",
    "tag_push_events": "Ensure the project has at least one commit.",
    "issues_events": "Ensure the project has issues.",
    "confidential_issues_events": "Ensure the project has issues.",
    "note_events": "Ensure the project has notes.",
    "confidential_note_events": "Ensure the project has notes.",
    "merge_requests_events": "Ensure the project has merge requests.",
    "job_events": "Ensure the project has CI jobs.",
    "pipeline_events": "Ensure the project has CI pipelines.",
    "wiki_page_events": "Ensure the wiki is enabled and has pages.",
    "deployment_events": "Ensure the project has deployments.",
    "releases_events": "Ensure the project has releases.",
    "emoji_events": "Ensure the project has notes.",
}


async def sample(db: AsyncSession, forge: Forge, project: Project, user: User, flag: str) -> Payload:
    """What a hook would get of the newest thing of this kind. Raises `Unprocessable` where there is none.

    Source: gitlabhq app/services/test_hooks/project_service.rb, concerns/integrations/project_test_data.rb.
    """
    made = await _sample(db, forge, project, user, flag)
    if made is None:
        raise Unprocessable(_NOTHING_TO_SHOW.get(flag, "Testing not available for this event type"))
    return made


async def _sample(db: AsyncSession, forge: Forge, project: Project, user: User, flag: str) -> Payload | None:
    match flag:
        case "push_events" | "tag_push_events":
            return await push.sample(db, forge, project, user)
        case "merge_requests_events":
            merge_request = await db.scalar(_newest(MergeRequest, project))
            if merge_request is None:
                return None
            return await merge_requests.build(db, forge, project, merge_request, user)
        case "note_events" | "confidential_note_events":
            return await _sample_note(db, forge, project, user)
        case "job_events":
            job = await db.scalar(_newest(Job, project))
            return await jobs.build_job(db, forge, project, job, job.status) if job is not None else None
        case "pipeline_events":
            pipeline = await db.scalar(_newest(Pipeline, project))
            if pipeline is None:
                return None
            return await jobs.build_pipeline(db, forge, project, pipeline, pipeline.status)
        case "deployment_events":
            found = await db.scalar(_newest(Deployment, project))
            if found is None:
                return None
            return await jobs.build_deployment(db, forge, project, found, found.status, None)
    return None


def _newest(model: type[Any], project: Project) -> Any:
    return select(model).where(model.project_id == project.id).order_by(model.id.desc()).limit(1)


async def _sample_note(db: AsyncSession, forge: Forge, project: Project, user: User) -> Payload | None:
    statement = (
        select(MergeRequestNote)
        .join(MergeRequest, MergeRequest.id == MergeRequestNote.merge_request_id)
        .where(MergeRequest.project_id == project.id, ~MergeRequestNote.is_internal)
    )
    note = await db.scalar(statement.order_by(MergeRequestNote.id.desc()).limit(1))
    if note is not None:
        merge_request = await db.get_one(MergeRequest, note.merge_request_id)
        return await notes.of_merge_request(db, forge, project, merge_request, note, user)
    of_commit = await db.scalar(_newest(CommitNote, project))
    return await notes.of_commit(forge, project, of_commit, user) if of_commit is not None else None
