"""`/internal/ssh/…`: what sshd's two helper programs ask (`nautilus_forge.git.shell`).

Answers are lines of text (`name value`), because a program that starts for each connection should not have to load
a JSON parser. A refusal is GitLab's status with its message alone. Only this machine's service user reaches these.

Source: gitlabhq lib/api/internal/base.rb (`authorized_keys`, `allowed`, `discover`, `lfs_authenticate`).
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Literal

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from nautilus_forge.db.dependency import Db, TheForge
from nautilus_forge.db.models import Key
from nautilus_forge.internal.git_access import Denied, max_input_bytes
from nautilus_forge.internal.ssh_access import decide
from nautilus_forge.keys.service import note_use, owner_of, that_lets_in
from nautilus_forge.lfs.access import header_for_deploy_key, header_for_user
from nautilus_forge.params import Id, ParamModel, Params
from nautilus_forge.projects.attributes import attribute
from nautilus_forge.projects.entities import http_url
from nautilus_forge.responses import Json

router = APIRouter()

NO_LFS = "Git LFS is not enabled for this project."


class OfferedKey(ParamModel):
    """`key`: the blob in base64, as sshd's `%k` gives it."""

    key: str


class ByKey(ParamModel):
    key_id: Id


class Command(ByKey):
    """`path`: the project's full path, without `.git`."""

    command: Literal["git-upload-pack", "git-upload-archive", "git-receive-pack"]
    path: str


class LfsCommand(ByKey):
    operation: Literal["upload", "download"]
    path: str


@router.get("/internal/ssh/authorized_keys")
async def authorized_keys(db: Db, params: Annotated[OfferedKey, Params(OfferedKey)]) -> Response:
    """The id and the key itself, or 404. Whether its owner is blocked is said later, in words."""
    try:
        blob = base64.b64decode(params.key, validate=True)
    except (binascii.Error, ValueError):
        return _refused(Denied(404, "Key not found"))
    key = await that_lets_in(db, blob)
    if key is None:
        return _refused(Denied(404, "Key not found"))
    algorithm, encoded = key.key.split()[:2]
    return _lines({"id": str(key.id), "key": f"{algorithm} {encoded}"})


@router.get("/internal/ssh/discover")
async def discover(db: Db, params: Annotated[ByKey, Params(ByKey)]) -> Response:
    """Whose key it is; a deploy key whose maker is gone is nobody's."""
    key = await db.get(Key, params.key_id)
    user = await owner_of(db, key) if key is not None else None
    if key is not None:
        await note_use(db, key, user)
    return _lines({"username": user.username if user is not None else ""})


@router.post("/internal/ssh/allowed")
async def allowed(db: Db, forge: TheForge, params: Annotated[Command, Params(Command)]) -> Response:
    """The repository, and the identity that git's hooks are to present to the forge."""
    answer = await decide(db, params.key_id, params.command, params.path)
    if isinstance(answer, Denied):
        return _refused(answer)
    await note_use(db, answer.key, answer.user)
    return _lines(
        {
            "repository": forge.repositories.path(answer.project.id).as_posix(),
            "settings": forge.settings.git_config.as_posix(),
            "max_input_size": str(await max_input_bytes(db)),
            "project_id": str(answer.project.id),
            "user_id": str(answer.user.id) if answer.user is not None else "",
            "username": answer.user.username if answer.user is not None else "",
            "deploy_key_id": str(answer.key.id) if answer.key.is_deploy_key else "",
        }
    )


@router.post("/internal/ssh/lfs_authenticate")
async def lfs_authenticate(
    request: Request, db: Db, forge: TheForge, params: Annotated[LfsCommand, Params(LfsCommand)]
) -> Response:
    """Where the objects are and a token for them, as git-lfs wants it: this is passed on as it is.

    Source: gitlab-shell internal/command/lfsauthenticate.
    """
    command = "git-receive-pack" if params.operation == "upload" else "git-upload-pack"
    answer = await decide(db, params.key_id, command, params.path)
    if isinstance(answer, Denied):
        return _refused(answer)
    project, key = answer.project, answer.key
    if not attribute(project, "lfs_enabled"):
        return _refused(Denied(404, NO_LFS))
    await note_use(db, key, answer.user)
    if key.is_deploy_key or answer.user is None:
        header, expires_in_s = header_for_deploy_key(request, key, project, params.operation)
    else:
        header, expires_in_s = header_for_user(request, answer.user, project, params.operation, key.id)
    return Json(
        {
            "header": {"Authorization": header},
            "href": f"{http_url(forge.settings, project)}/info/lfs",
            "expires_in": expires_in_s,
        }
    )


def _lines(values: dict[str, str]) -> Response:
    """One `name value` a line; no value that we hold has a line break (names, paths of ours, numbers)."""
    return PlainTextResponse("".join(f"{name} {value}\n" for name, value in values.items()))


def _refused(denied: Denied) -> Response:
    return PlainTextResponse(denied.message, denied.status)
