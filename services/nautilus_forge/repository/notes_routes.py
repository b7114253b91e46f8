"""Comments on commits.

Source: doc/api/commits.md ("Get the comments of a commit"), gitlabhq lib/api/commits.rb,
lib/api/entities/commit_note.rb.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from sqlalchemy import select
from starlette.responses import Response

from nautilus_forge.db.dependency import Db, TheForge
from nautilus_forge.db.models import CommitNote, User
from nautilus_forge.errors import BadRequest, InvalidParams
from nautilus_forge.git import diffs
from nautilus_forge.pagination import Paged
from nautilus_forge.params import ParamModel, Params
from nautilus_forge.policy import Ability
from nautilus_forge.projects.access import ProjectAccess, project_with
from nautilus_forge.repository.commits_routes import existing_commit
from nautilus_forge.repository.reading_routes import Code, Sha
from nautilus_forge.responses import Json, timestamp
from nautilus_forge.settings import Settings
from nautilus_forge.users.entities import user_basic

router = APIRouter()

Comment = Annotated[ProjectAccess, Depends(project_with(Ability.READ_CODE, anonymous=False))]

LONGEST_NOTE = 1_000_000


class CreateNote(ParamModel):
    """With `path`, on a line of that file's diff; a line that is not in it makes a comment on the whole commit."""

    note: str
    path: str | None = None
    line: int | None = None
    line_type: Literal["new", "old"] = "new"


def _entity(settings: Settings, note: CommitNote, author: User | None) -> dict[str, Any]:
    return {
        "note": note.note,
        "path": note.path,
        "line": note.line,
        "line_type": note.line_type,
        "author": user_basic(settings, author) if author is not None else None,
        "created_at": timestamp(note.created_at),
    }


@router.get("/projects/{id}/repository/commits/{sha}/comments")
async def list_notes(at: Code, db: Db, forge: TheForge, page: Paged, sha: Sha) -> Response:
    commit = await existing_commit(forge.repositories.git(at.project.id), sha)
    statement = (
        select(CommitNote, User)
        .outerjoin(User, User.id == CommitNote.author_id)
        .where(CommitNote.project_id == at.project.id, CommitNote.commit_sha == commit.sha)
        .order_by(CommitNote.id)
    )
    total = await page.count(db, statement.with_only_columns(CommitNote.id))
    rows = (await db.execute(statement.limit(page.per_page).offset(page.offset))).all()
    return page.respond([_entity(forge.settings, note, author) for note, author in rows], total)


@router.post("/projects/{id}/repository/commits/{sha}/comments")
async def create_note(
    at: Comment, db: Db, forge: TheForge, sha: Sha, params: Annotated[CreateNote, Params(CreateNote)]
) -> Response:
    """Whoever reads the code may comment."""
    user = at.who.require_user()
    git = forge.repositories.git(at.project.id)
    commit = await existing_commit(git, sha)
    if not params.note.strip() or len(params.note) > LONGEST_NOTE:
        problem = "is too long (maximum is 1000000 characters)" if params.note.strip() else "can't be blank"
        raise BadRequest(message=f'Failed to save note {{:note=>["{problem}"]}}')
    note = CommitNote(project_id=at.project.id, commit_sha=commit.sha, author_id=user.id, note=params.note)
    if params.path:
        if params.line is None:
            raise InvalidParams("line is missing")
        changed = await diffs.read_diff(git, commit.parents[0] if commit.parents else None, commit.sha)
        of_file = next((diff for diff in changed if diff.new_path == params.path), None)
        if of_file is not None and diffs.has_line(of_file.diff, params.line, params.line_type):
            note.path, note.line, note.line_type = params.path, params.line, params.line_type
    db.add(note)
    await db.flush()
    await db.refresh(note)
    for commented in forge.on_commit_note:
        await commented(db, forge, note=note, user=user)
    return Json(_entity(forge.settings, note, user), 201)
