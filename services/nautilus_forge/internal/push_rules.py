"""What a push may do to each ref, asked by the pre-receive hook while the new objects are still in quarantine.

Source: gitlabhq lib/gitlab/checks/{branch_check,tag_check,diff_check}.rb (messages).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nautilus_forge.db.models import Project, ProtectedBranch
from nautilus_forge.git import refs
from nautilus_forge.git.command import Git
from nautilus_forge.policy import Level
from nautilus_forge.ports import RefChange
from nautilus_forge.projects import branches

_QUARANTINE = ("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_QUARANTINE_PATH")


def in_quarantine(git: Git, env: Mapping[str, str]) -> Git:
    """Git that sees the pushed objects too; only folders inside the repository's own `objects` are taken over."""
    objects = (git.repository / "objects").resolve()
    taken = {}
    for name in _QUARANTINE:
        value = env.get(name)
        if value and all(Path(part).resolve().is_relative_to(objects) for part in value.split(":")):
            taken[name] = value
    return git.with_env(taken)


async def refusal(
    git: Git,
    project: Project,
    rules: Sequence[ProtectedBranch],
    level: Level,
    changes: Sequence[RefChange],
    *,
    is_empty: bool,
) -> str | None:
    """The first reason to refuse the push, None for none. One bad ref refuses the whole push, as in GitLab."""
    for change in changes:
        if reason := await _one(git, project, rules, level, change, is_empty=is_empty):
            return reason
    return None


async def _one(
    git: Git,
    project: Project,
    rules: Sequence[ProtectedBranch],
    level: Level,
    change: RefChange,
    *,
    is_empty: bool,
) -> str | None:
    if not change.ref.startswith(("refs/heads/", "refs/tags/")):
        return f"You can only push to branches and tags, not to {change.ref}."
    name = change.short_ref
    if not refs.is_valid_name(name):
        return f"The name {name} is not allowed."
    if change.is_tag:
        return None
    if change.is_deletion:
        return _deletion(project, rules, level, name)
    if is_empty or not branches.is_protected(rules, name):
        return None
    if not branches.can_push(rules, name, level):
        return "You are not allowed to push code to protected branches on this project."
    is_update = change.old_sha != refs.ZERO_SHA
    if not is_update or branches.can_force_push(rules, name):
        return None
    if await refs.is_ancestor(git, change.old_sha, change.new_sha):
        return None
    return "You are not allowed to force push code to a protected branch on this project."


def _deletion(project: Project, rules: Sequence[ProtectedBranch], level: Level, name: str) -> str | None:
    if name == project.default_branch:
        return "The default branch of a project cannot be deleted."
    if branches.is_protected(rules, name):
        if level < Level.MAINTAINER:
            return (
                "You are not allowed to delete protected branches from this project. "
                "Only a project maintainer or owner can delete a protected branch."
            )
        return "You can only delete protected branches using the web interface."
    return None
