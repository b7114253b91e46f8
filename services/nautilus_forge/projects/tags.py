"""Which tags are protected, and who may create them.

Source: gitlabhq app/models/protected_tag.rb, app/policies/repository/tag_policy.rb.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import ProtectedTag
from nautilus_forge.policy import Level, may_push
from nautilus_forge.projects.branches import matches


async def tag_rules_of(db: AsyncSession, project_id: int) -> Sequence[ProtectedTag]:
    statement = select(ProtectedTag).where(ProtectedTag.project_id == project_id)
    return (await db.scalars(statement.order_by(ProtectedTag.id))).all()


def matching_tags(rules: Sequence[ProtectedTag], tag: str) -> list[ProtectedTag]:
    """The rules that apply to a tag; `*` in a rule's name stands for anything."""
    return [rule for rule in rules if matches(rule.name, tag)]


def can_create_tag(rules: Sequence[ProtectedTag], tag: str, level: Level) -> bool:
    """Developers make tags; protected ones where any matching rule's level will do."""
    applying = matching_tags(rules, tag)
    if not applying:
        return level >= Level.DEVELOPER
    return any(may_push(level, rule.create_access_level) for rule in applying)


def can_delete_tag(rules: Sequence[ProtectedTag], tag: str, level: Level) -> bool:
    """Maintainers alone delete protected ones."""
    return level >= (Level.MAINTAINER if matching_tags(rules, tag) else Level.DEVELOPER)
