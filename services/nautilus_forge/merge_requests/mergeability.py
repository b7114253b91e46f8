"""May a merge request be merged: what stands in its way, and who may do it.

Source: gitlabhq app/services/merge_requests/mergeability/*.rb, detailed_merge_status_service.rb,
app/models/merge_request.rb (`mergeable?`, `can_be_merged_by?`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import MergeRequest, MergeRequestNote, Pipeline, Project, ProtectedBranch, User
from nautilus_forge.forge import Forge
from nautilus_forge.git import merging
from nautilus_forge.git.refs import is_ancestor
from nautilus_forge.merge_requests import refs, versions
from nautilus_forge.policy import Level
from nautilus_forge.projects import branches
from nautilus_forge.projects.access import level_of
from nautilus_forge.projects.attributes import attribute

CAN, CANNOT, UNCHECKED = "can_be_merged", "cannot_be_merged", "unchecked"
_ACTIVE = ("created", "waiting_for_resource", "preparing", "pending", "running", "scheduled")
_NOTE_RESULT = text(
    "UPDATE merge_requests SET merge_status = :status, checked_shas = :shas, updated_at = updated_at WHERE id = :id"
)


@dataclass(frozen=True)
class Mergeability:
    """`status`: GitLab's `detailed_merge_status`, "mergeable" where nothing stands in the way.

    `source`, `target`: the two heads that were looked at, None where the branch is gone. `pipeline_status`: of the
    source's head, None where it has no pipeline.
    """

    status: str
    source: str | None
    target: str | None
    pipeline_status: str | None = None

    @property
    def is_pipeline_active(self) -> bool:
        return self.pipeline_status in _ACTIVE

    @property
    def is_mergeable(self) -> bool:
        return self.status == "mergeable"

    @property
    def waits_for_pipeline(self) -> bool:
        """Only a pipeline that is still under way stands in the way."""
        return self.status == "ci_still_running" or (self.is_mergeable and self.is_pipeline_active)


async def check(db: AsyncSession, forge: Forge, merge_request: MergeRequest) -> Mergeability:
    """Everything that GitLab looks at, in its order: the first obstacle names the status."""
    project = await db.get_one(Project, merge_request.project_id)
    if merge_request.state != "opened":
        return Mergeability("not_open", merge_request.sha, None)
    source, target = (
        await refs.source_head(forge, merge_request),
        await refs.target_head(forge, merge_request),
    )
    pipeline = await head_pipeline(db, merge_request)
    status = await _first_obstacle(db, forge, project, merge_request, source, target, pipeline)
    return Mergeability(status or "mergeable", source, target, pipeline.status if pipeline else None)


async def _first_obstacle(
    db: AsyncSession,
    forge: Forge,
    project: Project,
    merge_request: MergeRequest,
    source: str | None,
    target: str | None,
    pipeline: Pipeline | None,
) -> str | None:
    if merge_request.is_draft:
        return "draft_status"
    version = await versions.latest(db, merge_request.id)
    if source is None or target is None or version is None or not version.commit_count:
        return "commits_status"
    if attribute(project, "only_allow_merge_if_all_discussions_are_resolved") and await has_open_threads(
        db, merge_request.id
    ):
        return "discussions_not_resolved"
    if status := ci_obstacle(project, pipeline):
        return status
    if await conflict_status(db, forge, merge_request, source, target) == CANNOT:
        return "conflict"
    if attribute(project, "merge_method") != "merge":
        git = forge.repositories.git(merge_request.project_id)
        if not await is_ancestor(git, target, source):
            return "need_rebase"
    return None


async def listed(
    db: AsyncSession, project: Project, merge_request: MergeRequest, *, has_open_threads: bool
) -> str:
    """The status without a look at the repository: for lists, where the last result must do."""
    if merge_request.state != "opened":
        return "not_open"
    if merge_request.is_draft:
        return "draft_status"
    if has_open_threads and attribute(project, "only_allow_merge_if_all_discussions_are_resolved"):
        return "discussions_not_resolved"
    if attribute(project, "only_allow_merge_if_pipeline_succeeds"):
        status = ci_obstacle(project, await head_pipeline(db, merge_request))
        if status is not None:
            return status
    return {CAN: "mergeable", CANNOT: "conflict"}.get(merge_request.merge_status, "unchecked")


def ci_obstacle(project: Project, pipeline: Pipeline | None) -> str | None:
    """Where the project wants a pipeline that succeeded. Source: mergeability/check_ci_status_service.rb."""
    if not attribute(project, "only_allow_merge_if_pipeline_succeeds"):
        return None
    if pipeline is None:
        return "ci_must_pass"
    if pipeline.status == "success" or (
        pipeline.status == "skipped" and attribute(project, "allow_merge_on_skipped_pipeline")
    ):
        return None
    return "ci_still_running" if pipeline.status in _ACTIVE else "ci_must_pass"


async def conflict_status(
    db: AsyncSession, forge: Forge, merge_request: MergeRequest, source: str, target: str
) -> str:
    """`can_be_merged` or `cannot_be_merged` for these two commits; found out once, then remembered."""
    shas = f"{target} {source}"
    if merge_request.checked_shas == shas and merge_request.merge_status != UNCHECKED:
        return merge_request.merge_status
    git = forge.repositories.git(merge_request.project_id)
    if not await merging.has_commit(git, source):
        return UNCHECKED
    status = CAN if await merging.merge_tree(git, target, source) is not None else CANNOT
    await db.execute(_NOTE_RESULT, {"status": status, "shas": shas, "id": merge_request.id})
    await db.refresh(merge_request, ["merge_status", "checked_shas"])
    return status


async def refresh(db: AsyncSession, forge: Forge, merge_request: MergeRequest) -> None:
    """Have `merge_status` right for where the branches stand now, if the merge request is open."""
    if merge_request.state != "opened":
        return
    source, target = (
        await refs.source_head(forge, merge_request),
        await refs.target_head(forge, merge_request),
    )
    if source is not None and target is not None:
        await conflict_status(db, forge, merge_request, source, target)


async def head_pipeline(db: AsyncSession, merge_request: MergeRequest) -> Pipeline | None:
    """The newest pipeline of the head commit: the merge request's own before the branch's."""
    if merge_request.sha is None:
        return None
    own = (Pipeline.merge_request_id == merge_request.id).is_(True)
    of_branch = (
        (Pipeline.project_id == merge_request.source_project_id)
        & (Pipeline.ref == merge_request.source_branch)
        & Pipeline.is_tag.is_(False)
    )
    statement = (
        select(Pipeline)
        .where(Pipeline.sha == merge_request.sha, own | of_branch)
        .order_by(own.desc(), Pipeline.id.desc())
        .limit(1)
    )
    return await db.scalar(statement.execution_options(populate_existing=True))


async def has_open_threads(db: AsyncSession, merge_request_id: int) -> bool:
    """Is there a thread that somebody is to resolve and nobody has?"""
    statement = select(MergeRequestNote.id).where(
        MergeRequestNote.merge_request_id == merge_request_id,
        MergeRequestNote.is_resolvable,
        MergeRequestNote.resolved_at.is_(None),
    )
    return await db.scalar(statement.limit(1)) is not None


async def can_be_merged_by(db: AsyncSession, user: User | None, merge_request: MergeRequest) -> bool:
    """May this person move the target branch: by a push, or by merging where its protection says so?"""
    project = await db.get_one(Project, merge_request.project_id)
    if user is None or project.is_archived:
        return False
    return may_merge(
        await level_of(db, user, project),
        merge_request.target_branch,
        await branches.rules_of(db, project.id),
    )


def may_merge(level: Level, branch: str, rules: Sequence[ProtectedBranch]) -> bool:
    """Developers merge into anything; into protected branches whoever may merge or push there."""
    if level < Level.DEVELOPER:
        return False
    applying = branches.matching(rules, branch)
    return not applying or any(
        limit != Level.NONE and level >= limit
        for rule in applying
        for limit in (rule.merge_access_level, rule.push_access_level)
    )
