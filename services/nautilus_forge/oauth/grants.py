"""Authorization codes and tokens in the database.

Source: RFC 6749 section 4.1 and 6, RFC 7636 (PKCE, S256 alone); Doorkeeper's life times as GitLab sets them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import OAuthApplication, OAuthGrant, OAuthToken
from nautilus_forge.oauth.errors import oauth_error
from nautilus_forge.tokens import secret

CODE_LIFE = timedelta(minutes=10)
TOKEN_LIFE = timedelta(hours=2)
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")


@dataclass(frozen=True)
class IssuedToken:
    """A token with its secrets, which exist only here and in the client's hands."""

    token: OAuthToken
    access_token: str
    refresh_token: str
    nonce: str | None = None


def is_challenge(text: str) -> bool:
    return _CHALLENGE.fullmatch(text) is not None


def challenge_of(verifier: str) -> str:
    """S256: BASE64URL(SHA256(verifier)) without padding."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode("ascii")).digest()).decode().rstrip("=")


async def issue_code(
    db: AsyncSession,
    application: OAuthApplication,
    user_id: int,
    *,
    redirect_uri: str,
    scopes: str,
    challenge: str | None,
    nonce: str | None,
) -> str:
    """A new authorization code. Old ones are swept out."""
    now = datetime.now(UTC)
    await db.execute(
        delete(OAuthGrant).where(
            OAuthGrant.user_id == user_id, OAuthGrant.expires_at < now - timedelta(days=30)
        )
    )
    code = secret.generate()
    db.add(
        OAuthGrant(
            digest=secret.digest(code),
            application_id=application.id,
            user_id=user_id,
            redirect_uri=redirect_uri,
            scopes=scopes,
            code_challenge=challenge,
            code_challenge_method="S256" if challenge else None,
            nonce=nonce,
            expires_at=now + CODE_LIFE,
        )
    )
    await db.flush()
    return code


async def redeem_code(
    db: AsyncSession, application: OAuthApplication, *, code: str, redirect_uri: str, verifier: str | None
) -> IssuedToken | None:
    """The tokens for a code; None where it is not good.

    A code that comes a second time revokes what the first time gave (the caller must commit even for None).
    """
    grant = await db.scalar(
        select(OAuthGrant).where(OAuthGrant.digest == secret.digest(code)).with_for_update()
    )
    if grant is None or grant.application_id != application.id:
        return None
    now = datetime.now(UTC)
    if grant.used_at is not None:
        await db.execute(
            update(OAuthToken)
            .where(OAuthToken.grant_id == grant.id, OAuthToken.revoked_at.is_(None))
            .values(revoked_at=now)
        )
        return None
    if grant.expires_at <= now or grant.redirect_uri != redirect_uri or not _proves(grant, verifier):
        return None
    grant.used_at = now
    return await _issue(db, application.id, grant.user_id, grant.scopes, grant.id, nonce=grant.nonce)


def _proves(grant: OAuthGrant, verifier: str | None) -> bool:
    if grant.code_challenge is None:
        return verifier is None
    if verifier is None or not _VERIFIER.fullmatch(verifier):
        return False
    return hmac.compare_digest(challenge_of(verifier), grant.code_challenge)


async def refresh(
    db: AsyncSession, application: OAuthApplication, refresh_token: str, scopes: list[str] | None
) -> IssuedToken:
    """New tokens; the old pair is used up. Raises `OAuthError` (invalid_grant, invalid_scope)."""
    old = await db.scalar(
        select(OAuthToken).where(OAuthToken.refresh_digest == secret.digest(refresh_token)).with_for_update()
    )
    if old is None or old.application_id != application.id or old.revoked_at is not None:
        raise oauth_error("invalid_grant")
    granted = old.scopes.split()
    if scopes and not set(scopes) <= set(granted):
        raise oauth_error("invalid_scope")
    old.revoked_at = datetime.now(UTC)
    return await _issue(db, application.id, old.user_id, " ".join(scopes or granted), old.grant_id)


async def _issue(
    db: AsyncSession,
    application_id: int,
    user_id: int,
    scopes: str,
    grant_id: int | None,
    nonce: str | None = None,
) -> IssuedToken:
    now = datetime.now(UTC)
    stale = now - timedelta(days=7)
    await db.execute(delete(OAuthToken).where(OAuthToken.user_id == user_id, OAuthToken.revoked_at < stale))
    access_token, refresh_token = secret.generate(), secret.generate()
    token = OAuthToken(
        digest=secret.digest(access_token),
        refresh_digest=secret.digest(refresh_token),
        application_id=application_id,
        user_id=user_id,
        grant_id=grant_id,
        scopes=scopes,
        expires_at=now + TOKEN_LIFE,
    )
    db.add(token)
    await db.flush()
    await db.refresh(token)
    return IssuedToken(token, access_token, refresh_token, nonce)


async def revoke(db: AsyncSession, application: OAuthApplication, token: str) -> None:
    """Revoke an access or refresh token of this application; any other is left alone (RFC 7009)."""
    digest = secret.digest(token)
    await db.execute(
        update(OAuthToken)
        .where(
            OAuthToken.application_id == application.id,
            (OAuthToken.digest == digest) | (OAuthToken.refresh_digest == digest),
            OAuthToken.revoked_at.is_(None),
        )
        .values(revoked_at=datetime.now(UTC))
    )


async def has_consented(
    db: AsyncSession, application: OAuthApplication, user_id: int, scopes: list[str]
) -> bool:
    """Does the user have a token of this application that is not revoked and grants at least these scopes?"""
    granted = await db.scalars(
        select(OAuthToken.scopes).where(
            OAuthToken.application_id == application.id,
            OAuthToken.user_id == user_id,
            OAuthToken.revoked_at.is_(None),
        )
    )
    return any(set(scopes) <= set(text.split()) for text in granted.all())
