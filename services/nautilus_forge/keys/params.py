"""Parameters of the routes of keys."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator

from nautilus_forge.keys.service import NewKey
from nautilus_forge.params import ParamModel


def _utc(value: datetime | None) -> datetime | None:
    """A time without a zone is UTC."""
    if value is None:
        return None
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("is invalid") from error


Moment = Annotated[datetime | None, AfterValidator(_utc)]


class AddKey(ParamModel):
    key: str
    title: str
    expires_at: Moment = None
    usage_type: Literal["auth_and_signing", "auth", "signing"] = "auth_and_signing"

    def new(self) -> NewKey:
        return NewKey(self.key, self.title, self.expires_at, self.usage_type)


class AddDeployKey(ParamModel):
    key: str
    title: str
    expires_at: Moment = None
    can_push: bool | None = None

    def new(self) -> NewKey:
        return NewKey(self.key, self.title, self.expires_at)


class ChangeDeployKey(ParamModel):
    title: str | None = None
    can_push: bool | None = None
