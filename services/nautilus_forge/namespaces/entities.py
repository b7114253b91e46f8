"""Namespaces as GitLab shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import distinct, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from nautilus_forge.db.models import Member, Namespace, Project, User
from nautilus_forge.db.models.namespace import NamespaceKind
from nautilus_forge.namespaces import level
from nautilus_forge.policy import Level
from nautilus_forge.settings import Settings


async def namespaces(
    db: AsyncSession, settings: Settings, user: User, shown: Sequence[Namespace]
) -> list[dict[str, Any]]:
    """With the counts that owners of a group see. Source: lib/api/entities/namespace.rb."""
    owned = await _owned_groups(db, user, shown)
    counts = await _counts(db, owned)
    return [namespace_basic(settings, namespace) | counts.get(namespace.id, {}) for namespace in shown]


async def _owned_groups(db: AsyncSession, user: User, shown: Sequence[Namespace]) -> list[int]:
    groups = [namespace.id for namespace in shown if namespace.kind == NamespaceKind.GROUP]
    if user.is_admin or not groups:
        return groups
    owned = select(Namespace.id).where(Namespace.id.in_(groups), level.belongs_to(user, Level.OWNER))
    return list(await db.scalars(owned))


async def _counts(db: AsyncSession, groups: list[int]) -> dict[int, dict[str, Any]]:
    """By group: people in it or anywhere below it, and the projects that are right in it."""
    if not groups:
        return {}
    below = aliased(Namespace)
    is_below = Namespace.id == func.any(below.traversal_ids)
    people = (
        select(Namespace.id, func.count(distinct(Member.user_id)))
        .join(below, is_below)
        .outerjoin(Project, (Project.namespace_id == below.id) & Project.deleted_at.is_(None))
        .join(Member, (Member.namespace_id == below.id) | (Member.project_id == Project.id))
        .where(Namespace.id.in_(groups), level.is_alive())
        .group_by(Namespace.id)
    )
    projects = (
        select(Project.namespace_id, func.count())
        .where(Project.namespace_id.in_(groups), Project.deleted_at.is_(None))
        .group_by(Project.namespace_id)
    )
    found = {
        key: {"members_count_with_descendants": 0, "root_repository_size": None, "projects_count": 0}
        for key in groups
    }
    for key, number in await db.execute(people):
        found[key]["members_count_with_descendants"] = number
    for key, number in await db.execute(projects):
        found[key]["projects_count"] = number
    return found


def namespace_basic(settings: Settings, namespace: Namespace) -> dict[str, Any]:
    """Source: lib/api/entities/namespace_basic.rb."""
    prefix = "" if namespace.kind == NamespaceKind.USER else "groups/"
    return {
        "id": namespace.id,
        "name": namespace.name,
        "path": namespace.path,
        "kind": namespace.kind,
        "full_path": namespace.full_path,
        "parent_id": namespace.parent_id,
        "avatar_url": None,
        "web_url": f"{settings.external_url}/{prefix}{namespace.full_path}",
    }
