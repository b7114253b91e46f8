"""What other tables and the files say about projects, for a page of them at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from sqlalchemy import BindParameter, bindparam, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import (
    JobArtifact,
    LfsObject,
    LfsObjectProject,
    Namespace,
    Project,
    ProjectGroupLink,
    ProjectImport,
    User,
)
from nautilus_forge.forge import Forge
from nautilus_forge.git import commits, refs
from nautilus_forge.git.fetching import size_bytes
from nautilus_forge.projects import queries
from nautilus_forge.projects.entities import Surroundings

_IDS: BindParameter[Any] = bindparam("ids", expanding=True)
_FILLINGS = select(ProjectImport).where(ProjectImport.project_id.in_(_IDS))
_AROUND = text(
    """
    SELECT p.id,
        (SELECT count(*) FROM projects f WHERE f.forked_from_id = p.id AND f.deleted_at IS NULL) AS forks,
        EXISTS (SELECT FROM project_imports i WHERE i.project_id = p.id) AS is_filled,
        EXISTS (SELECT FROM project_group_links l WHERE l.project_id = p.id) AS is_shared
    FROM unnest(CAST(:ids AS bigint[])) AS p(id)
    """
)
"""Most projects are neither filled nor shared: then nobody asks how."""
_FORKS = (
    select(Project.forked_from_id, func.count())
    .where(Project.forked_from_id.in_(_IDS), Project.deleted_at.is_(None))
    .group_by(Project.forked_from_id)
)
_SHARES = (
    select(ProjectGroupLink, Namespace)
    .join(Namespace, Namespace.id == ProjectGroupLink.group_id)
    .where(ProjectGroupLink.project_id.in_(_IDS))
    .order_by(ProjectGroupLink.id)
)


async def surroundings_of(
    db: AsyncSession,
    forge: Forge,
    user: User | None,
    found: Sequence[Project],
    *,
    measured: Sequence[Project] = (),
) -> dict[int, Surroundings]:
    """By project; at most four queries. `measured`: those whose statistics are asked for (walks their files)."""
    ids = [project.id for project in found]
    if not ids:
        return {}
    parents = await _parents(db, user, found)
    rows = (await db.execute(_AROUND, {"ids": [*ids, *parents]})).all()
    counts = {row.id: row.forks for row in rows}
    filled = [row.id for row in rows if row.is_filled]
    filling = {row.project_id: row for row in await db.scalars(_FILLINGS, {"ids": filled})} if filled else {}
    shared = await shares_of(db, [row.id for row in rows if row.is_shared])
    statistics = await _statistics(db, forge, measured) if measured else {}
    return {
        project.id: Surroundings(
            forks_count=counts.get(project.id, 0),
            parent=parents.get(project.forked_from_id or 0),
            parent_forks_count=counts.get(project.forked_from_id or 0, 0),
            filling=filling.get(project.id),
            shared_with=shared.get(project.id, ()),
            statistics=statistics.get(project.id),
        )
        for project in found
    }


async def _parents(db: AsyncSession, user: User | None, found: Sequence[Project]) -> dict[int, Project]:
    ids = {project.forked_from_id for project in found if project.forked_from_id is not None}
    if not ids:
        return {}
    statement = queries.visible_to(user).where(Project.id.in_(ids))
    return {project.id: project for project in (await db.scalars(statement)).unique().all()}


async def forks_counts(db: AsyncSession, project_ids: Sequence[int]) -> dict[int, int]:
    """How many forks, visible or not; projects without any are left out."""
    rows = await db.execute(_FORKS, {"ids": project_ids})
    return {source: count for source, count in rows if source is not None}


async def shares_of(
    db: AsyncSession, project_ids: Sequence[int]
) -> dict[int, list[tuple[ProjectGroupLink, Namespace]]]:
    """The groups that each project is shared with, first come first."""
    if not project_ids:
        return {}
    rows = await db.execute(_SHARES, {"ids": project_ids})
    found: dict[int, list[tuple[ProjectGroupLink, Namespace]]] = {}
    for link, group in rows:
        found.setdefault(link.project_id, []).append((link, group))
    return found


async def _statistics(db: AsyncSession, forge: Forge, found: Sequence[Project]) -> dict[int, dict[str, int]]:
    """Source: gitlabhq lib/api/entities/project_statistics.rb. Sizes in bytes."""
    ids = [project.id for project in found]
    artifacts = dict(
        (
            await db.execute(
                select(JobArtifact.project_id, func.sum(JobArtifact.size))
                .where(JobArtifact.project_id.in_(ids))
                .group_by(JobArtifact.project_id)
            )
        ).all()
    )
    lfs = dict(
        (
            await db.execute(
                select(LfsObjectProject.project_id, func.sum(LfsObject.size))
                .join(LfsObject, LfsObject.id == LfsObjectProject.lfs_object_id)
                .where(LfsObjectProject.project_id.in_(ids))
                .group_by(LfsObjectProject.project_id)
            )
        ).all()
    )
    return {
        project.id: await _one(
            forge, project, int(artifacts.get(project.id) or 0), int(lfs.get(project.id) or 0)
        )
        for project in found
    }


async def _one(forge: Forge, project: Project, artifacts: int, lfs: int) -> dict[str, int]:
    git = forge.repositories.git(project.id)
    size = await asyncio.to_thread(size_bytes, git.repository)
    head = await refs.ref_sha(git, f"refs/heads/{project.default_branch}")
    count = await commits.count_commits(git, head) if head != refs.ZERO_SHA else 0
    return {
        "commit_count": count,
        "storage_size": size + artifacts + lfs,
        "repository_size": size,
        "wiki_size": 0,
        "lfs_objects_size": lfs,
        "job_artifacts_size": artifacts,
        "pipeline_artifacts_size": 0,
        "packages_size": 0,
        "snippets_size": 0,
        "uploads_size": 0,
        "container_registry_size": 0,
    }
