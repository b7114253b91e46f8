"""What happens to projects, groups, users, members and keys: told to hooks of the instance.

The facts come from triggers of the database (migration 0009), as they were when it happened.

Source: doc/administration/system_hooks.md,
gitlabhq lib/gitlab/hook_data/{project,project_member,group,group_member,user,key}_builder.rb.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import Member, Namespace, Project, User
from nautilus_forge.policy import Level
from nautilus_forge.webhooks.payloads import parts

SAMPLE = {
    "event_name": "project_create",
    "name": "Ruby",
    "path": "ruby",
    "project_id": 1,
    "owner_name": "Someone",
    "owner_email": "example@gitlabhq.com",
}
"""What a test sends. Source: gitlabhq lib/api/system_hooks.rb."""

_HUMAN_LEVELS = {
    5: "Minimal Access",
    10: "Guest",
    15: "Planner",
    20: "Reporter",
    30: "Developer",
    40: "Maintainer",
    50: "Owner",
}


async def build(db: AsyncSession, facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """None where whom it is about is gone, so that there is nothing left to tell."""
    name = str(facts["event_name"])
    times = {
        "event_name": name,
        "created_at": _time(facts["created_at"]),
        "updated_at": _time(facts["updated_at"]),
    }
    if name.startswith("project_"):
        return times | await _project(db, facts)
    if name.endswith(("_team", "_to_group", "_from_group", "_for_group")):
        member = await _member(db, facts)
        return times | member if member is not None else None
    rest = {key: value for key, value in facts.items() if key not in times and key != "full_path"}
    if name == "group_rename":
        rest["full_path"] = facts["full_path"]
    return times | rest


def _time(text: str) -> str | None:
    return parts.xml_moment(datetime.fromisoformat(text))


async def _project(db: AsyncSession, facts: Mapping[str, Any]) -> dict[str, Any]:
    owners = await _owners(db, int(facts["project_id"]), int(facts["namespace_id"]))
    namespace = await db.get(Namespace, int(facts["namespace_id"]))
    owner_name = owners[0]["name"] if owners else None
    owner_email = owners[0]["email"] if owners else ""
    if namespace is not None and namespace.owner_id is None:
        owner_name, owner_email = namespace.name, ""
    shown = {
        "name": facts["name"],
        "path": facts["path"],
        "path_with_namespace": facts["path_with_namespace"],
        "project_id": facts["project_id"],
        "project_namespace_id": facts["namespace_id"],
        "owner_name": owner_name,
        "owner_email": owner_email,
        "owners": owners,
        "project_visibility": facts["visibility"],
    }
    if facts.get("old_path_with_namespace") is not None:
        shown["old_path_with_namespace"] = facts["old_path_with_namespace"]
    return shown


async def _owners(db: AsyncSession, project_id: int, namespace_id: int) -> list[dict[str, str]]:
    namespace = await db.get(Namespace, namespace_id)
    if namespace is None:
        return []
    if namespace.owner_id is not None:
        chosen = select(User).where(User.id == namespace.owner_id)
    else:
        of = Member.namespace_id.in_(namespace.traversal_ids) | (Member.project_id == project_id)
        owners = select(Member.user_id).where(of, Member.access_level == Level.OWNER)
        chosen = select(User).where(User.id.in_(owners))
    found = await db.scalars(chosen.order_by(User.id))
    return [{"name": user.name, "email": parts.webhook_email(user)} for user in found]


async def _member(db: AsyncSession, facts: Mapping[str, Any]) -> dict[str, Any] | None:
    user = await db.get(User, int(facts["user_id"]))
    if user is None:
        return None
    level = _HUMAN_LEVELS.get(int(facts["access_level"]), "")
    who = {
        "user_username": user.username,
        "user_name": user.name,
        "user_email": parts.webhook_email(user),
        "user_id": user.id,
    }
    if facts["project_id"] is not None:
        project = await db.get(Project, int(facts["project_id"]))
        if project is None:
            return None
        return {
            "project_name": project.name,
            "project_path": project.path,
            "project_path_with_namespace": project.path_with_namespace,
            "project_id": project.id,
            **who,
            "access_level": level,
            "project_visibility": project.visibility,
        }
    group = await db.get(Namespace, int(facts["group_id"]))
    if group is None:
        return None
    return {
        "group_name": group.name,
        "group_path": group.path,
        "group_id": group.id,
        **who,
        "group_access": level,
    }
