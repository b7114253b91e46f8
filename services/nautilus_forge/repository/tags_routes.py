"""Tags.

Source: doc/api/tags.md, gitlabhq lib/api/tags.rb, app/services/tags/{create,destroy}_service.rb.
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from starlette.responses import Response

from nautilus_forge.db.dependency import Db, TheForge
from nautilus_forge.errors import BadRequest, Forbidden, InvalidParams, NotFound
from nautilus_forge.git import refs, revisions
from nautilus_forge.git.refs import Ref
from nautilus_forge.git.writing import Person
from nautilus_forge.pagination import Paged
from nautilus_forge.params import Field, ParamModel, Params, path_text
from nautilus_forge.ports import ZERO_SHA, RefChange
from nautilus_forge.projects import tags as rules
from nautilus_forge.repository import entities
from nautilus_forge.repository.committing import move_and_follow
from nautilus_forge.repository.files_routes import Push
from nautilus_forge.repository.listing import after_token, committed_at, searched
from nautilus_forge.repository.reading_routes import Code
from nautilus_forge.responses import Json, no_content

router = APIRouter()

TagName = Annotated[str, Depends(path_text("tag_name"))]


class ListTags(ParamModel):
    search: str | None = None
    order_by: Literal["name", "updated", "version"] = "updated"
    sort: Literal["asc", "desc"] = "desc"
    pagination: Literal["legacy", "offset", "keyset"] = "offset"
    page_token: str | None = None


class CreateTag(ParamModel):
    tag_name: str = Field(min_length=1)
    ref: str = Field(min_length=1)
    message: str | None = None
    release_description: str | None = None


@router.get("/projects/{id}/repository/tags")
async def list_tags(
    at: Code, db: Db, forge: TheForge, page: Paged, params: Annotated[ListTags, Params(ListTags)]
) -> Response:
    found = await refs.list_tags(forge.repositories.git(at.project.id))
    if params.order_by == "updated":
        found.sort(key=lambda ref: (committed_at(ref), ref.name), reverse=params.sort == "desc")
    elif params.order_by == "version":
        found.sort(key=lambda ref: _version_key(ref.name), reverse=params.sort == "desc")
    else:
        found.sort(key=lambda ref: ref.name, reverse=params.sort == "desc")
    found = searched(found, params.search)
    protections = await rules.tag_rules_of(db, at.project.id)

    def shown(ref: Ref) -> dict[str, object]:
        is_protected = bool(rules.matching_tags(protections, ref.name))
        return entities.tag(forge.settings, at.project, ref, is_protected=is_protected)

    if params.pagination == "keyset":
        cut, headers = after_token(page, found, lambda ref: ref.name, params.page_token)
        return Json([shown(ref) for ref in cut], headers=headers)
    return page.cut(found, shown)


def _version_key(name: str) -> list[tuple[int, int, str]]:
    """Numbers in a name compare as numbers: v1.9 before v1.10."""
    parts: list[tuple[int, int, str]] = []
    number = ""
    for character in name + "\0":
        if character.isascii() and character.isdigit():
            number += character
            continue
        if number:
            parts.append((0, int(number), ""))
            number = ""
        parts.append((1, 0, character))
    return parts


@router.get("/projects/{id}/repository/tags/{tag_name}")
async def read_tag(at: Code, db: Db, forge: TheForge, tag_name: TagName) -> Response:
    found = await refs.find_tag(forge.repositories.git(at.project.id), tag_name)
    if found is None:
        raise NotFound("Tag")
    is_protected = bool(rules.matching_tags(await rules.tag_rules_of(db, at.project.id), tag_name))
    return Json(entities.tag(forge.settings, at.project, found, is_protected=is_protected))


@router.get("/projects/{id}/repository/tags/{tag_name}/signature")
async def read_signature(at: Code, forge: TheForge, tag_name: TagName) -> Response:
    """Signatures are not checked here: none is shown."""
    if await refs.find_tag(forge.repositories.git(at.project.id), tag_name) is None:
        raise NotFound("Tag")
    raise NotFound("Signature")


@router.post("/projects/{id}/repository/tags")
async def create_tag(
    at: Push, db: Db, forge: TheForge, params: Annotated[CreateTag, Params(CreateTag)]
) -> Response:
    """With a `message` an annotated tag, else a lightweight one."""
    if params.release_description:
        raise InvalidParams("release_description is not available: there are no releases")
    git = forge.repositories.git(at.project.id)
    if not refs.is_valid_name(params.tag_name):
        raise BadRequest(message="Tag name invalid")
    if await refs.find_tag(git, params.tag_name) is not None:
        raise BadRequest(message=f"Tag {params.tag_name} already exists")
    protections = await rules.tag_rules_of(db, at.project.id)
    if not rules.can_create_tag(protections, params.tag_name, at.standing.level):
        raise BadRequest(message="You are not allowed to create this tag as it is protected.")
    target = await revisions.commit_sha(git, params.ref)
    if target is None:
        raise BadRequest(message=f"Target {params.ref} is invalid")
    if params.message:
        user = at.who.require_user()
        target = await refs.write_tag(
            git, params.tag_name, target, params.message, Person(user.name, user.email)
        )
    change = RefChange(f"refs/tags/{params.tag_name}", ZERO_SHA, target)
    await move_and_follow(db, forge, at.project.id, at.user, change)
    made = await refs.find_tag(git, params.tag_name)
    if made is None:
        raise NotFound("Tag")
    is_protected = bool(rules.matching_tags(protections, made.name))
    return Json(entities.tag(forge.settings, at.project, made, is_protected=is_protected), 201)


@router.delete("/projects/{id}/repository/tags/{tag_name}")
async def delete_tag(at: Push, db: Db, forge: TheForge, tag_name: TagName) -> Response:
    """Protected ones by maintainers alone."""
    found = await refs.find_tag(forge.repositories.git(at.project.id), tag_name)
    if found is None:
        raise NotFound("Tag")
    if not rules.can_delete_tag(await rules.tag_rules_of(db, at.project.id), tag_name, at.standing.level):
        raise Forbidden
    change = RefChange(f"refs/tags/{tag_name}", found.target, ZERO_SHA)
    await move_and_follow(db, forge, at.project.id, at.user, change)
    return no_content()
