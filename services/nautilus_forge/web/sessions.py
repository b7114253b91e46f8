"""Browser sessions: one cookie, its digest in the database, and CSRF tokens bound to it.

The cookie exists before sign-in too (then no row does), so that the sign-in form has a CSRF token; signing in
makes a new one. A CSRF token is an HMAC of the cookie's value under the forge's secret key.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request
from starlette.responses import Response

from nautilus_forge.db.models import Session, User
from nautilus_forge.settings import Settings
from nautilus_forge.tokens import secret

LIFETIME = timedelta(days=7)


@dataclass(frozen=True)
class SignedIn:
    session: Session
    user: User


def cookie_name(settings: Settings) -> str:
    """`__Host-` under TLS; distinct from every other program's, because cookies do not know ports."""
    return "__Host-forge_session" if settings.is_tls else "_forge_session"


def cookie_value(request: Request) -> str | None:
    value = request.cookies.get(cookie_name(_settings(request)))
    return value if value and len(value) <= 128 and value.isascii() else None


async def current(request: Request, db: AsyncSession) -> SignedIn | None:
    """The session that the request's cookie names, None where there is none or it is over."""
    value = cookie_value(request)
    if value is None:
        return None
    statement = (
        select(Session, User)
        .join(User, User.id == Session.user_id)
        .where(Session.digest == secret.digest(value), Session.expires_at > datetime.now(UTC))
    )
    row = (await db.execute(statement)).one_or_none()
    return SignedIn(row[0], row[1]) if row is not None else None


async def begin(request: Request, db: AsyncSession, user: User, address: str) -> str:
    """A new session of `user`; the value for its cookie. Sessions that are over are swept out."""
    await end(request, db)
    await db.execute(
        delete(Session).where(Session.user_id == user.id, Session.expires_at <= datetime.now(UTC))
    )
    value = secret.generate()
    db.add(
        Session(
            digest=secret.digest(value),
            user_id=user.id,
            address=address,
            user_agent=request.headers.get("user-agent", "")[:255],
            expires_at=datetime.now(UTC) + LIFETIME,
        )
    )
    await db.flush()
    return value


async def end(request: Request, db: AsyncSession) -> None:
    """Forget the request's session."""
    if (value := cookie_value(request)) is not None:
        await db.execute(delete(Session).where(Session.digest == secret.digest(value)))


async def end_all(db: AsyncSession, user_id: int) -> None:
    """Sign the user out everywhere (changed password, blocked)."""
    await db.execute(delete(Session).where(Session.user_id == user_id))


def set_cookie(response: Response, settings: Settings, value: str) -> None:
    response.set_cookie(
        cookie_name(settings), value, path="/", httponly=True, samesite="lax", secure=settings.is_tls
    )


def clear_cookie(response: Response, settings: Settings) -> None:
    response.delete_cookie(
        cookie_name(settings), path="/", httponly=True, samesite="lax", secure=settings.is_tls
    )


def csrf_token(key: bytes, cookie: str) -> str:
    mac = hmac.new(key, b"csrf\0" + cookie.encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(mac).decode().rstrip("=")


def is_csrf_right(request: Request, presented: str) -> bool:
    """Does the token belong to the request's cookie, and does the request come from our own pages?"""
    value = cookie_value(request)
    if value is None or not _is_same_origin(request):
        return False
    expected = csrf_token(request.app.state.forge.secret_key, value)
    return hmac.compare_digest(expected.encode(), presented.encode("utf-8", "surrogateescape"))


def is_csrf_header_right(request: Request) -> bool:
    return is_csrf_right(request, request.headers.get("x-csrf-token", ""))


def _is_same_origin(request: Request) -> bool:
    """Browsers name the origin of every POST; a cross-site one is refused whatever else it carries."""
    site = request.headers.get("sec-fetch-site")
    return site is None or site in ("same-origin", "none")


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.forge.settings
    return settings
