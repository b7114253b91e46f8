"""What the group around a project, or the instance, decides for it: first branch, its protection, shared runners.

Source: gitlabhq app/services/projects/protect_default_branch_service.rb, app/models/namespace.rb
(`default_branch_protection_settings`, `shared_runners_setting_higher_than?`),
app/services/groups/update_shared_runners_service.rb.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.appsettings.values import SettingValues, current_values
from nautilus_forge.db.models import Namespace, Project
from nautilus_forge.db.models.namespace import NamespaceKind
from nautilus_forge.errors import InvalidRecord
from nautilus_forge.groups.attributes import DEFAULTS, attribute, protection_defaults
from nautilus_forge.groups.queries import below
from nautilus_forge.policy import Level

_PROTECTION = {"default_branch_protection", "default_branch_protection_defaults"}
_ENABLED = "enabled"
_FIXED = "disabled_and_unoverridable"


def first_branch(namespace: Namespace, settings: SettingValues) -> str:
    """What the default branch of a new project is called where nobody says."""
    of_group = attribute(namespace, "default_branch") if namespace.kind == NamespaceKind.GROUP else None
    return of_group or settings.default_branch_name


def shared_runners(namespace: Namespace, settings: SettingValues, wanted: bool | None) -> bool:
    """May instance runners take a new project's jobs? Raises `InvalidRecord` where the group forbids what is wanted."""
    setting = attribute(namespace, "shared_runners_setting")
    if wanted and setting == _FIXED:
        raise InvalidRecord(
            {"shared_runners_enabled": ["cannot be enabled because parent group does not allow it"]}
        )
    return wanted if wanted is not None else setting == _ENABLED and settings.shared_runners_enabled


async def spread_shared_runners(db: AsyncSession, group: Namespace, parent: Namespace | None) -> None:
    """After a change of the group's `shared_runners_setting`: what is off, is off in all that is below.

    Raises `InvalidRecord` where the group above forbids it.
    """
    setting = attribute(group, "shared_runners_setting")
    if parent is not None and setting != _FIXED and attribute(parent, "shared_runners_setting") == _FIXED:
        raise InvalidRecord(
            {"shared_runners_enabled": ["cannot be enabled because parent group has shared Runners disabled"]}
        )
    if setting == _ENABLED:
        return
    inside = select(Namespace).where(below(group), Namespace.id != group.id)
    for subgroup in await db.scalars(inside):
        subgroup.attributes = subgroup.attributes | {"shared_runners_setting": setting}
    held = select(Namespace.id).where(below(group))
    await db.execute(
        update(Project).where(Project.namespace_id.in_(held)).values(shared_runners_enabled=False)
    )


@dataclass(frozen=True)
class Protection:
    """Levels of a rule for a project's default branch."""

    push: int
    merge: int
    allow_force_push: bool


async def protection_for(db: AsyncSession, project_id: int) -> Protection | None:
    """As the topmost group has it, else as the instance has it. None: the default branch is not protected."""
    path = select(Namespace.traversal_ids[1]).join(Project, Project.namespace_id == Namespace.id)
    top = await db.scalar(select(Namespace).where(Namespace.id.in_(path.where(Project.id == project_id))))
    values = await _protection(db, top)
    push, merge = _level(values, "allowed_to_push"), _level(values, "allowed_to_merge")
    allow_force_push = bool(values.get("allow_force_push"))
    is_open = push <= Level.DEVELOPER and merge <= Level.DEVELOPER and allow_force_push
    return None if is_open else Protection(push, merge, allow_force_push)


async def _protection(db: AsyncSession, top: Namespace | None) -> dict[str, Any]:
    if top is not None and top.attributes.keys() & _PROTECTION:
        return protection_defaults(DEFAULTS | top.attributes)
    settings = await current_values(db)
    return protection_defaults({name: getattr(settings, name) for name in _PROTECTION})


def _level(values: dict[str, Any], name: str) -> int:
    """The lowest that is let in; maintainers where nothing (or nonsense) is said."""
    entries = values.get(name)
    levels = [
        entry["access_level"]
        for entry in (entries if isinstance(entries, list) else ())
        if isinstance(entry, dict) and entry.get("access_level") in (0, 30, 40, 60)
    ]
    return min(levels, default=int(Level.MAINTAINER))
