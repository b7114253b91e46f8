"""Which branches are protected, and who may push to them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import ProtectedBranch
from nautilus_forge.groups.inheritance import protection_for
from nautilus_forge.policy import Level, may_push


async def rules_of(db: AsyncSession, project_id: int) -> Sequence[ProtectedBranch]:
    statement = select(ProtectedBranch).where(ProtectedBranch.project_id == project_id)
    return (await db.scalars(statement.order_by(ProtectedBranch.id))).all()


def matching(rules: Sequence[ProtectedBranch], branch: str) -> list[ProtectedBranch]:
    """The rules that apply to a branch; `*` in a rule's name stands for anything."""
    return [rule for rule in rules if matches(rule.name, branch)]


def matches(pattern: str, branch: str) -> bool:
    """Does a rule's name (`release-*`) mean this branch or tag?"""
    first, *middle = pattern.split("*")
    if not middle:
        return pattern == branch
    last = middle.pop()
    if not branch.startswith(first) or not branch.endswith(last) or len(branch) < len(first) + len(last):
        return False
    at, end = len(first), len(branch) - len(last)
    for part in middle:  # each as early as possible: linear, whatever the pattern
        found = branch.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def is_protected(rules: Sequence[ProtectedBranch], branch: str) -> bool:
    return bool(matching(rules, branch))


def can_push(rules: Sequence[ProtectedBranch], branch: str, level: Level) -> bool:
    """Developers push anywhere but to protected branches; there any matching rule's level will do."""
    if level < Level.DEVELOPER:
        return False
    applying = matching(rules, branch)
    return not applying or any(may_push(level, rule.push_access_level) for rule in applying)


def can_force_push(rules: Sequence[ProtectedBranch], branch: str) -> bool:
    """Every matching rule must allow it."""
    return all(rule.allow_force_push for rule in matching(rules, branch))


async def protect_default_branch(db: AsyncSession, project_id: int, branch: str) -> None:
    """Once the default branch exists it is protected as the group or the instance has it, unless a rule for it
    exists already.

    Source: gitlabhq app/services/projects/protect_default_branch_service.rb.
    """
    if is_protected(await rules_of(db, project_id), branch):
        return
    wanted = await protection_for(db, project_id)
    if wanted is None:
        return
    db.add(
        ProtectedBranch(
            project_id=project_id,
            name=branch,
            push_access_level=wanted.push,
            merge_access_level=wanted.merge,
            allow_force_push=wanted.allow_force_push,
        )
    )
    await db.flush()
