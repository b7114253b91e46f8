"""What a push may do to each branch and tag, asked by the pre-receive hook while the objects are still in quarantine.

Source: gitlabhq lib/gitlab/checks/{push_check,branch_check,tag_check}.rb (order, messages),
lib/gitlab/deploy_key_access.rb.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nautilus_forge.db.models import Project, ProtectedBranch, ProtectedTag
from nautilus_forge.git import refs
from nautilus_forge.git.command import Git
from nautilus_forge.policy import Level, may_push
from nautilus_forge.ports import RefChange
from nautilus_forge.projects import branches

NOTES = "refs/notes/"
"""Git's notes may be pushed; they make no pipelines."""

_QUARANTINE = ("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_QUARANTINE_PATH")
_LIKE_A_SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?(?![0-9a-f])")
_HEX_BRANCH = re.compile(r"[0-9a-fA-F]{40}(-/|/|$)")

_FORCED = "You are not allowed to force push code to a protected branch on this project."
_NOT_TO_PROTECTED = "You are not allowed to push code to protected branches on this project."
_NOT_TO_CREATE = "You are not allowed to create protected branches on this project."
_NOT_TO_DELETE = (
    "You are not allowed to delete protected branches from this project. "
    "Only a project maintainer or owner can delete a protected branch."
)
_NOT_TO_DELETE_TAG = (
    "You are not allowed to delete protected tags from this project. "
    "Only a project maintainer or owner can delete a protected tag."
)


@dataclass(frozen=True)
class Pusher:
    """`level`: of the person; `is_deploy_key`: whose key it was, he has made it. `runs_as`: with whose rights
    pipelines work; None: there are to be none. `person_id`: who he is, for file locks; None where he is gone.
    """

    level: Level
    runs_as: int | None
    person_id: int | None
    is_deploy_key: bool = False

    @property
    def branch_level(self) -> Level:
        """A deploy key pushes to no protected branch."""
        return Level.NONE if self.is_deploy_key else self.level


@dataclass(frozen=True)
class RefRules:
    """What protects the refs of one project. `is_empty`: it has no branch yet."""

    project: Project
    branches: Sequence[ProtectedBranch]
    tags: Sequence[ProtectedTag]
    is_empty: bool
    members_url: str


def in_quarantine(git: Git, env: Mapping[str, str]) -> Git:
    """Git that sees the pushed objects too; only folders inside the repository's own `objects` are taken over."""
    return git.with_env(_own_folders(git, env))


def quarantine_alone(git: Git, env: Mapping[str, str]) -> Git | None:
    """Git that sees nothing but the pushed objects; None where there is no quarantine."""
    folder = _own_folders(git, env).get("GIT_QUARANTINE_PATH")
    return git.with_env({"GIT_OBJECT_DIRECTORY": folder}) if folder else None


def _own_folders(git: Git, env: Mapping[str, str]) -> dict[str, str]:
    objects = (git.repository / "objects").resolve()
    taken = {}
    for name in _QUARANTINE:
        value = env.get(name)
        if value and all(Path(part).resolve().is_relative_to(objects) for part in value.split(":")):
            taken[name] = value
    return taken


async def refusal(git: Git, rules: RefRules, pusher: Pusher, changes: Sequence[RefChange]) -> str | None:
    """The first reason to refuse the push, None for none. One bad ref refuses the whole push, as in GitLab."""
    for change in changes:
        if reason := await _one(git, rules, pusher, change):
            return reason
    return None


async def _one(git: Git, rules: RefRules, pusher: Pusher, change: RefChange) -> str | None:
    if change.ref.startswith(NOTES):
        return None
    if not change.ref.startswith(("refs/heads/", "refs/tags/")):
        return f"You can only push to branches and tags, not to {change.ref}."
    if not refs.is_valid_name(change.short_ref):
        return f"The name {change.short_ref} is not allowed."
    if change.is_tag:
        return _tag(rules, pusher, change)
    return _branch_name(rules, change) or await _branch(git, rules, pusher, change)


def _branch_name(rules: RefRules, change: RefChange) -> str | None:
    if change.is_deletion:
        is_default = change.short_ref == rules.project.default_branch
        return "The default branch of a project cannot be deleted." if is_default else None
    if _HEX_BRANCH.match(change.short_ref):
        return "You cannot create a branch with a 40-character hexadecimal branch name."
    return None


async def _branch(git: Git, rules: RefRules, pusher: Pusher, change: RefChange) -> str | None:
    name, level = change.short_ref, pusher.branch_level
    if rules.is_empty:
        return None if level >= Level.MAINTAINER or pusher.is_deploy_key else _no_default_branch(rules)
    if not branches.is_protected(rules.branches, name):
        return None
    if change.is_deletion:
        if level < Level.MAINTAINER:
            return _NOT_TO_DELETE
        return "You can only delete protected branches using the web interface."
    if await _is_forced(git, change) and not branches.can_force_push(rules.branches, name):
        return _FORCED
    if branches.can_push(rules.branches, name, level):
        return None
    return _NOT_TO_CREATE if change.is_creation else _NOT_TO_PROTECTED


async def _is_forced(git: Git, change: RefChange) -> bool:
    return not change.is_creation and not await refs.is_ancestor(git, change.old_sha, change.new_sha)


def _no_default_branch(rules: RefRules) -> str:
    path = rules.project.path_with_namespace
    return (
        f"\nA default branch (e.g. main) does not yet exist for {path}\n"
        f"Ask a project Owner or Maintainer to create a default branch:\n\n  {rules.members_url}\n\n"
    )


def _tag(rules: RefRules, pusher: Pusher, change: RefChange) -> str | None:
    name = change.short_ref
    if change.is_creation and name == rules.project.default_branch:
        return "You cannot use default branch name to create a tag"
    if not change.is_deletion:
        if name.startswith("refs/tags/"):
            return "You cannot create a tag with a prohibited pattern."
        if _LIKE_A_SHA.match(name):
            return "You cannot create a tag with a SHA-1 or SHA-256 tag name."
    return _protected_tag(rules, pusher, change)


def _protected_tag(rules: RefRules, pusher: Pusher, change: RefChange) -> str | None:
    """A deploy key may make a protected tag, whatever its maker may."""
    applying = [rule for rule in rules.tags if branches.matches(rule.name, change.short_ref)]
    if not applying:
        return None
    if change.is_deletion:
        if pusher.level < Level.MAINTAINER:
            return _NOT_TO_DELETE_TAG
        return "You can only delete protected tags using the web interface."
    if not change.is_creation:
        return "Protected tags cannot be updated."
    may_create = any(may_push(pusher.level, rule.create_access_level) for rule in applying)
    if may_create or pusher.is_deploy_key:
        return None
    return "You are not allowed to create this tag as it is protected."
