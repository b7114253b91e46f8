"""`GET` and `PUT /application/settings`.

Source: doc/api/settings.md, gitlabhq lib/api/settings.rb.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from nautilus_forge.appsettings import kept, values
from nautilus_forge.auth import Admin
from nautilus_forge.db.dependency import Db
from nautilus_forge.errors import InvalidParams
from nautilus_forge.groups.attributes import protection_defaults
from nautilus_forge.params import check, merged, takes
from nautilus_forge.responses import Json, timestamp

router = APIRouter()

_TRUE = frozenset({"true", "1", "on", "t"})
_FALSE = frozenset({"false", "0", "off", "f"})


def _entity(stored: values.Stored) -> dict[str, Any]:
    return {
        "id": 1,
        **stored.kept,
        **stored.values.model_dump(),
        "default_branch_protection_defaults": _protection(stored.values),
        "created_at": timestamp(stored.created_at),
        "updated_at": timestamp(stored.updated_at),
    }


def _protection(settings: values.SettingValues) -> dict[str, Any]:
    names = ("default_branch_protection", "default_branch_protection_defaults")
    return protection_defaults({name: getattr(settings, name) for name in names})


@router.get("/application/settings")
async def read_settings(who: Admin, db: Db) -> Response:
    return Json(_entity(await values.stored(db)))


@router.put("/application/settings", openapi_extra=takes(values.SettingValues, *kept.DEFAULTS))
async def change_settings(request: Request, who: Admin, db: Db) -> Response:
    """Those that are named; unknown names are passed over, as in GitLab."""
    sent = await merged(request)
    checked = check(values.SettingValues, sent)
    given = checked.given() | _kept(sent)
    if not given:
        raise InvalidParams("no setting is named, at least one parameter must be provided")
    values.refuse(given)
    return Json(_entity(await values.change(db, given)))


def _kept(sent: dict[str, Any]) -> dict[str, Any]:
    """Settings without effect, in the type of their defaults. Raises `InvalidParams`."""
    found = {}
    for name in kept.DEFAULTS.keys() & sent.keys():
        value = _as(sent[name], kept.DEFAULTS[name])
        if not kept.has_kind_of(value, kept.DEFAULTS[name]):
            raise InvalidParams(f"{name} is invalid")
        found[name] = value
    return found


def _as(value: Any, default: Any) -> Any:
    """What forms can only send as text."""
    if not isinstance(value, str):
        return value
    if isinstance(default, bool) and value.lower() in _TRUE | _FALSE:
        return value.lower() in _TRUE
    if isinstance(default, int) and not isinstance(default, bool) and value.lstrip("-").isdecimal():
        return int(value)
    if isinstance(default, list):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value
