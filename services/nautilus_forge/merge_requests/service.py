"""Making, changing, closing and deleting merge requests.

Source: gitlabhq app/services/merge_requests/{create,update,close,reopen}_service.rb, app/models/merge_request.rb
(`validate_branches`, `validate_fork`), lib/api/merge_requests.rb (`handle_merge_request_errors!`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, Select, delete, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.auth import Principal
from nautilus_forge.db.engine import after_commit
from nautilus_forge.db.models import MergeRequest, Project, User
from nautilus_forge.errors import Conflict, Forbidden, InvalidRecord, NotFound, Unprocessable
from nautilus_forge.forge import Forge
from nautilus_forge.git.refs import is_valid_name
from nautilus_forge.merge_requests import people, refs, versions
from nautilus_forge.merge_requests.params import LONGEST_TITLE, Attributes, ChangeMergeRequest
from nautilus_forge.merge_requests.telling import state_of, tell
from nautilus_forge.policy import Ability
from nautilus_forge.projects.access import standing_of

_NEXT_IID = text(
    """
    INSERT INTO merge_request_counters AS c (project_id, last_iid) VALUES (:project, 1)
    ON CONFLICT (project_id) DO UPDATE SET last_iid = c.last_iid + 1 RETURNING last_iid
    """
)
_DRAFT = re.compile(r"\[draft\]|\(draft\)|draft:", re.IGNORECASE)


def is_draft(title: str) -> bool:
    """Does the title say so? Source: gitlabhq lib/gitlab/regex/merge_requests.rb."""
    return _DRAFT.match(title) is not None


@dataclass(frozen=True)
class NewMergeRequest:
    """`target_project_id` None: the source's own."""

    source: Project
    source_branch: str
    target_branch: str
    title: str
    attributes: Attributes
    target_project_id: int | None = None


async def create(db: AsyncSession, forge: Forge, who: Principal, new: NewMergeRequest) -> MergeRequest:
    """Makes the merge request with its first version and its pipeline, in the caller's transaction.

    Raises `NotFound` (no such target project), `Forbidden`, `Unprocessable`, `Conflict` (there is an open one for
    the same branches), `InvalidRecord`.
    """
    user = who.require_user()
    target = await _target(db, who, new)
    _require_title(new.title)
    if target.id == new.source.id and new.source_branch == new.target_branch:
        raise Unprocessable(["You can't use same project/branch for source and target"])
    if target.id != new.source.id and not await are_related(db, new.source, target):
        raise Unprocessable(["Source project is not a fork of the target project"])
    _require_branch_names(source_branch=new.source_branch, target_branch=new.target_branch)
    merge_request = MergeRequest(
        iid=(await db.execute(_NEXT_IID, {"project": target.id})).scalar_one(),
        project_id=target.id,
        source_project_id=new.source.id,
        author_id=user.id,
        title=new.title,
        is_draft=is_draft(new.title),
        source_branch=new.source_branch,
        target_branch=new.target_branch,
        state="opened",
    )
    await _require_no_other(db, merge_request)
    db.add(merge_request)
    await _apply(db, target, merge_request, new.attributes)
    merge_request.sha = await refs.source_head(forge, merge_request)
    await db.flush()
    await versions.record(db, forge, merge_request)
    if merge_request.sha is not None:
        await forge.create_for_merge_request(
            db, forge, merge_request=merge_request, user=user, is_asked=False
        )
    await tell(db, forge, merge_request, user, "open")
    return merge_request


async def _target(db: AsyncSession, who: Principal, new: NewMergeRequest) -> Project:
    """Who may read a project's code may ask it to take commits in. Raises `NotFound`, `Forbidden`."""
    target = new.source
    if new.target_project_id is not None and new.target_project_id != target.id:
        found = await db.get(Project, new.target_project_id)
        if found is None or found.deleted_at is not None:
            raise NotFound
        target = found
    standing = await standing_of(db, who, target)
    if not standing.can(Ability.READ_PROJECT):
        raise NotFound
    can_read = standing.can(Ability.READ_CODE) and standing.can(Ability.READ_MERGE_REQUEST)
    if not can_read or target.is_archived:
        raise Forbidden
    return target


async def are_related(db: AsyncSession, source: Project, target: Project) -> bool:
    """Is one a fork of the other, or both of the same project? Source: `Project#in_fork_network_of?`."""
    return await _root(db, source) == await _root(db, target)


async def _root(db: AsyncSession, project: Project) -> int:
    """The project at the top of the forks."""
    seen = {project.id}
    while project.forked_from_id is not None and project.forked_from_id not in seen:
        parent = await db.get(Project, project.forked_from_id)
        if parent is None:
            break
        project = parent
        seen.add(project.id)
    return project.id


def _require_title(title: str) -> None:
    if not title.strip():
        raise InvalidRecord({"title": ["can't be blank"]})
    if len(title) > LONGEST_TITLE:
        raise InvalidRecord({"title": [f"is too long (maximum is {LONGEST_TITLE} characters)"]})


def _require_branch_names(**names: str) -> None:
    wrong = {field: ["is invalid"] for field, name in names.items() if not is_valid_name(name)}
    if wrong:
        raise InvalidRecord(wrong)


async def _require_no_other(db: AsyncSession, merge_request: MergeRequest) -> None:
    """Raises `Conflict` where the same branches have an open merge request already."""
    same: list[ColumnElement[bool]] = [
        MergeRequest.project_id == merge_request.project_id,
        MergeRequest.target_branch == merge_request.target_branch,
        MergeRequest.source_project_id == merge_request.source_project_id,
        MergeRequest.source_branch == merge_request.source_branch,
        MergeRequest.state == "opened",
    ]
    if merge_request.id is not None:
        same.append(MergeRequest.id != merge_request.id)
    with db.no_autoflush:
        other = await db.scalar(select(MergeRequest.iid).where(*same))
    if other is not None:
        raise Conflict([f"Another open merge request already exists for this source branch: !{other}"])


async def _apply(
    db: AsyncSession, project: Project, merge_request: MergeRequest, attributes: Attributes
) -> None:
    """What the client sent of the attributes; nothing else changes."""
    given = attributes.model_fields_set
    for name in ("description", "allow_collaboration", "squash"):
        if name in given and (value := getattr(attributes, name)) is not None:
            setattr(merge_request, name, value)
    if attributes.remove_source_branch is not None:
        merge_request.force_remove_source_branch = attributes.remove_source_branch
    merge_request.labels = changed_labels(merge_request.labels or [], attributes)
    await db.flush()
    if "assignee_ids" in given or "assignee_id" in given:
        one = [attributes.assignee_id] if attributes.assignee_id is not None else []
        chosen = attributes.assignee_ids if attributes.assignee_ids is not None else one
        await people.assign(db, project, merge_request, people.ASSIGNEE, chosen)
    if attributes.reviewer_ids is not None:
        await people.assign(db, project, merge_request, people.REVIEWER, attributes.reviewer_ids)


def changed_labels(labels: list[str], attributes: Attributes) -> list[str]:
    """The labels after `labels`, `add_labels` and `remove_labels`; each once."""
    kept = labels if attributes.labels is None else attributes.labels
    wanted = [*kept, *(attributes.add_labels or ())]
    removed = set(attributes.remove_labels or ())
    return [name for name in dict.fromkeys(wanted) if name not in removed]


async def change(
    db: AsyncSession, forge: Forge, user: User, merge_request: MergeRequest, params: ChangeMergeRequest
) -> None:
    """Raises `InvalidRecord`, `Conflict`, `Unprocessable`; a merged one keeps its branches and its state."""
    project = await db.get_one(Project, merge_request.project_id)
    before = await state_of(db, merge_request)
    if params.title is not None:
        _require_title(params.title)
        merge_request.title = params.title
        merge_request.is_draft = is_draft(params.title)
    if params.discussion_locked is not None:
        merge_request.discussion_locked = params.discussion_locked
    await _apply(db, project, merge_request, params)
    if params.target_branch is not None and params.target_branch != merge_request.target_branch:
        await retarget(db, forge, merge_request, params.target_branch)
    merge_request.updated_at = datetime.now(UTC)
    await db.flush()
    if params.model_fields_set != {"state_event"}:
        await tell(db, forge, merge_request, user, "update", before=before)
    if params.state_event == "close":
        await close(db, forge, merge_request, user)
    elif params.state_event == "reopen":
        await reopen(db, forge, merge_request, user)


async def retarget(db: AsyncSession, forge: Forge, merge_request: MergeRequest, branch: str) -> None:
    """Ask another branch to take the commits in. Raises as `change`."""
    if merge_request.state == "merged":
        return
    if merge_request.project_id == merge_request.source_project_id and branch == merge_request.source_branch:
        raise Unprocessable(["You can't use same project/branch for source and target"])
    _require_branch_names(target_branch=branch)
    merge_request.target_branch = branch
    if merge_request.state == "opened":
        await _require_no_other(db, merge_request)
    merge_request.auto_merge = None
    await db.flush()
    await versions.record(db, forge, merge_request)


async def close(db: AsyncSession, forge: Forge, merge_request: MergeRequest, user: User | None) -> None:
    """Does nothing to one that is closed or merged."""
    if merge_request.state != "opened":
        return
    merge_request.state = "closed"
    merge_request.closed_at = datetime.now(UTC)
    merge_request.closed_by_id = user.id if user is not None else None
    merge_request.auto_merge = None
    await db.flush()
    await tell(db, forge, merge_request, user, "close")


async def reopen(db: AsyncSession, forge: Forge, merge_request: MergeRequest, user: User) -> None:
    """Does nothing to one that is open or merged. Raises `Conflict`."""
    if merge_request.state != "closed":
        return
    await _require_no_other(db, merge_request)
    merge_request.state = "opened"
    merge_request.closed_at = merge_request.closed_by_id = None
    head = await refs.source_head(forge, merge_request)
    await db.flush()
    if head is not None and head != merge_request.sha:
        merge_request.sha = head
        await versions.record(db, forge, merge_request)
    await tell(db, forge, merge_request, user, "reopen")


async def remove(db: AsyncSession, forge: Forge, merge_request: MergeRequest) -> None:
    """With its comments and refs; its `iid` is not given again."""
    project_id, iid = merge_request.project_id, merge_request.iid
    await db.execute(delete(MergeRequest).where(MergeRequest.id == merge_request.id))

    async def remove_refs() -> None:
        await refs.remove(forge, project_id, iid)

    after_commit(db, remove_refs)


async def counts(db: AsyncSession, ids: list[int]) -> dict[int, tuple[int, bool]]:
    """(comments of people, is a thread open) of each merge request."""
    if not ids:
        return {}
    rows = await db.execute(_COUNTS, {"ids": ids})
    found: dict[int, tuple[int, bool]] = {row.id: (row.notes, bool(row.open_threads)) for row in rows}
    return found


_COUNTS = text(
    """
    SELECT merge_request_id AS id, count(*) FILTER (WHERE NOT is_system) AS notes,
           count(*) FILTER (WHERE is_resolvable AND resolved_at IS NULL) AS open_threads
    FROM merge_request_notes WHERE merge_request_id = ANY(CAST(:ids AS bigint[])) GROUP BY merge_request_id
    """
)


def merged_of(user_id: int, project_id: int) -> Select[int]:
    """Merge requests of this author that were merged into the project."""
    return (
        select(MergeRequest.id)
        .where(
            MergeRequest.project_id == project_id,
            MergeRequest.author_id == user_id,
            MergeRequest.state == "merged",
        )
        .limit(1)
    )
