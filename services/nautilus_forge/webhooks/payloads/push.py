"""Pushes to branches and tags.

Source: gitlabhq lib/gitlab/data_builder/push.rb, app/services/git/{base,branch,tag}_hooks_service.rb.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import Project, User
from nautilus_forge.errors import GitError
from nautilus_forge.forge import Forge
from nautilus_forge.git.command import Git
from nautilus_forge.git.commits import Commit, count_commits, read_commits
from nautilus_forge.git.refs import ref_sha
from nautilus_forge.ports import ZERO_SHA, RefChange
from nautilus_forge.projects.branches import is_protected, rules_of
from nautilus_forge.projects.tags import matching_tags, tag_rules_of
from nautilus_forge.webhooks.payloads import parts

MOST_COMMITS = 20
"""So many of the newest commits are in a payload."""
_MANY_VALUED = {"variable", "label", "unlabel", "assign", "unassign", "reviewer"}


async def build(
    db: AsyncSession,
    forge: Forge,
    project: Project,
    user: User | None,
    change: RefChange,
    push_options: Sequence[str] = (),
) -> dict[str, Any]:
    """What project hooks get; those of the instance get it without `commits`."""
    git = forge.repositories.git(project.id)
    commits, total = await _commits(git, project, change)
    kind = "tag_push" if change.is_tag else "push"
    shown = [
        parts.commit(forge.settings, project, commit) | await parts.changed_files(git, commit)
        for commit in commits
    ]
    return {
        "object_kind": kind,
        "event_name": kind,
        "before": change.old_sha,
        "after": change.new_sha,
        "ref": change.ref,
        "ref_protected": await _is_protected(db, project, change),
        "checkout_sha": await _checkout_sha(git, change),
        "message": await _message(git, change),
        "user_id": user.id if user is not None else None,
        "user_name": user.name if user is not None else None,
        "user_username": user.username if user is not None else None,
        "user_email": (user.public_email or None) if user is not None else None,
        "user_avatar": None,
        "project_id": project.id,
        "project": parts.project(forge.settings, project),
        "commits": shown,
        "total_commits_count": total,
        "push_options": options_shown(push_options),
        "repository": parts.repository(forge.settings, project, of_push=True),
    }


async def sample(db: AsyncSession, forge: Forge, project: Project, user: User) -> dict[str, Any] | None:
    """Of the newest commits of the default branch; None while the repository is empty."""
    git = forge.repositories.git(project.id)
    ref = f"refs/heads/{project.default_branch}"
    head = await ref_sha(git, ref)
    if head == ZERO_SHA:
        return None
    newest = await read_commits(git, "--max-count=3", head)
    return await build(db, forge, project, user, RefChange(ref, newest[-1].sha, head))


async def _commits(git: Git, project: Project, change: RefChange) -> tuple[list[Commit], int]:
    """The newest commits that came, oldest first, and how many came."""
    try:
        if change.is_deletion:
            return [], 0
        if change.is_tag:
            newest = await read_commits(git, "--max-count=1", change.new_sha)
            return newest, len(newest)
        new = await _new_ones(git, project, change)
        newest = await read_commits(git, f"--max-count={MOST_COMMITS}", *new)
        total = len(newest) if len(newest) < MOST_COMMITS else await count_commits(git, *new)
    except GitError:  # gone again, or no commit
        return [], 0
    return newest[::-1], total


async def _new_ones(git: Git, project: Project, change: RefChange) -> tuple[str, ...]:
    """For `git log`. A new branch: what the default branch does not have, all of it if it is that one."""
    if not change.is_creation:
        return (change.new_sha, f"^{change.old_sha}")
    if change.short_ref == project.default_branch:
        return (change.new_sha,)
    base = await ref_sha(git, f"refs/heads/{project.default_branch}")
    return (change.new_sha, f"^{base}") if base != ZERO_SHA else (change.new_sha,)


async def _is_protected(db: AsyncSession, project: Project, change: RefChange) -> bool:
    if change.is_tag:
        return bool(matching_tags(await tag_rules_of(db, project.id), change.short_ref))
    return is_protected(await rules_of(db, project.id), change.short_ref)


async def _checkout_sha(git: Git, change: RefChange) -> str | None:
    if change.is_deletion:
        return None
    if not change.is_tag:
        return change.new_sha
    found = await git.run("rev-parse", "--verify", "--quiet", f"{change.new_sha}^{{commit}}")
    return found.stdout.decode().strip() or None


async def _message(git: Git, change: RefChange) -> str | None:
    """Of an annotated tag."""
    if not change.is_tag or change.is_deletion:
        return None
    found = await git.run("cat-file", "tag", change.new_sha)
    if found.returncode != 0:
        return None
    return found.stdout.decode("utf-8", "replace").partition("\n\n")[2].removesuffix("\n")


def options_shown(options: Sequence[str]) -> dict[str, Any]:
    """`ci.skip` as `{"ci": {"skip": true}}`. Source: gitlabhq lib/gitlab/push_options.rb."""
    shown: dict[str, Any] = {}
    for option in options:
        name, equals, value = option.partition("=")
        namespace, dot, key = name.partition(".")
        if not dot:
            continue
        known = shown.setdefault({"mr": "merge_request"}.get(namespace, namespace), {})
        if key in _MANY_VALUED:
            values = known.setdefault(key, {})
            values[value] = values.get(value, 0) + 1
        else:
            known[key] = value if equals else True
    return shown


def repository_update(forge: Forge, project: Project, user: User | None, change: RefChange) -> dict[str, Any]:
    """What hooks of the instance get of a moved ref. Source: gitlabhq lib/gitlab/data_builder/repository.rb."""
    return {
        "event_name": "repository_update",
        "user_id": user.id if user is not None else None,
        "user_name": user.name if user is not None else None,
        "user_email": (user.public_email or None) if user is not None else None,
        "user_avatar": None,
        "project_id": project.id,
        "project": parts.project(forge.settings, project),
        "changes": [{"before": change.old_sha, "after": change.new_sha, "ref": change.ref}],
        "refs": [change.ref],
    }
