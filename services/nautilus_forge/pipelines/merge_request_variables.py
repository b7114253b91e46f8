"""What a pipeline knows of merge requests: of its own, and of those that its branch has.

Source: GitLab app/models/merge_request.rb (`predefined_variables`), lib/gitlab/ci/variables/builder/pipeline.rb,
doc/ci/variables/predefined_variables.md.
"""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.ci_half import CiHalf
from nautilus_forge.db.models import MergeRequest, MergeRequestPerson, MergeRequestVersion, Project, User
from nautilus_forge.pipelines.configuration import Source
from nautilus_forge.projects import branches

_LONGEST_DESCRIPTION = 2700
_MOST_OPEN = 4


async def with_variables(ci: CiHalf, db: AsyncSession, source: Source) -> Source:
    """The source with what its pipeline shall know of merge requests; that of a tag knows nothing of them."""
    if source.is_tag:
        return source
    found = await _open_ones(db, source)
    if source.merge_request is not None:
        found |= await _variables(ci, db, source.merge_request.id)
    return replace(source, merge_variables=found)


async def _open_ones(db: AsyncSession, source: Source) -> dict[str, str]:
    """`CI_OPEN_MERGE_REQUESTS`: `group/project!1,…`, at most four, of the branch."""
    branch = source.merge_request.branch if source.merge_request is not None else source.ref
    statement = (
        select(MergeRequest.iid, Project)
        .join(Project, Project.id == MergeRequest.project_id)
        .where(
            MergeRequest.source_project_id == source.project.id,
            MergeRequest.source_branch == branch,
            MergeRequest.state == "opened",
        )
        .order_by(MergeRequest.id)
        .limit(_MOST_OPEN)
    )
    rows = (await db.execute(statement)).all()
    listed = ",".join(f"{project.path_with_namespace}!{iid}" for iid, project in rows)
    return {"CI_OPEN_MERGE_REQUESTS": listed} if listed else {}


async def _variables(ci: CiHalf, db: AsyncSession, merge_request_id: int) -> dict[str, str]:
    """`CI_MERGE_REQUEST_…`, as the merge request is now."""
    of = await db.get_one(MergeRequest, merge_request_id)
    target = await db.get_one(Project, of.project_id)
    source = await db.get_one(Project, of.source_project_id)
    version = await newest_version(db, of.id)
    description = of.description or ""
    found = {
        "CI_MERGE_REQUEST_EVENT_TYPE": "detached",
        "CI_MERGE_REQUEST_ID": str(of.id),
        "CI_MERGE_REQUEST_IID": str(of.iid),
        "CI_MERGE_REQUEST_REF_PATH": f"refs/merge-requests/{of.iid}/head",
        "CI_MERGE_REQUEST_TITLE": of.title,
        "CI_MERGE_REQUEST_DESCRIPTION": description[:_LONGEST_DESCRIPTION],
        "CI_MERGE_REQUEST_DESCRIPTION_IS_TRUNCATED": _flag(len(description) > _LONGEST_DESCRIPTION),
        "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": of.source_branch,
        "CI_MERGE_REQUEST_SOURCE_BRANCH_SHA": "",
        "CI_MERGE_REQUEST_SOURCE_BRANCH_PROTECTED": await _protected(db, source, of.source_branch),
        "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": of.target_branch,
        "CI_MERGE_REQUEST_TARGET_BRANCH_SHA": "",
        "CI_MERGE_REQUEST_TARGET_BRANCH_PROTECTED": await _protected(db, target, of.target_branch),
        "CI_MERGE_REQUEST_SQUASH_ON_MERGE": "false",
        "CI_MERGE_REQUEST_DIFF_ID": str(version.id) if version is not None else "",
        "CI_MERGE_REQUEST_DIFF_BASE_SHA": (version.base_sha or "") if version is not None else "",
    }
    if of.is_draft:
        found["CI_MERGE_REQUEST_DRAFT"] = "true"
    if of.labels:
        found["CI_MERGE_REQUEST_LABELS"] = ",".join(sorted(of.labels))
    if assignees := await _assignees(db, of.id):
        found["CI_MERGE_REQUEST_ASSIGNEES"] = assignees
    url = ci.forge.settings.external_url
    return found | _project("PROJECT", url, target) | _project("SOURCE_PROJECT", url, source)


def _project(name: str, url: str, project: Project) -> dict[str, str]:
    return {
        f"CI_MERGE_REQUEST_{name}_ID": str(project.id),
        f"CI_MERGE_REQUEST_{name}_PATH": project.path_with_namespace,
        f"CI_MERGE_REQUEST_{name}_URL": f"{url}/{project.path_with_namespace}",
    }


def _flag(value: bool) -> str:
    return "true" if value else "false"


async def _protected(db: AsyncSession, project: Project, branch: str) -> str:
    return _flag(branches.is_protected(await branches.rules_of(db, project.id), branch))


async def _assignees(db: AsyncSession, merge_request_id: int) -> str:
    """`alice, bob, and carol`, as Rails joins a sentence."""
    statement = (
        select(User.username)
        .join(MergeRequestPerson, MergeRequestPerson.user_id == User.id)
        .where(MergeRequestPerson.merge_request_id == merge_request_id, MergeRequestPerson.role == "assignee")
        .order_by(MergeRequestPerson.created_at, User.id)
    )
    names = list(await db.scalars(statement))
    if len(names) < 3:
        return " and ".join(names)
    return f"{', '.join(names[:-1])}, and {names[-1]}"


async def newest_version(db: AsyncSession, merge_request_id: int) -> MergeRequestVersion | None:
    """What it changed when its source branch was last looked at."""
    return await db.scalar(
        select(MergeRequestVersion)
        .where(MergeRequestVersion.merge_request_id == merge_request_id)
        .order_by(MergeRequestVersion.id.desc())
        .limit(1)
    )
