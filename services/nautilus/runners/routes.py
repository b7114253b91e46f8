"""`/api/v1/runners`."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from nautilus.auth import Authenticator
from nautilus.core.identity import Identity
from nautilus.runners.schemas import RunnerView
from nautilus.runners.service import RunnerService


def runner_routes(runners: RunnerService, auth: Authenticator) -> APIRouter:
    router = APIRouter(prefix="/runners", dependencies=[Depends(auth.user)])

    @router.get("")
    async def list_runners(caller: Identity = Depends(auth.user)) -> list[RunnerView]:
        return await runners.list(caller)

    return router
