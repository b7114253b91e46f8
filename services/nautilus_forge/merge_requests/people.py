"""Who has to do with merge requests: assignees, reviewers, approvers, and everybody who is named in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.auth import Principal
from nautilus_forge.db.models import MergeRequest, MergeRequestNote, MergeRequestPerson, Project, User
from nautilus_forge.policy import Ability
from nautilus_forge.projects.access import standing_of

ASSIGNEE, REVIEWER, APPROVER = "assignee", "reviewer", "approver"
MOST_PEOPLE = 200
"""So many assignees or reviewers a merge request has at most. Source: app/models/concerns/issuable.rb."""


@dataclass
class Cast:
    """The people of one merge request, in the order in which they came. `users`: everybody who is named, by id."""

    users: dict[int, User]
    rows: list[MergeRequestPerson] = field(default_factory=list)

    def of(self, role: str) -> list[User]:
        return [
            self.users[row.user_id] for row in self.rows if row.role == role and row.user_id in self.users
        ]

    def user(self, user_id: int | None) -> User | None:
        return self.users.get(user_id) if user_id is not None else None

    def has(self, role: str, user: User | None) -> bool:
        return user is not None and any(row.role == role and row.user_id == user.id for row in self.rows)


async def casts(db: AsyncSession, shown: Sequence[MergeRequest]) -> dict[int, Cast]:
    """The people of each of the merge requests, by its id."""
    ids = [merge_request.id for merge_request in shown]
    statement = select(MergeRequestPerson).where(MergeRequestPerson.merge_request_id.in_(ids))
    order = (MergeRequestPerson.created_at, MergeRequestPerson.user_id)
    rows = (await db.scalars(statement.order_by(*order))).all() if ids else []
    named: set[int | None] = {row.user_id for row in rows}
    for merge_request in shown:
        named |= {merge_request.author_id, merge_request.merge_user_id, merge_request.closed_by_id}
    users = await users_by_id(db, (user_id for user_id in named if user_id is not None))
    found = {merge_request.id: Cast(users) for merge_request in shown}
    for row in rows:
        found[row.merge_request_id].rows.append(row)
    return found


async def cast(db: AsyncSession, merge_request: MergeRequest) -> Cast:
    return (await casts(db, [merge_request]))[merge_request.id]


async def users_by_id(db: AsyncSession, ids: Iterable[int]) -> dict[int, User]:
    wanted = set(ids)
    if not wanted:
        return {}
    return {user.id: user for user in (await db.scalars(select(User).where(User.id.in_(wanted)))).all()}


async def assign(
    db: AsyncSession, project: Project, merge_request: MergeRequest, role: str, user_ids: Sequence[int]
) -> None:
    """Exactly these people have the role; those who may not read the project are left out, as in GitLab."""
    wanted = [i for i in dict.fromkeys(user_ids) if i][:MOST_PEOPLE]
    users = await users_by_id(db, wanted)
    able = [i for i in wanted if i in users and await _may_take_part(db, users[i], project)]
    of_role = (MergeRequestPerson.merge_request_id == merge_request.id, MergeRequestPerson.role == role)
    present = set(await db.scalars(select(MergeRequestPerson.user_id).where(*of_role)))
    await db.execute(delete(MergeRequestPerson).where(*of_role, MergeRequestPerson.user_id.not_in(able)))
    db.add_all(
        MergeRequestPerson(merge_request_id=merge_request.id, role=role, user_id=user_id)
        for user_id in able
        if user_id not in present
    )
    await db.flush()


async def _may_take_part(db: AsyncSession, user: User, project: Project) -> bool:
    standing = await standing_of(db, Principal(user=user), project)
    return user.state == "active" and standing.can(Ability.READ_MERGE_REQUEST)


async def participants(db: AsyncSession, merge_request: MergeRequest) -> list[User]:
    """Author, assignees, reviewers, and who has commented, each once."""
    people = await cast(db, merge_request)
    commented = select(MergeRequestNote.author_id).where(
        MergeRequestNote.merge_request_id == merge_request.id, MergeRequestNote.author_id.is_not(None)
    )
    commenters = await db.scalars(commented.order_by(MergeRequestNote.id))
    ids = [merge_request.author_id, *(row.user_id for row in people.rows), *commenters]
    wanted = [user_id for user_id in dict.fromkeys(ids) if user_id is not None]
    users = await users_by_id(db, wanted)
    return [users[user_id] for user_id in wanted if user_id in users]
