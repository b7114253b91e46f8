"""What many payloads share: projects, users, commits, runners, times.

Source: gitlabhq app/models/{project,user,commit}.rb (`hook_attrs`), lib/gitlab/hook_data/base_builder.rb.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from nautilus_forge.db.models import Project, Runner, User
from nautilus_forge.errors import GitError
from nautilus_forge.git.command import Git
from nautilus_forge.git.commits import Commit, read_commits
from nautilus_forge.git.diffs import parse_raw
from nautilus_forge.git.revisions import EMPTY_TREE
from nautilus_forge.repository.entities import project_url
from nautilus_forge.settings import Settings

REDACTED = "[REDACTED]"
_LEVELS = {"private": 0, "internal": 10, "public": 20}


def level_of_visibility(visibility: str) -> int:
    return _LEVELS[visibility]


def project(settings: Settings, shown: Project, *, backward: bool = True) -> dict[str, Any]:
    """`backward`: with the older names of the addresses."""
    web_url = project_url(settings, shown)
    ssh_url = f"{settings.ssh_prefix}{shown.path_with_namespace}.git"
    attributes = {
        "id": shown.id,
        "name": shown.name,
        "description": shown.description,
        "web_url": web_url,
        "avatar_url": None,
        "git_ssh_url": ssh_url,
        "git_http_url": f"{web_url}.git",
        "namespace": shown.namespace.name,
        "visibility_level": level_of_visibility(shown.visibility),
        "path_with_namespace": shown.path_with_namespace,
        "default_branch": shown.default_branch,
        "ci_config_path": shown.ci_config_path,
    }
    if backward:
        attributes |= {
            "homepage": web_url,
            "url": ssh_url,
            "ssh_url": ssh_url,
            "http_url": f"{web_url}.git",
        }
    return attributes


_OF_REPOSITORY = ("name", "url", "description", "homepage")
_OF_PUSHED_REPOSITORY = (*_OF_REPOSITORY, "git_http_url", "git_ssh_url", "visibility_level")


def repository(settings: Settings, shown: Project, *, of_push: bool = False) -> dict[str, Any]:
    """The older name for the project. `of_push`: as pushes and jobs have it."""
    attributes = project(settings, shown)
    return {name: attributes[name] for name in (_OF_PUSHED_REPOSITORY if of_push else _OF_REPOSITORY)}


def user(shown: User | None) -> dict[str, Any] | None:
    """A user's address is only told where he has made it public."""
    if shown is None:
        return None
    return {
        "id": shown.id,
        "name": shown.name,
        "username": shown.username,
        "avatar_url": None,
        "email": webhook_email(shown),
    }


def webhook_email(shown: User) -> str:
    return shown.public_email or REDACTED


def commit(settings: Settings, of: Project, shown: Commit) -> dict[str, Any]:
    return {
        "id": shown.sha,
        "message": shown.message,
        "title": shown.title,
        "timestamp": shown.committed_date.replace(".000", "", 1),
        "url": commit_url(settings, of, shown.sha),
        "author": {"name": shown.author_name, "email": shown.author_email},
    }


def commit_url(settings: Settings, of: Project, sha: str) -> str:
    return f"{project_url(settings, of)}/-/commit/{sha}"


async def changed_files(git: Git, shown: Commit) -> dict[str, list[str]]:
    """Paths that the commit added, modified and removed, against its first parent."""
    parent = shown.parents[0] if shown.parents else EMPTY_TREE
    output = await git.output("diff-tree", "-r", "-M", "--full-index", "--raw", "-z", parent, shown.sha)
    found: dict[str, list[str]] = {"added": [], "modified": [], "removed": []}
    for old_path, new_path, _, _, status in parse_raw(output):
        if status == "D":
            found["removed"].append(_text(old_path))
        else:
            found["added" if status in ("A", "R", "C") else "modified"].append(_text(new_path))
    return found


def _text(path: str) -> str:
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


async def find_commit(git: Git, sha: str | None) -> Commit | None:
    """None where the repository does not have it (any more)."""
    if sha is None:
        return None
    try:
        return (await read_commits(git, "--max-count=1", sha))[0]
    except (GitError, IndexError):
        return None


def runner(shown: Runner | None) -> dict[str, Any] | None:
    if shown is None:
        return None
    return {
        "id": shown.id,
        "description": shown.description,
        "runner_type": shown.runner_type,
        "active": shown.is_active,
        "is_shared": shown.runner_type == "instance_type",
        "tags": list(shown.tags),
    }


def moment(value: datetime | None) -> str | None:
    """`2025-11-21 13:47:00 UTC`, as most times in payloads are written."""
    return None if value is None else f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def xml_moment(value: datetime | None) -> str | None:
    """`2025-11-21T13:47:00Z`."""
    return None if value is None else f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%S}Z"


def seconds(start: datetime | None, end: datetime | None) -> float | None:
    if start is None or end is None:
        return None
    return max(0.0, (end - start).total_seconds())
