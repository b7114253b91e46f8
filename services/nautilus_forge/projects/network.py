"""Forks of forks: which projects have a source in common.

Source: gitlabhq app/models/fork_network.rb.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import Project


async def root_of(db: AsyncSession, project: Project) -> int:
    """Id of the project that the network of forks began with; a project without forks is its own."""
    above = select(Project.id, Project.forked_from_id).where(Project.id == project.id).cte(recursive=True)
    parents = select(Project.id, Project.forked_from_id).where(Project.id == above.c.forked_from_id)
    above = above.union(parents)
    found = await db.scalar(select(above.c.id).where(above.c.forked_from_id.is_(None)))
    return found or project.id


async def are_related(db: AsyncSession, one: Project, other: Project) -> bool:
    """Are they the same project, or in one network of forks?"""
    return one.id == other.id or await root_of(db, one) == await root_of(db, other)
