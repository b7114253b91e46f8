"""Who asks: the request's identity, from whatever GitLab accepts as proof.

`PRIVATE-TOKEN` (header or `private_token`), `Authorization: Bearer` (personal access or OAuth token, also
`access_token`), `JOB-TOKEN` (header or `job_token`), the session cookie (with `X-CSRF-Token` on writes), and
`Sudo`/`sudo` on top for administrators. A proof that is wrong is a 401, never "anonymous".

Source: gitlabhq lib/gitlab/auth/auth_finders.rb, lib/api/helpers.rb (`sudo!`), lib/api/api_guard.rb.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import Depends
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request

from nautilus_forge import params
from nautilus_forge.db.dependency import Db, forge_of
from nautilus_forge.db.models import DeployToken, OAuthToken, PersonalAccessToken, User
from nautilus_forge.errors import Forbidden, InsufficientScope, InvalidToken, NotFound, Unauthorized
from nautilus_forge.ports import JobIdentity
from nautilus_forge.tokens import secret
from nautilus_forge.web import sessions

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_READ_SCOPES = ("api", "read_api")
_WRITE_SCOPES = ("api",)
_LONGEST_BODY = 1 << 20
_LAST_USED_EVERY = timedelta(minutes=10)


@dataclass(frozen=True)
class Principal:
    """`scopes` None: not limited by a token (session). `job`: a job token was the proof. `user` None: nobody, or
    a deploy token, which stands for no user (git and the container registry alone know it).
    """

    user: User | None = None
    scopes: frozenset[str] | None = None
    token: PersonalAccessToken | OAuthToken | None = None
    job: JobIdentity | None = None
    deploy_token: DeployToken | None = None

    @property
    def is_nobody(self) -> bool:
        return self.user is None and self.deploy_token is None

    def has_scope(self, *scopes: str) -> bool:
        return self.scopes is None or bool(self.scopes.intersection(scopes))

    def require_scope(self, *scopes: str) -> None:
        """Raises `InsufficientScope` unless one of them was granted."""
        if not self.has_scope(*scopes):
            raise InsufficientScope(scopes)

    def require_user(self) -> User:
        """Raises `Unauthorized` for nobody."""
        if self.user is None:
            raise Unauthorized
        return self.user


NOBODY = Principal()


class RevokedToken(InvalidToken):
    """A personal access token that was revoked. Whoever rotates with it may have stolen it (or been robbed)."""

    def __init__(self, token: PersonalAccessToken) -> None:
        super().__init__("Token was revoked. You have to re-authorize from the user.")
        self.token = token


async def identify(request: Request, db: AsyncSession) -> Principal:
    """The request's identity, found once. Raises `Unauthorized`, `InvalidToken`, `Forbidden`."""
    known: Principal | None = getattr(request.state, "forge_principal", None)
    if known is None:
        known = await _identify(request, db)
        request.state.forge_principal = known
    return known


async def _identify(request: Request, db: AsyncSession) -> Principal:
    given = await _Given.of(request)
    if given.token:
        principal = await by_token(db, given.token)
        if principal is None:
            raise Unauthorized
    elif given.job_token:
        found = await by_job_token(request, db, given.job_token)
        if found is None:
            raise Unauthorized
        principal = found
    else:
        principal = await _by_session(request, db)
    refuse_inactive(principal.user)
    return await _sudo(db, principal, given.sudo) if given.sudo else principal


@dataclass(frozen=True)
class _Given:
    """What the request says of who asks, and as whom: headers, then parameters of the query, then of the body."""

    token: str | None
    job_token: str | None
    sudo: str | None

    @classmethod
    async def of(cls, request: Request) -> _Given:
        query = request.query_params
        bearer = _bearer(request)
        token = request.headers.get("private-token") or query.get("private_token") or bearer
        given = cls(
            token or query.get("access_token"),
            request.headers.get("job-token") or query.get("job_token"),
            request.headers.get("sudo") or query.get("sudo"),
        )
        return await given._with_body(request) if _may_be_in_body(request) else given

    async def _with_body(self, request: Request) -> _Given:
        body = await params.merged(request)
        return _Given(
            self.token or _text(body, "private_token") or _text(body, "access_token"),
            self.job_token or _text(body, "job_token"),
            self.sudo or _text(body, "sudo"),
        )


def _bearer(request: Request) -> str | None:
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" and value.strip() else None


def _may_be_in_body(request: Request) -> bool:
    """Small forms and JSON alone: nobody in particular may make us read more than that."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    length = request.headers.get("content-length", "")
    is_small = length.isascii() and length.isdigit() and 0 < int(length) <= _LONGEST_BODY
    return is_small and content_type in ("application/json", "application/x-www-form-urlencoded")


def _text(values: dict[str, Any], name: str) -> str | None:
    value = values.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value else None


async def by_token(db: AsyncSession, token: str) -> Principal | None:
    """A personal access or OAuth token's principal; None for an unknown one. Raises `InvalidToken`."""
    digest = secret.digest(token)
    if token.startswith(secret.PERSONAL_ACCESS_TOKEN):  # the usual prefix; the instance may have another
        return await _by_personal_access_token(db, digest)
    return await _by_oauth_token(db, digest) or await _by_personal_access_token(db, digest)


async def _by_personal_access_token(db: AsyncSession, digest: bytes) -> Principal | None:
    statement = (
        select(PersonalAccessToken, User)
        .join(User, User.id == PersonalAccessToken.user_id)
        .where(PersonalAccessToken.digest == digest)
    )
    row = (await db.execute(statement)).one_or_none()
    if row is None:
        return None
    token, user = row
    now = datetime.now(UTC)
    if token.is_revoked:
        raise RevokedToken(token)
    if token.expires_at is not None and token.expires_at <= now.date():
        raise InvalidToken("Token is expired. You can either do re-authorization or token refresh.")
    await _touch(db, token, user, now)
    return Principal(user=user, scopes=frozenset(token.scopes), token=token)


async def _touch(db: AsyncSession, token: PersonalAccessToken, user: User, now: datetime) -> None:
    """Note the use, at most every ten minutes; a row that somebody else holds is left alone."""
    if token.last_used_at is not None and now - token.last_used_at < _LAST_USED_EVERY:
        return
    free = (
        select(PersonalAccessToken.id)
        .where(PersonalAccessToken.id == token.id)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    await db.execute(
        update(PersonalAccessToken)
        .where(PersonalAccessToken.id == free)
        .values(last_used_at=now)
        .execution_options(synchronize_session=False)
    )
    if user.last_activity_on != now.date():
        free_user = (
            select(User.id).where(User.id == user.id).with_for_update(skip_locked=True).scalar_subquery()
        )
        await db.execute(
            update(User)
            .where(User.id == free_user)
            .values(last_activity_on=now.date(), updated_at=User.updated_at)
            .execution_options(synchronize_session=False)
        )


async def _by_oauth_token(db: AsyncSession, digest: bytes) -> Principal | None:
    statement = (
        select(OAuthToken, User).join(User, User.id == OAuthToken.user_id).where(OAuthToken.digest == digest)
    )
    row = (await db.execute(statement)).one_or_none()
    if row is None:
        return None
    token, user = row
    if token.revoked_at is not None:
        raise InvalidToken("Token was revoked. You have to re-authorize from the user.")
    if token.expires_at <= datetime.now(UTC):
        raise InvalidToken("Token is expired. You can either do re-authorization or token refresh.")
    return Principal(user=user, scopes=frozenset(token.scopes.split()), token=token)


async def by_job_token(request: Request, db: AsyncSession, token: str) -> Principal | None:
    """The principal of a running job's token, None for any other."""
    job = await forge_of(request).resolve_job_token(db, token)
    user = await db.get(User, job.user_id) if job is not None else None
    return Principal(user=user, scopes=frozenset(), job=job) if user is not None else None


async def _by_session(request: Request, db: AsyncSession) -> Principal:
    session = await sessions.current(request, db)
    if session is None:
        return NOBODY
    if request.method not in SAFE_METHODS and not sessions.is_csrf_header_right(request):
        return NOBODY
    return Principal(user=session.user)


_REFUSALS = {
    "blocked_pending_approval": "Your account is pending approval from your administrator and hence blocked.",
    "deactivated": (
        "Your account has been deactivated by your administrator. "
        "Please log back in from a web browser to reactivate your account."
    ),
}
"""Source: gitlabhq lib/gitlab/auth/user_access_denied_reason.rb."""


def refusal_of(user: User) -> str | None:
    """Why the user may not come in, None where he may."""
    if user.state == "active":
        return None
    return _REFUSALS.get(user.state, "Your account has been blocked.")


def refuse_inactive(user: User | None) -> None:
    """Raises `Forbidden`."""
    if user is not None and (reason := refusal_of(user)) is not None:
        raise Forbidden(reason)


async def _sudo(db: AsyncSession, principal: Principal, as_whom: str) -> Principal:
    if principal.user is None or principal.job is not None:
        raise Unauthorized
    if not principal.user.is_admin:
        raise Forbidden("Must be admin to use sudo")
    if principal.token is None:
        raise Forbidden("Must be authenticated using an OAuth or personal access token to use sudo")
    principal.require_scope("sudo")
    user = await find_user(db, as_whom)
    if user is None:
        raise NotFound(f"User with ID or username '{as_whom}'")
    refuse_inactive(user)
    return replace(principal, user=user)


async def find_user(db: AsyncSession, id_or_username: str) -> User | None:
    """A user by id ("12") or by name, without regard to case."""
    if id_or_username.isascii() and id_or_username.isdigit() and len(id_or_username) < 19:
        return await db.get(User, int(id_or_username))
    return await db.scalar(select(User).where(func.lower(User.username) == id_or_username.lower()))


def authenticated(
    *scopes: str, anonymous: bool = False, job_token: bool = False, admin: bool = False
) -> Callable[..., Any]:
    """A dependency that yields the `Principal`, which then has one of `scopes`.

    Without `scopes`: `api`, or `read_api` for reads. `anonymous`: nobody is let in too. `job_token`: a job's
    token is proof here; elsewhere it is not. `admin`: administrators only.
    Raises `Unauthorized`, `Forbidden`, `InsufficientScope`, `InvalidToken`.
    """

    async def principal(request: Request, db: Db) -> Principal:
        who = await identify(request, db)
        return admit(request, who, scopes, anonymous=anonymous, job_token=job_token, admin=admin)

    return principal


def admit(
    request: Request,
    who: Principal,
    scopes: tuple[str, ...] = (),
    *,
    anonymous: bool = False,
    job_token: bool = False,
    admin: bool = False,
) -> Principal:
    """The rules of `authenticated`, for an identity that is already known."""
    if who.job is not None:
        if not job_token:
            raise Unauthorized
        return who
    if who.user is None:
        if not anonymous:
            raise Unauthorized
        return who
    who.require_scope(*(scopes or (_READ_SCOPES if request.method in SAFE_METHODS else _WRITE_SCOPES)))
    if admin and not who.user.is_admin:
        raise Forbidden
    return who


Who = Annotated[Principal, Depends(authenticated())]
"""Somebody who has proved who he is, with the scope that the method needs."""
MaybeWho = Annotated[Principal, Depends(authenticated(anonymous=True))]
"""As `Who`, or nobody."""
Admin = Annotated[Principal, Depends(authenticated(admin=True))]

__all__ = [
    "NOBODY",
    "Admin",
    "MaybeWho",
    "Principal",
    "RevokedToken",
    "Who",
    "admit",
    "authenticated",
    "by_job_token",
    "by_token",
    "find_user",
    "identify",
    "refusal_of",
    "refuse_inactive",
]
