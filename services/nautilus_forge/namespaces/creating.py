"""Who may make projects where.

Source: gitlabhq app/policies/{group,namespaces/user_namespace}_policy.rb (`create_projects`),
app/models/project.rb (`check_personal_projects_limit`).
"""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import Namespace, Project, User
from nautilus_forge.db.models.namespace import NamespaceKind
from nautilus_forge.errors import Forbidden
from nautilus_forge.groups.access import standing_of
from nautilus_forge.policy import GroupAbility


async def may_create_in(db: AsyncSession, user: User, namespace: Namespace) -> bool:
    """In one's own namespace (administrators: in anybody's), in groups by their `project_creation_level`."""
    if namespace.kind == NamespaceKind.GROUP:
        return (await standing_of(db, user, namespace)).can(GroupAbility.CREATE_PROJECT)
    return user.is_admin or namespace.owner_id == user.id


async def require_room(db: AsyncSession, user: User, namespace: Namespace) -> None:
    """Raises `Forbidden` where the user has as many projects of his own as he may."""
    if user.projects_limit == 0:
        raise Forbidden(
            body={
                "error": [
                    "You cannot create projects in your personal namespace. Contact your GitLab administrator."
                ]
            }
        )
    own = select(func.count()).select_from(Project)
    own = own.where(Project.namespace_id == namespace.id, Project.deleted_at.is_(None))
    if (await db.scalar(own) or 0) >= user.projects_limit:
        raise Forbidden(
            body={
                "error": [
                    f"You've reached your limit of {user.projects_limit} projects created. "
                    "Contact your GitLab administrator."
                ]
            }
        )
