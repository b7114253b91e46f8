"""HTTP Basic as git and Docker use it: a token as the password, a deploy token with its name, or
a user's own password.

Source: gitlabhq lib/gitlab/auth.rb (`find_for_git_client`).
"""

from __future__ import annotations

import base64
import binascii

from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request

from nautilus_forge.appsettings.values import current_values
from nautilus_forge.auth import Principal, by_job_token, by_token
from nautilus_forge.ci.predefined import CI_JOB_USER
from nautilus_forge.deploy_tokens.service import by_deploy_token
from nautilus_forge.errors import InvalidToken
from nautilus_forge.http import client_address
from nautilus_forge.tokens import secret
from nautilus_forge.users.signing_in import RecentSuccesses, Throttle, check_password

_TOKEN_USER = "oauth2"  # noqa: S105 — a user name


def credentials(header: str) -> tuple[str, str] | None:
    """Name and password of an `Authorization` header; None where it has none."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return None
    name, colon, password = text.partition(":")
    if not colon or not password or "\0" in text:
        return None
    return name, password


class BasicGate:
    """Knows who presents a name and a password; remembers right passwords for a minute, failures by address."""

    def __init__(self, throttle: Throttle | None = None) -> None:
        self._recent = RecentSuccesses()
        self._throttle = throttle or Throttle()

    async def identify(
        self, request: Request, db: AsyncSession, name: str, password: str
    ) -> Principal | None:
        """None: wrong. A principal may be blocked, and what its token is for is not looked at.

        The caller must commit, so that failures count. Raises `TooManyRequests` for an address that keeps
        presenting wrong passwords.
        """
        if name == CI_JOB_USER:
            return await by_job_token(request, db, password)
        if password.startswith(secret.DEPLOY_TOKEN):
            return await by_deploy_token(db, name, password)
        try:
            by_any_token = await by_token(db, password)
        except InvalidToken:
            return None
        if by_any_token is not None or not name or name == _TOKEN_USER:
            return by_any_token
        return await self._by_password(request, db, name, SecretStr(password))

    async def _by_password(
        self, request: Request, db: AsyncSession, name: str, password: SecretStr
    ) -> Principal | None:
        if not (await current_values(db)).password_authentication_enabled_for_git:
            return None
        address = client_address(request)
        self._throttle.require_room(address)
        user = await check_password(db, name, password, self._recent)
        if user is None:
            self._throttle.note_failure(address)
            return None
        return Principal(user=user)
