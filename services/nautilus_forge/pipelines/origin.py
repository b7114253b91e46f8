"""Which commit a pipeline is asked for, and whether this person may ask for it.

Source: GitLab lib/gitlab/ci/pipeline/chain/validate/{repository,abilities}.rb,
chain/build.rb (`ci_pipeline_variables_minimum_override_role`), lib/gitlab/user_access.rb.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import Project, User
from nautilus_forge.git import revisions
from nautilus_forge.git.command import Git
from nautilus_forge.pipelines.configuration import Source
from nautilus_forge.pipelines.refusal import Refused
from nautilus_forge.policy import Level
from nautilus_forge.ports import ZERO_SHA
from nautilus_forge.projects import branches
from nautilus_forge.projects.attributes import attribute
from nautilus_forge.projects.tags import matching_tags, tag_rules_of

_LEVELS = {"owner": Level.OWNER, "maintainer": Level.MAINTAINER, "developer": Level.DEVELOPER}


@dataclass(frozen=True)
class NamedRef:
    """A branch or a tag that there is. `name` is short."""

    name: str
    is_tag: bool
    sha: str

    @property
    def full_name(self) -> str:
        return f"refs/tags/{self.name}" if self.is_tag else f"refs/heads/{self.name}"


async def find_ref(git: Git, ref: str) -> NamedRef | None:
    """A branch, else a tag, by its short or its full name; None where there is none."""
    name = ref.removeprefix("refs/heads/").removeprefix("refs/tags/")
    if not revisions.is_speakable(name):
        return None
    for is_tag, prefix in ((False, "refs/heads/"), (True, "refs/tags/")):
        other = "refs/tags/" if not is_tag else "refs/heads/"
        if ref.startswith(other):
            continue
        sha = await revisions.commit_sha(git, prefix + name)
        if sha is not None:
            return NamedRef(name, is_tag, sha)
    return None


async def source_of(
    db: AsyncSession, git: Git, project: Project, user: User | None, level: Level, ref: str, kind: str
) -> Source:
    """What a pipeline of `kind` is made of. Raises `Refused`: no such ref, or not for this person."""
    if are_off(project):
        raise Refused("Pipelines are disabled!")
    found = await find_ref(git, ref)
    if found is None:
        raise Refused("Reference not found")
    if level < Level.DEVELOPER or project.is_archived:
        raise Refused("Insufficient permissions to create a new pipeline")
    if not await may_run_on(db, project.id, found.name, is_tag=found.is_tag, level=level):
        raise Refused(f"You do not have sufficient permission to run a pipeline on '{found.name}'")
    return Source(project, user, found.name, found.is_tag, found.sha, ZERO_SHA, kind)


def are_off(project: Project) -> bool:
    """Whether CI is switched off for the project."""
    return bool(attribute(project, "builds_access_level") == "disabled")


async def may_run_on(db: AsyncSession, project_id: int, name: str, *, is_tag: bool, level: Level) -> bool:
    """On a protected branch only those who may push or merge there; on a protected tag those who may create it."""
    if is_tag:
        limits = [
            rule.create_access_level for rule in matching_tags(await tag_rules_of(db, project_id), name)
        ]
    else:
        rules = branches.matching(await branches.rules_of(db, project_id), name)
        limits = [limit for rule in rules for limit in (rule.push_access_level, rule.merge_access_level)]
    return not limits or any(limit != Level.NONE and level >= limit for limit in limits)


async def is_protected(db: AsyncSession, project_id: int, name: str, *, is_tag: bool) -> bool:
    if is_tag:
        return bool(matching_tags(await tag_rules_of(db, project_id), name))
    return branches.is_protected(await branches.rules_of(db, project_id), name)


def may_set_variables(project: Project, level: Level) -> bool:
    """Whether somebody may give a pipeline variables of his own."""
    needed = _LEVELS.get(str(attribute(project, "ci_pipeline_variables_minimum_override_role")))
    return needed is not None and level >= needed


def require_variables(project: Project, level: Level, given: Sequence[object]) -> None:
    """Raises `Refused` where there are variables and they are not this person's to give."""
    if given and not may_set_variables(project, level):
        raise Refused("Insufficient permissions to set pipeline variables")
