"""`GET` and `PUT /application/settings`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from starlette.responses import Response

from nautilus_forge.appsettings import values
from nautilus_forge.appsettings.values import SettingValues
from nautilus_forge.auth import Admin
from nautilus_forge.db.dependency import Db
from nautilus_forge.params import Params
from nautilus_forge.responses import Json

router = APIRouter()


def _entity(settings: SettingValues) -> dict[str, Any]:
    return {"id": 1, **settings.model_dump()}


@router.get("/application/settings")
async def read_settings(who: Admin, db: Db) -> Response:
    """Source: doc/api/settings.md ("Get details on current application settings")."""
    return Json(_entity(await values.current_values(db)))


@router.put("/application/settings")
async def change_settings(
    who: Admin, db: Db, params: Annotated[SettingValues, Params(SettingValues)]
) -> Response:
    """Source: doc/api/settings.md ("Update application settings")."""
    return Json(_entity(await values.change(db, params.given())))
