"""What lists and single merge requests show, gathered from database and repository."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.auth import Principal
from nautilus_forge.db.models import MergeRequest, Project, User
from nautilus_forge.forge import Forge
from nautilus_forge.git.commits import count_commits
from nautilus_forge.merge_requests import entities, mergeability, people, refs, service, versions
from nautilus_forge.merge_requests.params import ListMergeRequests, ReadMergeRequest
from nautilus_forge.policy import Ability, Level
from nautilus_forge.projects.access import level_of, standing_of


async def show_list(
    db: AsyncSession, forge: Forge, rows: Sequence[MergeRequest], params: ListMergeRequests
) -> list[dict[str, Any]]:
    """As `MergeRequestBasic`, or short (`view=simple`)."""
    ids = {row.project_id for row in rows}
    found = (await db.scalars(select(Project).where(Project.id.in_(ids)))).all() if ids else []
    projects = {project.id: project for project in found}
    if params.view == "simple":
        return [entities.simple(forge.settings, projects[row.project_id], row) for row in rows]
    if params.with_merge_status_recheck:
        for row in rows:
            await mergeability.refresh(db, forge, row)
    casts = await people.casts(db, rows)
    counts = await service.counts(db, [row.id for row in rows])
    shown = []
    for row in rows:
        project = projects[row.project_id]
        notes, is_open = counts.get(row.id, (0, False))
        shown.append(
            entities.basic(
                forge.settings,
                project,
                row,
                casts[row.id],
                note_count=notes,
                detailed_status=await mergeability.listed(db, project, row, has_open_threads=is_open),
                has_open_threads=is_open,
                label_details=params.with_labels_details,
            )
        )
    return shown


async def show_one(
    db: AsyncSession,
    forge: Forge,
    who: Principal,
    merge_request: MergeRequest,
    params: ReadMergeRequest | None = None,
) -> dict[str, Any]:
    """As `MergeRequest`: with its pipeline, and whether it can be merged as the branches stand now."""
    project = await db.get_one(Project, merge_request.project_id)
    state = await mergeability.check(db, forge, merge_request)
    if merge_request.state == "opened" and state.source is not None and state.target is not None:
        await mergeability.conflict_status(db, forge, merge_request, state.source, state.target)
    await db.refresh(merge_request)
    cast = await people.cast(db, merge_request)
    notes, is_open = (await service.counts(db, [merge_request.id])).get(merge_request.id, (0, False))
    entity = entities.basic(
        forge.settings,
        project,
        merge_request,
        cast,
        note_count=notes,
        detailed_status=state.status,
        has_open_threads=is_open,
    )
    shown = entities.detail(
        entity,
        merge_request,
        await versions.latest(db, merge_request.id),
        viewer=who.user,
        can_merge=await mergeability.can_be_merged_by(db, who.user, merge_request),
        head_pipeline=await _head_pipeline(db, forge, who, merge_request),
        is_first_contribution=await _is_first_contribution(db, project, merge_request),
    )
    return shown | await _asked_for(forge, merge_request, params or ReadMergeRequest())


async def _asked_for(forge: Forge, merge_request: MergeRequest, params: ReadMergeRequest) -> dict[str, Any]:
    more: dict[str, Any] = {}
    if params.render_html:
        more["title_html"] = entities.as_html(merge_request.title).removeprefix("<p>").removesuffix("</p>")
        more["description_html"] = entities.as_html(merge_request.description)
    if params.include_rebase_in_progress:
        more["rebase_in_progress"] = False
    if params.include_diverged_commits_count:
        source = await refs.source_head(forge, merge_request)
        target = await refs.target_head(forge, merge_request)
        git = forge.repositories.git(merge_request.project_id)
        known = source is not None and target is not None and merge_request.sha == source
        more["diverged_commits_count"] = await count_commits(git, f"{target}", f"^{source}") if known else 0
    return more


async def _head_pipeline(
    db: AsyncSession, forge: Forge, who: Principal, merge_request: MergeRequest
) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """In short and in full, where the viewer may read the pipelines of the project that it is of."""
    pipeline = await mergeability.head_pipeline(db, merge_request)
    if pipeline is None or not await may_read_pipelines(db, who, pipeline.project_id):
        return None
    short = await forge.show_pipelines(db, [pipeline.id])
    full = await forge.show_pipelines(db, [pipeline.id], detailed=True)
    if pipeline.id not in short:
        return None
    return short[pipeline.id], full[pipeline.id]


async def may_read_pipelines(db: AsyncSession, who: Principal, project_id: int) -> bool:
    project = await db.get(Project, project_id)
    if project is None:
        return False
    return (await standing_of(db, who, project)).can(Ability.READ_PIPELINE)


async def _is_first_contribution(db: AsyncSession, project: Project, merge_request: MergeRequest) -> bool:
    """Is its author neither a member nor somebody whose merge requests were merged before?"""
    author = await db.get(User, merge_request.author_id) if merge_request.author_id else None
    if author is None or await level_of(db, author, project) > Level.GUEST:
        return False
    return await db.scalar(service.merged_of(author.id, project.id)) is None
