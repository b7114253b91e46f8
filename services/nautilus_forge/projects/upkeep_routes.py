"""What a project's repository is like: languages, size, fetches; and having it packed.

Source: doc/api/projects.md ("Languages", "Start the housekeeping task"), doc/api/project_statistics.md, gitlabhq
lib/api/projects.rb, lib/api/project_statistics.rb.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from starlette.responses import Response

from nautilus_forge.db.dependency import TheForge
from nautilus_forge.errors import Conflict
from nautilus_forge.git.refs import ref_sha
from nautilus_forge.params import ParamModel, Params
from nautilus_forge.policy import Ability
from nautilus_forge.projects.access import ProjectAccess, project_with
from nautilus_forge.projects.language_upkeep import recount
from nautilus_forge.responses import Json

router = APIRouter()

Read = Annotated[ProjectAccess, Depends(project_with(Ability.READ_CODE, job_token=True))]
Push = Annotated[ProjectAccess, Depends(project_with(Ability.PUSH_CODE, anonymous=False))]
Administer = Annotated[ProjectAccess, Depends(project_with(Ability.ADMIN_PROJECT))]


class Housekeeping(ParamModel):
    task: Literal["eager", "prune"] = "eager"


@router.get("/projects/{id}/languages")
async def read_languages(at: Read, forge: TheForge) -> Response:
    """Percent by language, of the default branch; counted anew where that has moved."""
    project = at.project
    git = forge.repositories.git(project.id)
    if await ref_sha(git, f"refs/heads/{project.default_branch}") == project.languages_sha:
        return Json(project.languages)
    return Json(await recount(forge, project.id))


@router.get("/projects/{id}/statistics")
async def read_statistics(at: Push) -> Response:
    """Fetches are not counted: git's bytes pass this program by."""
    today = datetime.now(UTC).date().isoformat()
    return Json({"fetches": {"total": 0, "days": [{"count": 0, "date": today}]}})


@router.post("/projects/{id}/housekeeping")
async def start_housekeeping(
    at: Administer, forge: TheForge, params: Annotated[Housekeeping, Params(Housekeeping)]
) -> Response:
    """Packs the repository beside the request; 409 while an earlier one is under way."""
    project_id = at.project.id
    if not forge.maintenance.ask(project_id):
        raise Conflict("Somebody already triggered housekeeping for this resource")
    git = forge.repositories.git(project_id)
    forge.spawn(
        forge.maintenance.pack(project_id, git, prune=params.task == "prune"),
        f"housekeeping of project {project_id}",
    )
    return Json(None, 201)


@router.post("/projects/{id}/repository_size")
async def refresh_size(at: Administer) -> Response:
    """Sizes are looked up when they are asked for: there is nothing to refresh."""
    return Json(None, 201)
