"""Runners of a group: they serve all projects below it.

Source: doc/api/runners.md ("List group's runners", "Reset group's runner registration token"), GitLab
lib/api/ci/runners.rb, spec/requests/api/ci/runners_spec.rb.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from sqlalchemy import or_, select
from starlette.responses import Response

from nautilus_forge.ci_half import Ci
from nautilus_forge.db.dependency import Db
from nautilus_forge.db.models import Runner
from nautilus_forge.groups.access import GroupAccess, group_with
from nautilus_forge.pagination import Paged
from nautilus_forge.params import Params
from nautilus_forge.policy import GroupAbility
from nautilus_forge.responses import Json
from nautilus_forge.runners import entities, service
from nautilus_forge.runners.routes import ListGroupRunners, filtered

router = APIRouter()

Readable = Annotated[GroupAccess, Depends(group_with(GroupAbility.READ_RUNNER, anonymous=False))]
Writable = Annotated[GroupAccess, Depends(group_with(GroupAbility.ADMIN_RUNNER))]


@router.get("/groups/{id}/runners")
async def list_of_group(
    at: Readable, db: Db, ci: Ci, page: Paged, params: Annotated[ListGroupRunners, Params(ListGroupRunners)]
) -> Response:
    """Those that projects of the group may use: the group's, those of groups above it, and the instance's."""
    usable = or_(Runner.namespace_id.in_(at.group.traversal_ids), Runner.runner_type == "instance_type")
    statement = filtered(ci, select(Runner).where(usable), params)
    return await page.of(db, statement, lambda runner: entities.runner_basic(ci.limits, runner))


@router.post("/groups/{id}/runners/reset_registration_token")
async def reset_group_token(at: Writable, db: Db) -> Response:
    return Json(entities.token_reset(await service.reset_group_token(db, at.group.id), None), 201)
